"""``python -m arrowlens.cli`` is the ``arrowlens`` command."""

from __future__ import annotations

import sys

from arrowlens.cli.main import main

sys.exit(main())
