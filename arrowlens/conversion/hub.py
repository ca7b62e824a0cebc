"""Checkpoints from the Hugging Face hub: only the files that are needed, checked against what the hub announced.

The endpoint is that of the environment variable HF_ENDPOINT, else the hub's own. Files that lie in the user's Hugging
Face cache are copied from there and not downloaded. The others lie in our cache folder (ARROWLENS_CACHE, else the
user's) until they are converted; a partial file stays there and the next run goes on from its end.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from arrowlens.conversion.report import OnProgress, Progress
from arrowlens.encoders.model_directory import cache_directory
from arrowlens.errors import ConversionError, DownloadError

DEFAULT_ENDPOINT = "https://huggingface.co"
SMALL_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",  # of transformers 5
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "vocabulary.json",  # of speech models in CTranslate2's format
    "vocabulary.txt",
    "spiece.model",
    "open_clip_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
WEIGHTS = (  # the first group of which a model has a file is taken
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("open_clip_model.safetensors",),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
    ("open_clip_pytorch_model.bin",),
    ("model.bin",),  # CTranslate2's
)
_REVISION = re.compile(r"[0-9a-f]{40}")
# Control characters, backslashes, unpaired surrogates; empty, "." and ".." parts, which absolute paths have, too.
_UNSAFE_NAME = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|(^|/)\.{0,2}(/|$)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CURE = (
    "use --models demo, which is bundled, or run 'arrowlens convert' on a checkpoint folder that you have "
    "and give the result to --models"
)
_TIMEOUT = 15  # seconds, for the hub's answer
_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Source:
    """A checkpoint folder on this machine.

    Attributes:
        directory: the folder.
        name: what people call it, a hub id or the folder's name.
        licence: as the hub states it.
    """

    directory: Path
    name: str
    licence: str | None = None


@contextmanager
def open_source(model_name: str | Path, on_progress: OnProgress) -> Iterator[Source]:
    """Open a local checkpoint folder, or download a hub id's files for the length of a conversion.

    A folder in CTranslate2's or OpenCLIP's format becomes a Hugging Face checkpoint in our cache folder for that time.

    Args:
        model_name: a folder, or a hub id such as ``openai/whisper-base``.
        on_progress: called with each step of a download.

    Raises:
        ConversionError: neither a folder nor a hub id; or as the ``write_checkpoint`` of a format.
        DownloadError: as ``downloaded``.
    """
    path = Path(model_name).expanduser()
    if path.is_dir():
        # Only the last part of the path: model files are passed on, and a path tells about this machine.
        with _as_checkpoint(Source(path, path.resolve().name)) as source:
            yield source
        return
    if path.exists() or not _HUB_ID.fullmatch(str(model_name)):
        raise ConversionError(
            f"{model_name} is neither a checkpoint folder nor a hub id such as openai/clip-vit-base-patch16"
        )
    with downloaded(str(model_name), on_progress) as download, _as_checkpoint(download) as source:
        yield source


@contextmanager
def _as_checkpoint(source: Source) -> Iterator[Source]:
    from arrowlens.conversion import ctranslate2, openclip  # deferred: torch, only to convert

    if ctranslate2.is_ctranslate2(source.directory):
        write_checkpoint = ctranslate2.write_checkpoint
    elif openclip.is_openclip(source.directory):
        write_checkpoint = openclip.write_checkpoint
    else:
        yield source
        return
    folder = cache_directory() / "checkpoints"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        raise ConversionError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}); set ARROWLENS_CACHE"
        ) from error
    with temporary as name:
        write_checkpoint(source.directory, Path(name))
        yield replace(source, directory=Path(name))


@contextmanager
def downloaded(model_id: str, on_progress: OnProgress) -> Iterator[Source]:
    """Download a model's files. They are removed when the block ends without an error, else kept for the next attempt.

    Raises:
        DownloadError: the hub cannot be reached, has no such model, breaks off, sends other content than it announced,
            or file names that would lead out of the folder. The message names what works offline.
    """
    folder = cache_directory() / "downloads" / model_id.replace("/", "--")
    with locked(folder.with_name(folder.name + ".lock"), f"another process downloads {model_id}", on_progress):
        hub = _Hub(os.environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_ENDPOINT, model_id, on_progress)
        source = hub.download(folder)
        yield source
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(path: Path, waiting_for: str, on_progress: OnProgress) -> Iterator[None]:
    """Hold a lock file. While another process holds it, report that once and wait.

    Raises:
        DownloadError: the cache folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_progress(Progress("wait", f"waiting: {waiting_for}"))
            lock.acquire()
    except OSError as error:
        raise DownloadError(
            f"the cache folder {path.parent} cannot be written ({error.strerror or error}); set ARROWLENS_CACHE"
        ) from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class _File:
    """A file as the hub announces it; ``git_id`` is the SHA-1 of the git blob, for files without a SHA-256 of LFS."""

    name: str
    size: int
    sha256: str | None
    git_id: str | None

    def matches(self, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        digest = hashlib.sha256() if self.sha256 else hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest() == (self.sha256 or self.git_id)


@dataclass(frozen=True)
class _Hub:
    endpoint: str
    model_id: str
    on_progress: OnProgress

    def download(self, folder: Path) -> Source:
        revision, files, licence = self._announced()
        if not files:
            raise DownloadError(
                f"{self.model_id} has no PyTorch weights on {self.endpoint}; choose another model, or {_CURE}"
            )
        self.on_progress(
            Progress("licence", f"{self.model_id}: licence {licence or 'not stated'} ({self.endpoint}/{self.model_id})")
        )
        directory, counter = folder / revision, _Counter(self, sum(file.size for file in files))
        _drop_other_revisions(folder, directory)
        for file in files:
            self._fetch(file, directory, counter)
        return Source(directory, self.model_id, licence)

    def _announced(self) -> tuple[str, list[_File], str | None]:
        """Return the model's revision, the files that are needed and the licence.

        Names that would become paths outside our folder are refused, whether the file is needed or not.
        """
        from huggingface_hub import HfApi  # deferred: half a second, and only downloads need it

        with self._translated():
            try:
                info = HfApi(endpoint=self.endpoint).model_info(self.model_id, files_metadata=True, timeout=_TIMEOUT)
                revision, files = str(info.sha), {sibling.rfilename: _file(sibling) for sibling in info.siblings or []}
                unsafe = [name for name in files if _UNSAFE_NAME.search(name)]
                licence = _licence(info)
            except (TypeError, LookupError, AttributeError) as error:
                raise ValueError("it does not answer as a Hugging Face hub does") from error
        if unsafe or not _REVISION.fullmatch(revision):
            raise DownloadError(
                f"{self.model_id}: {self.endpoint} calls a file or a revision {[*unsafe, revision][0]!r:.80}, "
                f"which could lead out of the download folder; do not use this hub, or {_CURE}"
            )
        return revision, _needed(files), licence

    def _fetch(self, file: _File, directory: Path, counter: _Counter) -> None:
        """Get one file into a folder, out of the user's Hugging Face cache where it is there.

        A download has a name of its own until its hash is right, and begins with what an earlier run left.
        """
        target = directory / file.name
        part = target.with_name(target.name + ".part")
        with self._translated():
            if file.matches(target) or self._copy_cached(file, directory.name, target):
                counter.add(file.size)
                return
            part.parent.mkdir(parents=True, exist_ok=True)
            if part.exists() and part.stat().st_size > file.size:
                part.unlink()
            with part.open("ab") as sink:
                self._get(file, directory.name, sink, counter)
            if not file.matches(part):
                part.unlink()
                raise DownloadError(
                    f"{file.name} of {self.model_id}: what {self.endpoint} sent is not what it announced (hash or size "
                    f"differs); try again, or {_CURE}"
                )
            part.rename(target)

    def _copy_cached(self, file: _File, revision: str, target: Path) -> bool:
        """Copy a file from the user's Hugging Face cache; return whether it was there and whole."""
        from huggingface_hub import try_to_load_from_cache  # deferred, as above

        cached = try_to_load_from_cache(self.model_id, file.name, revision=revision)
        try:
            is_whole = isinstance(cached, str) and file.matches(Path(cached))
        except OSError:  # it may not be read, or its disk is bad
            is_whole = False
        if not is_whole:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(cached), target)
        return file.matches(target)

    def _get(self, file: _File, revision: str, sink: Any, counter: _Counter) -> None:  # noqa: ANN401 - BinaryIO, for an untyped call
        # Not hf_hub_download: when it gives up, it deletes what it has, and a large file would start over.
        from huggingface_hub import file_download  # deferred, as above
        from huggingface_hub import utils as untyped

        utils: Any = untyped

        url = file_download.hf_hub_url(self.model_id, file.name, revision=revision, endpoint=self.endpoint)
        headers = utils.build_hf_headers(library_name="arrowlens")
        answer = file_download.get_hf_file_metadata(url, timeout=_TIMEOUT, headers=headers, endpoint=self.endpoint)
        if urlsplit(answer.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # a token is for the hub, not for where it stores its files
        held = sink.tell()
        counter.add(held)
        file_download.http_get(
            answer.location,
            sink,
            resume_size=held,
            headers=headers,
            expected_size=file.size,
            displayed_filename=file.name,
            tqdm_class=counter.bar(),
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The one place where the hub library's errors become ours."""
        from huggingface_hub import errors  # deferred, as above
        from huggingface_hub import utils as untyped

        utils: Any = untyped

        what = f"{self.model_id} cannot be downloaded from {self.endpoint}"
        try:
            yield
        except errors.GatedRepoError as error:
            page = f"{self.endpoint}/{self.model_id}"
            raise DownloadError(f"{what}: accept its licence at {page}, set HF_TOKEN; or {_CURE}") from error
        except errors.RepositoryNotFoundError as error:
            raise DownloadError(
                f"{what}: there is no such model, or it is private (then set HF_TOKEN); check the name, or {_CURE}"
            ) from error
        except errors.HfHubHTTPError as error:
            raise DownloadError(f"{what}: it answers {error.response.status_code}; try later, or {_CURE}") from error
        except (utils.httpx.HTTPError, OSError, ValueError) as error:  # no connection, offline, disk full, no hub
            detail = " ".join(str(error).split()) or type(error).__name__
            raise DownloadError(f"{what} ({detail:.200}); run again to go on where it stopped, or {_CURE}") from error


@dataclass
class _Counter:
    """Counts the bytes of a download for ``on_progress``."""

    hub: _Hub
    total: int
    done: int = 0

    def add(self, n: int) -> None:
        """Add bytes; a negative number when the hub starts a file over."""
        self.done += n
        detail = f"downloading {self.hub.model_id}"
        self.hub.on_progress(Progress("download", detail, min(self.done, self.total), self.total))

    def bar(self) -> type[Any]:
        """Return a class for the hub library to make its progress bar of, which shows nothing and counts here."""
        add = self.add

        class Bar:
            def __init__(self, **_: object) -> None: ...

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None: ...

            def update(self, n: int = 1) -> None:
                add(n)

        return Bar


def _needed(files: dict[str, _File]) -> list[_File]:
    """Return the small files that conversion reads and the first group of weights that the model has; none without."""
    names = [name for name in SMALL_FILES if name in files]
    for group in WEIGHTS:
        weights = sorted(name for name in files if any(fnmatchcase(name, pattern) for pattern in group))
        if weights:
            return [files[name] for name in names + weights]
    return []


def _file(sibling: Any) -> _File:  # noqa: ANN401 - untyped library
    size = int(sibling.size or 0)
    return _File(sibling.rfilename, size, sibling.lfs.sha256 if sibling.lfs else None, sibling.blob_id)


def _licence(info: Any) -> str | None:  # noqa: ANN401 - untyped library
    stated = getattr(info.card_data, "license", None)
    if stated is None:
        tags = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
        stated = tags[0] if tags else None
    return ", ".join(stated) if isinstance(stated, list) else stated


def _drop_other_revisions(folder: Path, keep: Path) -> None:
    if folder.is_dir():
        for other in folder.iterdir():
            if other != keep:
                shutil.rmtree(other, ignore_errors=True)
