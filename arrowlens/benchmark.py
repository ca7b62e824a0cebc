"""How fast is this machine with these models, and what bounds it? The short form of what `make bench` measures."""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from arrowlens.embedding import EmbeddingPlan, encode
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.encoders.registry import family_for
from arrowlens.encoders.roofline import calls_per_second, matrix_rate, of_a_picture, of_a_recording
from arrowlens.errors import InputError
from arrowlens.ingest.batching import BATCH_OF_A_CORE
from arrowlens.ingest.prepare import Preparer
from arrowlens.ingest.source import FolderSource
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Limits
from arrowlens.models import resolve
from arrowlens.query_engine import provider_of
from arrowlens.store import Root
from arrowlens.workers.resources import n_cores

if TYPE_CHECKING:
    from arrowlens.conversion import OnProgress

JPEG_SIZE = (1600, 1200)  # about 2 megapixels
CLIP_SECONDS = 5.0
_N_JPEGS = 8
_QUESTION = "a red bicycle leaning on a wall"

Bound = Literal["decoding", "encoding"]


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """One thing that was measured.

    Attributes:
        what: in words, with the sizes. value, unit: for example 148.0 "ms", 3.2 "pictures/s", 330.0 "GFLOP/s".
        share: of the machine's matrix products, about 1 at most, for what is made of them; None for the rest.
    """

    what: str
    value: float
    unit: str
    share: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Outlook:
    """What an ingest of pictures can reach at most: ``rate`` files/s; ``decoding`` and ``encoding`` are core-seconds
    of a file (of the device, for encoding on another one), and ``bound`` is where more of the time goes.
    """

    rate: float
    decoding: float
    encoding: float
    bound: Bound


