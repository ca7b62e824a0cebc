"""For all tests: how many threads the test processes have."""

from __future__ import annotations

import os

import torch
from threadpoolctl import threadpool_limits

# Files of tests run side by side, a process a core. There several threads a process only wait for each other: two
# files of encoder tests took 72 seconds with one, 194 with two. Commands that tests start keep the usual number, and
# let those that wait sleep in place of spinning.
threadpool_limits(1)
torch.set_num_threads(1)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
