"""What trials will run on. TensorFlow itself is asked only where there is a GPU, and only once."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs

from bench.environment import Device, cpu_name, find_gpus, nvidia_driver
from bench.execution.server import ForkServer

INSTALL_GPU = 'pip install -e ".[gpu]"'


def resolve_device(server: ForkServer) -> Device:
    """Return the device that trials run on: the first GPU that both NVML and TensorFlow see, else the CPU."""
    gpus = find_gpus()
    if not gpus:
        return Device("CPU", cpu_name())
    answer = Path(platformdirs.user_cache_dir("bench")) / f"devices-{_key([gpu.uuid for gpu in gpus])}.json"
    if answer.is_file():
        usable = json.loads(answer.read_text())
    else:
        usable = server.run(count_gpus, on_event=lambda _: None)
        if usable:  # a no is asked anew each time: it may have had a passing cause
            answer.parent.mkdir(parents=True, exist_ok=True)
            answer.write_text(json.dumps(usable))
    if not usable:
        note = f"{gpus[0].name} is there, but this TensorFlow cannot use it: {INSTALL_GPU} brings its CUDA libraries."
        return Device("CPU", cpu_name(), note)
    return Device("GPU", gpus[0].name, compute_capability=gpus[0].compute_capability)


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
