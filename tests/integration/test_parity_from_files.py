"""From a file's bytes to its vector, as transformers, Pillow and librosa would do it."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import transformers
from PIL import Image, ImageOps

from arrowlens.conversion import convert_clip_model, convert_whisper_model
from arrowlens.encoders import AudioEncoder, CLIPEngine
from arrowlens.media import decode
from tests.support.checkpoints import clip_checkpoint, whisper_checkpoint
from tests.support.reference import ClipReference, WhisperReference, assert_agree

SPEECH = Path(__file__).parents[3] / "shared" / "data" / "jfk.flac"


def scene(width: int, height: int) -> Image.Image:
    """A smooth picture with an edge and a little noise, different in every corner."""
    y, x = np.mgrid[:height, :width] / (height, width, 1)[0]
    pixels = np.stack([255 * x / x.max(), 255 * y / y.max(), 128 + 100 * np.sin(9 * x + 5 * y)], axis=-1)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 40)
    noise = np.random.default_rng(width).normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def picture_files(folder: Path) -> list[Path]:
    """An odd-sized JPEG, one rotated by EXIF, a greyscale, a palette PNG, a progressive one and a WebP."""
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    scene(641, 427).save(folder / "odd.jpg", quality=90)
    scene(500, 333).save(folder / "rotated.jpg", quality=95, exif=exif)
    scene(300, 401).convert("L").save(folder / "grey.jpg")
    scene(257, 199).convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    scene(333, 512).save(folder / "progressive.jpg", progressive=True, subsampling=0)
    scene(222, 225).save(folder / "lossy.webp")
    return sorted(folder.iterdir())


def test_pictures_from_their_bytes_on(tmp_path: Path) -> None:
    checkpoint = clip_checkpoint(tmp_path / "checkpoint", {"image_size": 64, "patch_size": 16}, projection_dim=64)
    convert_clip_model(checkpoint, tmp_path / "model", dtype="float32", verify=False)
    engine = CLIPEngine(tmp_path / "model", precision="float32")
    reference = ClipReference(transformers.CLIPModel.from_pretrained(checkpoint))
    (tmp_path / "pictures").mkdir()
    prepared, originals = [], []
    for path in picture_files(tmp_path / "pictures"):
        decoded = decode(path)
        assert decoded.reason is None, decoded.reason
        assert decoded.pixels is not None
        prepared.append(engine.image_processor(decoded.pixels, normalize=False))
        with Image.open(path) as image:
            originals.append(ImageOps.exif_transpose(image).convert("RGB"))
    assert originals[-1].size == (333, 500)  # rotated.jpg, upright
    assert_agree(engine.encode_image(np.stack(prepared), normalize=False), reference.images(originals))


def test_a_stereo_recording_at_44100_hz_from_its_bytes_on(tmp_path: Path) -> None:
    checkpoint = whisper_checkpoint(tmp_path / "checkpoint")
    convert_whisper_model(checkpoint, tmp_path / "model", dtype="float32", verify=False)
    encoder = AudioEncoder(tmp_path / "model", precision="float32")
    reference = WhisperReference(transformers.WhisperModel.from_pretrained(checkpoint))
    time = np.arange(44_100 * 3) / 44_100
    left, right = 0.4 * np.sin(2 * np.pi * 440 * time), 0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), 44_100, subtype="PCM_16")
    waves, samples = [], []
    paths = [tmp_path / "stereo.wav", *([SPEECH] if SPEECH.exists() else [])]
    for path in paths:
        decoded = decode(path)
        assert decoded.samples is not None
        wave, _ = librosa.load(path, sr=16_000, mono=True)
        np.testing.assert_allclose(decoded.samples, wave, atol=1e-4)
        waves.append(wave)
        samples.append(decoded.samples)
    # Silence and noise beside them: what an element's error is measured against.
    others = [np.zeros(16_000, np.float32), np.random.default_rng(0).normal(size=16_000).astype(np.float32)]
    assert_agree(encoder.encode([*samples, *others], normalize=False), reference.padded([*waves, *others]))
    clips = np.concatenate([reference.clip(wave) for wave in (*waves, *others)])
    assert_agree(encoder.encode([*samples, *others], normalize=False, context="own"), clips)


def test_real_speech_was_there() -> None:
    if not SPEECH.exists():
        pytest.skip(f"the speech recording is not at {SPEECH}")
    decoded = decode(SPEECH)
    assert decoded.duration == pytest.approx(11, abs=0.01)
    assert decoded.sample_rate == 44_100
