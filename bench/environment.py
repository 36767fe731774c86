"""The machine and the software: what a record says of them, and the choice of device and precision.

Nothing here imports TensorFlow: GPUs are asked for through NVML, versions are read from the packages' metadata.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import bench
from bench.errors import BackendError

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
MIXED = {"mixed_bfloat16": (8, 0), "mixed_float16": (7, 0)}  # by preference; the least compute capability of a GPU

SETTINGS = (  # the starts of variables that change results or speed; not all of TF_*, which is Terraform's too
    "DNNL_",
    "JAX_",
    "MKL_",
    "NVIDIA_TF32",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTORCH_",
    "TF_CUDNN_",
    "TF_DETERMINISTIC_",
    "TF_ENABLE_",
    "TF_NUM_",
    "TF_XLA_",
    "TORCH_",
    "XLA_",
)
RESULT_SOURCES = (
    "backends",
    "checkpoints",
    "data/augmentation",
    "data/contents",
    "data/decoding",
    "data/draws",
    "data/folder",
    "data/images",
    "data/jpeg",
    "data/listing",
    "data/pipeline",
    "data/randaugment",
    "data/splits",
    "data/table",
    "data/tfds",
    "data/tfrecords",
    "data/views",
    "evaluation",
    "execution/model",
    "execution/outcome",
    "execution/profile.py",
    "execution/scoring",
    "execution/setup",
    "execution/trial",
    "groups",
    "measurement",
    "optimizers",
    "recipes",
    "schedules",
    "training",
)


@dataclass(frozen=True)
class BackendInfo:
    """A backend: what it is called, the package that must be there, how to install it, and whose versions count."""

    title: str
    package: str
    install: str
    packages: tuple[str, ...]


BACKENDS = {
    "tensorflow": BackendInfo("TensorFlow", "tensorflow", "pip install tensorflow", ("tensorflow",)),
    "jax": BackendInfo("JAX", "jax", 'pip install -e ".[jax]" (or "image-bench[jax]")', ("jax", "jaxlib")),
    "torch": BackendInfo("PyTorch", "torch", 'pip install -e ".[torch]" (or "image-bench[torch]")', ("torch",)),
}
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000" with `docker --cpus=2`
UNDECIDING_PACKAGES = ("tensorflow-datasets",)  # recorded; another version of the others makes another row


@dataclass(frozen=True)
class Gpu:
    """A GPU as NVML sees it."""

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    uuid: str


@dataclass(frozen=True)
class Device:
    """What trials run on: `kind` is CPU or GPU. `note` says why a GPU that is there is not used."""

    kind: str
    name: str
    note: str = ""
    compute_capability: tuple[int, int] | None = None
    memory_bytes: int | None = None
    uuid: str = ""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Hardware and versions, as a record keeps them."""

    machine: str
    device: str
    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]
    os: str
    python: str
    bench: str
    bench_source_hash: str
    commit: str
    packages: dict[str, str]
    hostname: str
    load_average: float | None
    settings: dict[str, str]
    driver: str
    cores_used: int = 0  # of the machine's cores; 0: all of them

    @property
    def software(self) -> str:
        """The versions and settings that make a row of the tables its own, in words."""
        packages = [f"{name} {version}" for name, version in self.packages.items() if name not in UNDECIDING_PACKAGES]
        settings = [f"{name}={value}" for name, value in self.settings.items()]
        driver = [f"driver {self.driver}"] if self.driver else []
        version = f"bench {self.bench}+{self.bench_source_hash[:7]}"
        return ", ".join([version, f"Python {self.python}", *packages, *driver, *settings])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Environment:
        """Return what `to_json` wrote."""
        return cls(**{**value, "gpus": tuple(value["gpus"])})


@cache
def find_gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs that this process may use; none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return visible_gpus(tuple(_read_gpu(pynvml, handle) for handle in handles))
    except pynvml.NVMLError:
        return ()


def _read_gpu(nvml: Any, handle: Any) -> Gpu:
    return Gpu(
        name=nvml.nvmlDeviceGetName(handle),
        compute_capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        memory_bytes=nvml.nvmlDeviceGetMemoryInfo(handle).total,
        uuid=nvml.nvmlDeviceGetUUID(handle),
    )


def visible_gpus(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Return those of the GPUs that CUDA_VISIBLE_DEVICES names, by number or by the start of a UUID."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return gpus
    chosen = []
    for word in filter(None, (word.strip() for word in wanted.split(","))):
        matches = [gpu for number, gpu in enumerate(gpus) if word == str(number) or gpu.uuid.startswith(word)]
        if not matches:
            break  # as CUDA does: what follows an unknown device is not visible
        chosen += matches
    return tuple(chosen)


def resolve_precision(precision: str, device: Device) -> str:
    """Return the precision to train in; `auto` depends on the device's compute capability.

    Raises:
        BackendError: the device cannot do what was asked.

    """
    capability = device.compute_capability
    if precision == "auto":
        return next(
            (name for name, least in MIXED.items() if capability is not None and capability >= least), "float32"
        )
    least = MIXED.get(precision)
    if least is not None and capability is not None and capability < least:
        possible = ["float32", *(name for name, needed in MIXED.items() if capability >= needed)]
        raise BackendError(
            f"{precision} needs a GPU of compute capability {_dotted(least)} or later; {device.name} has "
            f"{_dotted(capability)}. Possible there: --precision {' or '.join(possible)}."
        )
    return precision


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def describe(device: Device, backend: str, cores_used: int = 0) -> Environment:
    """Return what this machine and its software are, for the records of trials on that backend.

    `cores_used` is how many of the machine's cores a trial has; 0 means all.
    """
    import psutil

    cores, memory, gpus = usable_cores(), psutil.virtual_memory().total, find_gpus()
    hardware = [device.name] if device.kind == "GPU" else []
    hardware += [cpu_name(), f"{cores} cores", f"{round(memory / 2**30)} GiB"]
    return Environment(
        machine=", ".join(hardware),
        device=device.kind,
        cpu=cpu_name(),
        cores=cores,
        memory_bytes=memory,
        gpus=tuple(gpu.name for gpu in gpus),
        os=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        bench=bench.__version__,
        bench_source_hash=bench_source_hash(),
        commit=commit(),
        packages=package_versions(backend),
        hostname=platform.node(),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        settings=settings(),
        driver=nvidia_driver() if device.kind == "GPU" else "",
        cores_used=cores_used,
    )


def settings() -> dict[str, str]:
    """Return the environment variables that change results or speed, those that are set."""
    names = (name for name in os.environ if name.startswith(SETTINGS))
    return {name: os.environ[name] for name in sorted(names)}


def nvidia_driver() -> str:
    """Return the version of the NVIDIA driver; empty where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return ""


def core_numbers() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """Return how many cores this process may run on, at most those that its container's quota is worth."""
    cores = len(core_numbers())
    try:
        quota, period = CPU_QUOTA.read_text().split()
        return min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or `max`: no quota
        return cores


@cache
def cpu_name() -> str:
    """Return the processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def package_versions(backend: str) -> dict[str, str]:
    """Return the versions of the packages that matter to a result on that backend, those that are installed."""
    versions = {}
    for name in ("keras", *BACKENDS[backend].packages, "numpy", "pillow", "scikit-learn", *UNDECIDING_PACKAGES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@cache
def bench_source_hash() -> str:
    """Return the SHA-256 of the files here that decide a result, so that seeds of two versions are never averaged."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.startswith(RESULT_SOURCES):
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@cache
def commit() -> str:
    """Return the checkout's commit, with `+changes` where files differ from it; empty outside of a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)  # else it is somebody else's repository
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
