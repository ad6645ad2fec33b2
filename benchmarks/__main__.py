"""Run every benchmark: ``python -m benchmarks``."""

from __future__ import annotations

from benchmarks import hop

if __name__ == "__main__":
    hop.main()
