"""`python -m paigeant_console`."""

from __future__ import annotations

import sys

from paigeant_console.cli import main

if __name__ == "__main__":
    sys.exit(main())
