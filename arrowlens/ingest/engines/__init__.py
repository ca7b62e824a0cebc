"""Who does the work of a run: an engine turns files into outcomes, on this machine (``local``) or on others.

The walk, the comparison with the library, and the writer are the same for every engine.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from arrowlens.errors import InputError
from arrowlens.ingest.diff import Known
from arrowlens.ingest.step import Outcome, StepSpec
from arrowlens.ingest.walk import ScannedFile


class Engine(Protocol):
    """Turns files into outcomes."""

    def outcomes(
        self, spec: StepSpec, files: Sequence[ScannedFile], known: Mapping[str, Known], stop: threading.Event
    ) -> Generator[list[Outcome], None, None]:
        """Yield the outcomes of files as they come, in any order, each at least once.

        Lists may be empty, so that the caller can look at the clock. A copy comes after the file that it is a copy of,
        or in the same list behind it. Closing the generator drops what is under way.

        Args:
            spec: all that outcomes depend on.
            files: as the source listed them.
            known: what the library holds, by media id, as ``EncodeStep`` takes it.
            stop: once it is set, what is decoded is still encoded, and the outcomes end.

        Raises:
            ModelLoadError: a model cannot be loaded.
            WorkerError: no process for decoding can be started.
            RuntimeError: the model does not work.
        """


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Which Ray cluster does the work of a run, and with how much of it.

    Attributes:
        address: of the cluster, as ``ray.init`` takes it; None takes RAY_ADDRESS, else one that is started here.
        concurrency: workers, with equal shares of the CPUs; None takes one for each node, or for each GPU.
        num_gpus: that each worker gets, such as 1 or 0.5; 0 encodes on CPUs.
    """

    address: str | None = None
    concurrency: int | None = None
    num_gpus: float = 0

    def __post_init__(self) -> None:
        if self.concurrency is not None and self.concurrency < 1:
            raise InputError(f"concurrency is {self.concurrency}; it must be at least 1")
        if self.num_gpus < 0:
            raise InputError(f"num_gpus is {self.num_gpus}; it must be 0 or more")
