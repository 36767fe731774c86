"""What trials will run on, and how fast that multiplies matrices; both asked once and remembered."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.atomic import replacing
from bench.data.cache import default_cache_dir
from bench.environment import BACKENDS, Device, cpu_name, find_gpus, nvidia_driver, settings
from bench.errors import BackendError
from bench.execution.server import ForkServer
from bench.execution.work import Place, ServerDiedError, WorkDiedError, WorkFailedError

INSTALL_GPU = {
    "tensorflow": 'pip install -e ".[gpu]"',
    "jax": 'pip install "jax[cuda12]"',
    "torch": "a CUDA build of PyTorch (pytorch.org)",
}


def resolve_devices(server: ForkServer) -> list[Device]:
    """Return the devices that trials run on: the GPUs that both NVML and the backend see, or the CPU."""
    gpus = find_gpus()
    if not gpus:
        return [Device("CPU", cpu_name())]
    usable = _usable_gpus(server, [gpu.uuid for gpu in gpus])
    if not usable:
        install = INSTALL_GPU[server.backend]
        note = f"{gpus[0].name} is there, but this {server.title} cannot use it: {install} brings its CUDA libraries."
        return [Device("CPU", cpu_name(), note)]
    return [Device("GPU", gpu.name, "", gpu.compute_capability, gpu.memory_bytes, gpu.uuid) for gpu in gpus[:usable]]


def remembered_peak(device: Device, precision: str, cores: int) -> float | None:
    """Return the device's matrix-product peak in FLOP/s as it was measured before, by whichever backend."""
    return _read(_peak_file(device, precision, cores))


def matmul_peak(server: ForkServer, device: Device, precision: str, place: Place, cores: int) -> float:
    """Measure the matrix-product peak in FLOP/s of a device at a place, and return the greatest figure so far.

    A disturbance or a slower library makes a figure lower, nothing makes it higher than what the device can do.

    Raises:
        BackendError: it cannot be measured.

    """
    try:
        measured = server.run(measure_peak, server.backend, device, precision, on_event=lambda _: None, place=place)
    except (ServerDiedError, WorkDiedError, WorkFailedError) as error:
        raise BackendError(f"the matrix-product peak of {device.name} cannot be measured: {error}") from error
    peak = max(float(measured), remembered_peak(device, precision, cores) or 0.0)
    _write(_peak_file(device, precision, cores), peak)
    return peak


def measure_peak(backend: str, device: Device, precision: str, _send: Callable[[Any], None]) -> float:
    """Measure the matrix-product peak; called in a fork."""
    from bench.backends.interface import load_backend
    from bench.measurement.peak import matmul_peak_flops

    library = load_backend(backend)
    library.prepare_process(device)
    return matmul_peak_flops(precision, library.compile_function)


def _peak_file(device: Device, precision: str, cores: int) -> Path:
    return _remembered("peak", [device.name, device.uuid, cores, precision, settings()])


def _usable_gpus(server: ForkServer, uuids: list[str]) -> int:
    """Return how many GPUs the backend can use, from an earlier answer where nothing has changed since."""
    remembered = _remembered("devices", [uuids, *_facts(server.backend)])
    known = _read(remembered)
    if known is not None:
        return int(known)
    try:
        usable = int(server.run(count_gpus, server.backend, on_event=lambda _: None))
    except (ServerDiedError, WorkDiedError, WorkFailedError) as error:
        raise BackendError(f"{server.title} cannot list its GPUs: {error}") from error
    if usable:  # a no is asked anew each time: it may have had a passing cause
        _write(remembered, usable)
    return usable


def count_gpus(backend: str, _send: Callable[[Any], None]) -> int:
    """Return how many GPUs the backend can use; called in a fork."""
    from bench.backends.interface import load_backend

    return load_backend(backend).count_gpus()


def _facts(backend: str) -> list[Any]:
    """Return what such answers depend on: the driver, the backend, and the CUDA libraries beside it."""
    starts = (*BACKENDS[backend].packages, "nvidia-")
    packages = sorted(
        f"{name} {distribution.version}"
        for distribution in importlib.metadata.distributions()
        if (name := distribution.metadata["Name"] or "").startswith(starts)
    )
    return [packages, nvidia_driver(), os.environ.get("LD_LIBRARY_PATH", "")]


def _remembered(what: str, facts: list[Any]) -> Path:
    """Return the file in the user's cache that holds an answer which depends on these facts."""
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return default_cache_dir() / f"{what}-{digest}.json"


def _read(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, value: float) -> None:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(value))
