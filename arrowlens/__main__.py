"""``python -m arrowlens``: the ``arrowlens`` command."""

from arrowlens.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
