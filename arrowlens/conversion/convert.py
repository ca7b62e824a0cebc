"""Converts a Hugging Face checkpoint to a model directory and verifies it against the original model.

The directory is written under a temporary name and renamed when it is complete and verified, so that there is never a
part of one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.family import Converter, Vectors
from arrowlens.conversion.hub import open_source
from arrowlens.conversion.renaming import DTYPES
from arrowlens.conversion.report import ConversionReport, OnProgress, Progress, Verified, silent
from arrowlens.encoders.folding import fold_model
from arrowlens.encoders.model_directory import ARROW_NAME, PARQUET_NAME
from arrowlens.encoders.registry import COMMANDS, FAMILIES, ModelFamily
from arrowlens.encoders.verification import validate_embedding_precision
from arrowlens.encoders.weights import WeightLoader, write_model
from arrowlens.errors import ConversionError, ModelLoadError

THRESHOLD = 0.95  # average cosines must be above it
FORMATS = {"arrow": ARROW_NAME, "parquet": PARQUET_NAME}


@dataclass(frozen=True)
class ConversionOptions:
    """How to convert; ``convert_clip_model`` says what each means."""

    dtype: str = "float16"
    format: str = "arrow"
    verify: bool = True
    overwrite: bool = False
    on_progress: OnProgress = silent


def convert_clip_model(
    model_name: str | Path = "openai/clip-vit-base-patch16",
    output_dir: str | Path = "./models/clip",
    *,
    dtype: str = "float16",
    format: str = "arrow",  # noqa: A002 - the command line's word for it
    verify: bool = True,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> ConversionReport:
    """Convert a CLIP checkpoint (any ViT patch and image size, depth and width) to a model directory.

    Args:
        model_name: a hub id, or a local checkpoint folder (safetensors, or ``pytorch_model.bin`` with plain tensors).
        output_dir: the model directory to make; parents are made too.
        dtype: ``float16``, ``bfloat16`` or ``float32``, the type that tensors are stored in.
        format: ``arrow`` (mapped at run time) or ``parquet`` (for exchange; decoded at run time).
        verify: compare with the original model, in float32, on built-in pictures and texts.
        overwrite: replace a model directory that is already there; anything else is never replaced.
        on_progress: called with each step.

    Raises:
        ConversionError: the checkpoint is incomplete, damaged, foreign or of an unsupported kind (the message names the
            tensor or the setting), or ``output_dir`` is taken.
        QualityError: the vectors do not agree with the original's; carries the measured cosine.
        DownloadError: the hub cannot be reached, or has no such model.
    """
    options = ConversionOptions(dtype, format, verify, overwrite, on_progress or silent)
    return convert_model("clip", model_name, output_dir, options)


def convert_siglip_model(
    model_name: str | Path = "google/siglip2-base-patch16-224",
    output_dir: str | Path = "./models/siglip",
    *,
    dtype: str = "float16",
    format: str = "arrow",  # noqa: A002 - the command line's word for it
    verify: bool = True,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> ConversionReport:
    """Convert a SigLIP or SigLIP 2 checkpoint with a fixed resolution to a model directory.

    Args, errors: as ``convert_clip_model``.
    """
    options = ConversionOptions(dtype, format, verify, overwrite, on_progress or silent)
    return convert_model("siglip", model_name, output_dir, options)


def convert_whisper_model(
    model_name: str | Path = "openai/whisper-base",
    output_dir: str | Path = "./models/whisper",
    *,
    dtype: str = "float16",
    format: str = "arrow",  # noqa: A002 - the command line's word for it
    verify: bool = True,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> ConversionReport:
    """Convert the encoder of a Whisper checkpoint (tiny to large-v3) to a model directory, with librosa's mel filters.

    Args, errors: as ``convert_clip_model``; verified on built-in sounds, padded to 30 s as the original does.
    """
    options = ConversionOptions(dtype, format, verify, overwrite, on_progress or silent)
    return convert_model("whisper", model_name, output_dir, options)


def convert_clap_model(
    model_name: str | Path = "laion/clap-htsat-unfused",
    output_dir: str | Path = "./models/clap",
    *,
    dtype: str = "float16",
    format: str = "arrow",  # noqa: A002 - the command line's word for it
    verify: bool = True,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> ConversionReport:
    """Convert a CLAP checkpoint without fusion to a model directory, with its feature extractor's mel filters.

    Args, errors: as ``convert_clip_model``; verified on built-in sounds, at most 10 s of each, and texts.
    """
    options = ConversionOptions(dtype, format, verify, overwrite, on_progress or silent)
    return convert_model("clap", model_name, output_dir, options)


def convert_text_model(
    model_name: str | Path = "sentence-transformers/all-MiniLM-L6-v2",
    output_dir: str | Path = "./models/text",
    *,
    dtype: str = "float16",
    format: str = "arrow",  # noqa: A002 - the command line's word for it
    verify: bool = True,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> ConversionReport:
    """Convert a BERT checkpoint that is averaged over its tokens, such as MiniLM, to a model directory.

    Args, errors: as ``convert_clip_model``; verified on built-in texts.
    """
    options = ConversionOptions(dtype, format, verify, overwrite, on_progress or silent)
    return convert_model("text", model_name, output_dir, options)


def convert_model(
    command: str,
    model_name: str | Path,
    output_dir: str | Path,
    options: ConversionOptions = ConversionOptions(),
) -> ConversionReport:
    """Convert a checkpoint of any family to a model directory.

    Args:
        command: the family's word on the command line: clip, siglip, whisper, clap, text.
        model_name: as ``convert_clip_model``.
        output_dir: as ``convert_clip_model``.
        options: how to convert.

    Raises:
        ConversionError: an unknown word, or as ``convert_clip_model``.
        QualityError, DownloadError: as ``convert_clip_model``.
    """
    family, started = _family_of(command, options), time.monotonic()
    output = Path(os.path.abspath(Path(output_dir).expanduser()))  # noqa: PTH100 - resolve() would follow links
    _check_output(output, overwrite=options.overwrite)
    with open_source(model_name, options.on_progress) as source, _written_whole(output) as directory:
        checkpoint = Checkpoint(source.directory, source.name)
        detail = f"converting {source.name} to {options.dtype}"
        options.on_progress(Progress("convert", detail))
        converter = cast(Converter, import_module(family.converter))
        prepared = converter.prepare(checkpoint, options.dtype)
        with _disk_errors(output):
            info = write_model(
                directory,
                prepared.tensors,
                family=family.name,
                dimensions=prepared.dimensions,
                source=checkpoint.source,
                space=_space(checkpoint),
                files=prepared.files,
                format=options.format,
            )
        options.on_progress(Progress("convert", detail, 1))
        encoder = _load(family, checkpoint, directory, options)
        verified = _verify(converter.compare(checkpoint, encoder), checkpoint, options) if options.verify else ()
        if options.format == "arrow":
            with _disk_errors(output):
                fold_model(directory)
        return ConversionReport(
            family=info.family,
            source=info.source,
            directory=output,
            digest=info.digest,
            dtype=options.dtype,
            format=options.format,
            tensors=len(prepared.tensors),
            parameters=sum(tensor.numel() for tensor in prepared.tensors.values()),
            original_bytes=prepared.original_bytes,
            converted_bytes=(directory / FORMATS[options.format]).stat().st_size,
            licence=source.licence,
            verified=verified,
            seconds=time.monotonic() - started,
            notices=prepared.notices,
        )


def _family_of(command: str, options: ConversionOptions) -> ModelFamily:
    """The family of a command, where the options are ones that there are."""
    if command not in COMMANDS:
        raise ConversionError(f"model family {command!r} is unknown; use one of {', '.join(COMMANDS)}")
    if options.dtype not in DTYPES or options.format not in FORMATS:
        raise ConversionError(
            f"dtype {options.dtype!r} must be one of {', '.join(DTYPES)}, format {options.format!r} arrow or parquet"
        )
    return FAMILIES[COMMANDS.index(command)]


def _load(family: ModelFamily, checkpoint: Checkpoint, directory: Path, options: ConversionOptions) -> Any:  # noqa: ANN401 - the family's encoder
    """Load what was written, in float32 on the CPU, after checking its hash and its tensors' shapes."""
    WeightLoader(directory).verify()
    try:
        return family.encoder()(directory, device="cpu", precision="float32")
    except (ModelLoadError, TypeError, ValueError) as error:
        cause = str(error).removeprefix(f"{directory / FORMATS[options.format]}: ").split(";")[0]
        raise ConversionError(
            f"{checkpoint.directory}: config.json and the weights do not belong together: {cause}"
        ) from error


