"""The options that limit what is read of a file."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arrowlens.media import Limits


def limits_of(options: argparse.Namespace) -> Limits:
    """The default limits, but for those that were given."""
    from arrowlens.media import Limits  # deferred: numpy and Pillow

    limits = Limits()
    if options.max_megapixels is not None:
        limits = dataclasses.replace(limits, max_pixels=int(options.max_megapixels * 1e6))
    if options.max_hours is not None:
        limits = dataclasses.replace(limits, max_seconds=3600 * options.max_hours)
    if options.max_file_size is not None:
        image_bytes = min(limits.max_image_bytes, options.max_file_size)
        limits = dataclasses.replace(limits, max_file_bytes=options.max_file_size, max_image_bytes=image_bytes)
    if options.time_limit is not None:
        limits = dataclasses.replace(limits, max_decode_s=options.time_limit)
    return limits
