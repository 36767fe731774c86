"""Energy in joules between two moments, where the machine counts it: the GPU's own counter, and RAPL of the processor.

RAPL counts whole packages: what other processes burn is part of it. Where nothing is counted the answer is None, not 0.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Energy:
    """Joules, and what they were counted of: `gpu`, `cpu package` or `gpu+cpu package`."""

    joules: float
    scope: str


class Counter(Protocol):
    """A counter of energy that only grows, but for wrapping around."""

    @property
    def scope(self) -> str:
        """What it counts."""

    @property
    def wraps_at(self) -> float:
        """The joules at which it begins anew; 0 if it never does."""

    def read(self) -> float | None:
        """Return joules since some moment; None where it cannot be read."""


@dataclass(frozen=True)
class RaplPackage:
    """A processor package, in Linux's powercap interface: `energy_uj` in µJ from 0 to `max_energy_range_uj`."""

    folder: Path
    scope: str = "cpu package"

    @property
    def wraps_at(self) -> float:
        """The joules at which it begins anew."""
        return (_integer(self.folder / "max_energy_range_uj") or 0) / 1e6

    def read(self) -> float | None:
        """Return joules; None without the right to read them, which most systems give to root alone."""
        value = _integer(self.folder / "energy_uj")
        return None if value is None else value / 1e6


@dataclass(frozen=True)
class GpuCounter:
    """A GPU's counter (NVML, Volta and later), in mJ since the driver was loaded."""

    uuid: str
    nvml: Any
    scope: str = "gpu"
    wraps_at: float = 0.0

    def read(self) -> float | None:
        """Return joules; None where the GPU does not count them."""
        try:
            self.nvml.nvmlInit()
            handle = self.nvml.nvmlDeviceGetHandleByUUID(self.uuid)
            return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except self.nvml.NVMLError:
            return None


class _Tally:
    """The joules of one counter since its first reading; None once a reading failed."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.last = counter.read()
        self.joules = None if self.last is None else 0.0

    def sample(self) -> None:
        before, self.last = self.last, self.counter.read()
        if before is None or self.last is None or self.joules is None:
            self.joules = None
            return
        wrapped = self.counter.wraps_at if self.last < before else 0.0
        self.joules += self.last - before + wrapped


class EnergyMeter:
    """Adds up energy from `start` to `stop`.

    A package's counter wraps around after minutes at full power (65 to 262 kJ). One wrap between two readings is seen,
    a second is not: call `sample` at least every few minutes, for instance after each epoch.
    """

    def __init__(self, gpu_uuid: str = "", *, nvml: Any = None, powercap: Path = POWERCAP) -> None:
        self._counters: list[Counter] = [*rapl_packages(powercap)]
        if gpu_uuid:
            self._counters.append(GpuCounter(gpu_uuid, nvml or _load_nvml()))
        self._tallies: list[_Tally] = []

    def start(self) -> None:
        """Begin at 0."""
        self._tallies = [_Tally(each) for each in self._counters]

    def sample(self) -> None:
        """Read all counters, so that no wrap is missed."""
        for each in self._tallies:
            each.sample()

    def stop(self) -> Energy | None:
        """Return the energy since `start`; None where nothing counted."""
        self.sample()
        sums = {scope: self._joules(scope) for scope in ("gpu", "cpu package")}
        known = {scope: joules for scope, joules in sums.items() if joules}
        return Energy(sum(known.values()), "+".join(known)) if known else None

    def _joules(self, scope: str) -> float | None:
        """Return the sum of the scope's counters; None if one is missing, since a part of the packages is no figure."""
        joules = [each.joules for each in self._tallies if each.counter.scope == scope]
        known = [each for each in joules if each is not None]
        return sum(known) if len(known) == len(joules) else None


def rapl_packages(powercap: Path = POWERCAP) -> list[RaplPackage]:
    """Return the processor's packages: not their parts (`intel-rapl:0:0`), not the platform (`psys`)."""
    found = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        with suppress(OSError):
            if folder.name.count(":") == 1 and (folder / "name").read_text().startswith("package"):
                found.append(RaplPackage(folder))
    return found


def _integer(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _load_nvml() -> Any:
    import pynvml

    return pynvml