def _verify(compared: Iterator[Vectors], checkpoint: Checkpoint, options: ConversionOptions) -> tuple[Verified, ...]:
    detail = f"comparing with the original {checkpoint.source}"
    options.on_progress(Progress("verify", detail))
    verified = tuple(verify_vectors(vectors, checkpoint.source) for vectors in compared)
    options.on_progress(Progress("verify", detail, 1))
    return verified


def verify_vectors(vectors: Vectors, source: str) -> Verified:
    """Compare our vectors with the original's, as they are and with the original's mean subtracted from both.

    The second comparison is stricter: where all vectors of a model share a large part, plain cosines stay near one even
    with a wrong activation or swapped channels.

    Raises:
        QualityError: an average cosine is not above 0.95; the message has it.
    """
    kind, ours, reference = vectors.kind, vectors.ours, vectors.reference
    reference = reference / ((reference**2).sum(axis=1, keepdims=True) ** 0.5)
    plain = validate_embedding_precision(ours, reference, THRESHOLD, f"{source}, {kind}")
    mean = reference.mean(axis=0)
    name = f"{source}, differences between {kind}"
    contrast = validate_embedding_precision(ours - mean, reference - mean, THRESHOLD, name)
    return Verified(kind, len(ours), plain.average, plain.minimum, contrast.average)