@dataclasses.dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured, where, and what follows.

    Attributes:
        device: where the models ran.
        precision: the type that they computed in.
        reason: why in that type.
        n_cores: the processor's.
        measures: what was measured.
        outlook: what follows for pictures; None without a model for them.
        ms_per_item: milliseconds of the machine for a picture, or a recording of 5 s, in bulk, by the model's digest.
    """

    device: str
    precision: str
    reason: str
    n_cores: int
    measures: tuple[Measure, ...]
    outlook: Outlook | None
    ms_per_item: Mapping[str, float]


def benchmark(
    models: str = "base",
    device: str | None = None,
    precision: str = "auto",
    seconds: float = 2.0,
    *,
    on_progress: OnProgress | None = None,
) -> Benchmark:
    """Measure a model set on this machine, in some ten times ``seconds``; other work on its cores shows in the figures.

    Args:
        models: as for an ingest.
        device, precision: as for an ingest.
        seconds: how long each thing is repeated.
        on_progress: called while models are downloaded and converted.

    Raises:
        InputError: ``seconds`` is not above zero.
        ModelLoadError: a model or the device is not there. DownloadError, ConversionError: ``base`` could not be made.
    """
    if not 0 < seconds < float("inf"):
        raise InputError(f"seconds {seconds} must be above 0")
    provider = provider_of(resolve(models, on_progress), device, precision, {})  # as a new library has them
    measuring = _Measuring(provider, seconds)
    measures = [*measuring.pictures(), *measuring.recordings()]
    runtime = provider.runtime
    return Benchmark(
        str(runtime.device),
        runtime.precision,
        runtime.reason,
        n_cores(),
        tuple(measures),
        measuring.outlook,
        {provider.digest(role): 1000 / rate for role, rate in measuring.rates.items()},
    )


class _Measuring:
    def __init__(self, provider: MultimodalEmbeddingProvider, seconds: float) -> None:
        self._provider, self._seconds = provider, seconds
        self.outlook: Outlook | None = None
        self.rates: dict[str, float] = {}  # items/s in bulk, by role

    def pictures(self) -> Iterator[Measure]:
        provider = self._provider
        if not provider.has("vision"):
            return
        path, runtime = provider.path("vision"), provider.runtime

        encoder = family_for("vision", provider.info("vision").family, path).encoder("vision")

        def load() -> object:
            return encoder(path, provider.device, provider.precision)

        yield Measure("load the model of pictures and words", 1000 * self._median(load), "ms")
        engine = provider.clip_engine
        yield Measure("a question in words", 1000 * self._median(lambda: engine.encode_text([_QUESTION])), "ms")
        batch = np.random.default_rng(0).integers(
            0, 256, (BATCH_OF_A_CORE, *[engine.image_processor.image_size] * 2, 3), np.uint8
        )
        yield Measure("one picture", 1000 * self._median(lambda: engine.encode_image(batch[:1])), "ms")
        arithmetic = of_a_picture(provider.info("vision"))
        limit = matrix_rate(arithmetic, BATCH_OF_A_CORE, runtime, self._seconds)
        yield _of_the_products("pictures", limit)
        rate = BATCH_OF_A_CORE * self._rate(lambda: engine.encode_image(batch))
        self.rates["vision"] = rate
        yield Measure("pictures in bulk", rate, "pictures/s", rate * arithmetic.flops / limit)
        decoding = self._decoding()
        width, height = JPEG_SIZE
        yield Measure(f"decode a JPEG of {width} x {height}", 1000 * decoding, "ms of a core")
        self.outlook = _outlook(rate, decoding, is_on_cpu=runtime.device.type == "cpu")

    def recordings(self) -> Iterator[Measure]:
        provider = self._provider
        if not provider.has("audio"):
            return
        runtime, sample_rate = provider.runtime, provider.recipe.sample_rate
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (BATCH_OF_A_CORE, round(sample_rate * CLIP_SECONDS)))
        batch = noise.astype(np.float32)
        what = f"recordings of {CLIP_SECONDS:.0f} s"
        arithmetic = of_a_recording(provider.info("audio"), CLIP_SECONDS, provider.recipe.layer)
        limit = matrix_rate(arithmetic, BATCH_OF_A_CORE, runtime, self._seconds)
        yield _of_the_products("recordings", limit)
        rate = BATCH_OF_A_CORE * self._rate(lambda: encode("audio", list(batch), provider))
        self.rates["audio"] = rate
        yield Measure(f"{what} in bulk, spectrum included", rate, "recordings/s", rate * arithmetic.flops / limit)

    def _median(self, work: Callable[[], object]) -> float:
        """Seconds of a work by itself, on all cores where torch can use them."""
        work()
        times: list[float] = []
        while len(times) < 3 or sum(times) < self._seconds / 2:
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    def _rate(self, work: Callable[[], object]) -> float:
        return calls_per_second(work, str(self._provider.runtime.device), self._seconds)

    def _decoding(self) -> float:
        """Core-seconds that an ingest spends on a JPEG before it is encoded: reading, decoding, the thumbnail."""
        with tempfile.TemporaryDirectory(prefix="arrowlens-benchmark-") as folder:
            preparer = Preparer(FolderSource((), Path(folder)), EmbeddingPlan.of(self._provider), Limits())
            files = list(_jpegs(Path(folder)))
            preparer(files[0])
            started = time.thread_time()
            for file in files:
                preparer(file)
            return (time.thread_time() - started) / len(files)


def _of_the_products(kind: str, limit: float) -> Measure:
    return Measure(f"matrix products at the sizes of {kind}, all cores", limit / 1e9, "GFLOP/s")


def _outlook(rate: float, decoding: float, *, is_on_cpu: bool) -> Outlook:
    """Cores share their time between both; another device encodes while the cores decode."""
    cores = n_cores()
    encoding = (cores if is_on_cpu else 1) / rate
    reached = cores / (decoding + encoding) if is_on_cpu else min(rate, cores / decoding)
    is_decoding = decoding > encoding if is_on_cpu else cores / decoding < rate
    return Outlook(reached, decoding, encoding, "decoding" if is_decoding else "encoding")


def _jpegs(folder: Path) -> Iterator[ScannedFile]:
    """Pictures with shapes, edges and some grain, as a camera makes them."""
    root, dice = Root.at(str(folder)), np.random.default_rng(0)
    for number in range(_N_JPEGS):
        shapes = Image.fromarray(dice.integers(0, 256, (9, 12, 3), np.uint8)).resize(
            JPEG_SIZE, Image.Resampling.BICUBIC
        )
        grain = dice.normal(0, 6, (JPEG_SIZE[1], JPEG_SIZE[0], 1))
        path = folder / f"{number}.jpg"
        Image.fromarray(np.clip(np.asarray(shapes) + grain, 0, 255).astype(np.uint8)).save(path, quality=88)
        status = path.stat()
        yield ScannedFile(os.fsencode(path), root, os.fsencode(path.name), "image", status.st_size, status.st_mtime_ns)
