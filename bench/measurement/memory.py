"""Peak memory of the process; a GPU's is its backend's to tell."""

from __future__ import annotations

import resource
import sys


def peak_memory_bytes() -> int:
    """Return the greatest resident set size that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
