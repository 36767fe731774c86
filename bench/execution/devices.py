"""What trials will run on. TensorFlow itself is asked only where there is a GPU, and only once."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bench.data.cache import default_cache_dir
from bench.environment import Device, cpu_name, find_gpus, nvidia_driver
from bench.errors import BackendError
from bench.execution.server import ForkServer, WorkDiedError, WorkFailedError

INSTALL_GPU = 'pip install -e ".[gpu]"'


def resolve_device(server: ForkServer) -> Device:
    """Return the device that trials run on: the first GPU that both NVML and TensorFlow see, else the CPU."""
    gpus = find_gpus()
    if not gpus:
        return Device("CPU", cpu_name())
    usable = _usable_gpus(server, [gpu.uuid for gpu in gpus])
    if not usable:
        note = f"{gpus[0].name} is there, but this TensorFlow cannot use it: {INSTALL_GPU} brings its CUDA libraries."
        return Device("CPU", cpu_name(), note)
    return Device("GPU", gpus[0].name, compute_capability=gpus[0].compute_capability)


def _usable_gpus(server: ForkServer, uuids: list[str]) -> int:
    """Return how many GPUs TensorFlow can use, from an earlier answer where nothing has changed since."""
    remembered = default_cache_dir() / f"devices-{_key(uuids)}.json"
    with suppress(OSError, ValueError):
        return int(json.loads(remembered.read_text()))
    try:
        usable = int(server.run(count_gpus, on_event=lambda _: None))
    except (WorkDiedError, WorkFailedError) as error:
        raise BackendError(f"TensorFlow cannot list its GPUs: {error}") from error
    if usable:  # a no is asked anew each time: it may have had a passing cause
        with suppress(OSError):
            temporary = remembered.with_suffix(f".{os.getpid()}.tmp")
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(usable))
            temporary.replace(remembered)
    return usable


def count_gpus(_send: Callable[[Any], None]) -> int:
    """Return how many GPUs TensorFlow can use."""
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def _key(uuids: list[str]) -> str:
    """Identify what the answer depends on: the GPUs, their driver, TensorFlow, and the CUDA libraries beside it."""
    packages = sorted(
        f"{name} {distribution.version}"
        for distribution in importlib.metadata.distributions()
        if (name := distribution.metadata["Name"] or "").startswith(("tensorflow", "nvidia-"))
    )
    facts = [uuids, packages, nvidia_driver(), os.environ.get("LD_LIBRARY_PATH", "")]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