def _space(checkpoint: Checkpoint) -> str | None:
    """Return the space that the checkpoint shares with another, which training notes in config.json."""
    space = checkpoint.config().get("arrowlens_space")
    if space is not None and not (isinstance(space, str) and space):
        raise ConversionError(f"{checkpoint.directory}: arrowlens_space {space!r} in config.json; it must be a name")
    return space


def _check_output(output: Path, *, overwrite: bool) -> None:
    if not os.path.lexists(output) or (output.is_dir() and not any(output.iterdir())):
        return
    if not overwrite:
        raise ConversionError(f"{output} is already there; choose another output, or remove it first")
    if output.is_symlink() or not any((output / name).is_file() for name in FORMATS.values()):
        raise ConversionError(f"{output} is no model directory, so it is not overwritten; choose another output")


@contextmanager
def _written_whole(output: Path) -> Iterator[Path]:
    """Provide a temporary folder beside ``output`` and rename it at the end; on any error, Ctrl-C too, remove it."""
    made = [parent for parent in output.parents if not parent.exists()]  # innermost first
    temporary = output.with_name(f".{output.name}.{os.getpid()}-{time.time_ns()}.tmp")
    try:
        with _disk_errors(output):
            temporary.mkdir(parents=True)
        yield temporary
        with _disk_errors(output):
            _move_into_place(temporary, output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


@contextmanager
def _disk_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        detail = " ".join(str(error.strerror or error).split())
        raise ConversionError(
            f"{output} cannot be written ({detail}); free some space, or choose another output"
        ) from error


def _move_into_place(temporary: Path, output: Path) -> None:
    """Rename; an earlier model directory (only with overwrite) is moved aside and comes back on failure."""
    aside = temporary.with_suffix(".old")
    if output.exists():
        output.rename(aside)
    try:
        temporary.rename(output)
    except BaseException:
        if aside.exists():
            aside.rename(output)
        raise
    shutil.rmtree(aside, ignore_errors=True)
