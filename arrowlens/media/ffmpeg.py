"""Containers that ffmpeg reads, with one line for a user where they are damaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av

from arrowlens.errors import MediaError
from arrowlens.media.files import NativeFileAdapter

DEMUXERS = {
    "m4a": "mov",
    "mp4": "mov",
    "mkv": "matroska",
    "webm": "matroska",
    "aac": "aac",
    "avi": "avi",
    "mpegts": "mpegts",
}
_READ_AT_ONCE = 1 << 18  # bytes


def open_container(file: NativeFileAdapter, file_format: str, codecs: Iterable[str]) -> Any:  # noqa: ANN401 - PyAV's
    """Open a container for reading.

    Args:
        file: its bytes.
        file_format: one of ``DEMUXERS``.
        codecs: the decoders that may be used, whatever the file asks for.

    Raises:
        MediaError: its header is damaged.
    """
    try:
        return av.open(
            file,
            "r",
            format=DEMUXERS[file_format],
            container_options={"codec_whitelist": ",".join(sorted(codecs))},
            metadata_errors="replace",
            buffer_size=_READ_AT_ONCE,
        )
    except (av.FFmpegError, ValueError) as error:
        file.check()
        raise MediaError(f"damaged or truncated: the {file_format.upper()} header cannot be read") from error


def packets(container: Any, stream: Any, file: NativeFileAdapter) -> Iterator[Any]:  # noqa: ANN401 - PyAV's
    """Yield the packets of a stream from where the container is, and last an empty one, which ends decoding.

    Raises:
        MediaError: the container is damaged.
    """
    found = container.demux(stream)
    while True:
        try:
            packet = next(found, None)
        except (av.FFmpegError, ValueError) as error:
            file.check()
            raise MediaError("damaged or truncated: the container cannot be read to its end") from error
        file.check()
        if packet is None:
            return
        yield packet
