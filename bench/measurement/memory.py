"""Peak memory."""

from __future__ import annotations

import resource
import sys


def peak_memory_bytes(device: str) -> int:
    """Return the peak memory: of the device where it is a GPU, else of this process (resident set size)."""
    if device == "GPU":
        import tensorflow as tf

        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
