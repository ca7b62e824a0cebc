"""The encoders on a GPU: the vectors of the processor, however many threads encode at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arrowlens.encoders import AudioEncoder, CLIPEngine
from arrowlens.encoders.runtime import GPU_THREADS, encoding_threads
from tests.property.conftest import make_clip, make_whisper
from tests.support.reference import HALF_COSINE, cosines

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
N = 40


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_pictures_have_the_vectors_of_the_processor(tmp_path, precision):
    _, directory = make_clip(tmp_path)
    on_gpu, on_cpu = CLIPEngine(directory, "cuda", precision), CLIPEngine(directory, "cpu", "float32")
    size = on_cpu.image_processor.image_size
    pictures = np.random.default_rng(0).integers(0, 256, (N, 4, size, size, 3), dtype=np.uint8)
    with encoding_threads("cuda") as threads:
        assert threads.n == GPU_THREADS
        found = np.concatenate(list(threads.pool.map(on_gpu.encode_image, pictures)))
    assert cosines(found, on_cpu.encode_image(pictures.reshape(-1, size, size, 3))).min() > HALF_COSINE
    texts = ["a dog", "a house by the sea"]
    assert cosines(on_gpu.encode_text(texts), on_cpu.encode_text(texts)).min() > HALF_COSINE


@pytest.mark.parametrize("context", ["padded", "own"])
def test_recordings_have_the_vectors_of_the_processor(tmp_path, context):
    _, directory = make_whisper(tmp_path)
    on_gpu, on_cpu = AudioEncoder(directory, "cuda"), AudioEncoder(directory, "cpu", "float32")
    rng = np.random.default_rng(0)
    recordings = [rng.normal(0, 0.1, n).astype(np.float32) for n in (16_000, 300, 48_000, 16_000)]
    with encoding_threads("cuda") as threads:
        encode = lambda _: on_gpu.encode(recordings, context=context)  # noqa: E731
        for found in threads.pool.map(encode, range(N)):
            assert cosines(found, on_cpu.encode(recordings, context=context)).min() > HALF_COSINE
    spectrum = on_gpu.mel_processor.compute_mel_spectrogram(recordings[0])
    np.testing.assert_allclose(spectrum, on_cpu.mel_processor.compute_mel_spectrogram(recordings[0]), atol=1e-3)
