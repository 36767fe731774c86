"""Who else used the machine while something was timed: other processes, the hypervisor, heat, another user's GPU work.

Linux first. What a system does not tell is None, on macOS most of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environment import usable_cores

MOST_OTHER_SHARE = 0.05
MOST_STEAL_SHARE = 0.01
SYSFS_CPUS = Path("/sys/devices/system/cpu")
GPU_SLOWDOWNS = {  # bits of nvmlDeviceGetCurrentClocksEventReasons; not the power cap, which any busy GPU meets
    0x08: "hardware slowdown",
    0x20: "thermal slowdown by the driver",
    0x40: "thermal slowdown by the hardware",
    0x80: "power brake",
}


@dataclass(frozen=True)
class CpuReading:
    """Counters of the usable cores, seconds since some start: take the difference of two readings.

    Attributes:
        seconds: of the wall clock.
        busy: CPU time of all processes and interrupts on the usable cores.
        own: CPU time of this process and its descendants.
        steal: time for which a hypervisor ran others, or None.
        throttled: how often a core or package slowed down for heat, or None.

    """

    seconds: float
    busy: float
    own: float
    steal: float | None = None
    throttled: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What else went on between `start` and `stop`; None where it cannot be known.

    Attributes:
        seconds: from start to stop.
        cores: that this process may use; the shares are of their time.
        load_average: over the last minute, at the end; this process counts.
        other_cpu_share: CPU time of processes other than this one and its descendants, as a fraction. The command that
            waits for this process counts as another.
        steal_share: time that the hypervisor gave to others, as a fraction.
        cpu_throttled: how often cores and packages slowed down for heat, all counters together.
        gpu_processes: numbers of other processes seen on the GPU.
        gpu_throttle_reasons: why the GPU was seen with lowered clocks.

    """

    seconds: float
    cores: int
    load_average: float | None
    other_cpu_share: float | None
    steal_share: float | None
    cpu_throttled: int | None
    gpu_processes: tuple[int, ...] | None
    gpu_throttle_reasons: tuple[str, ...] | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What may have slowed down the timing, a sentence each; none where the machine was quiet."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        if self.other_cpu_share is not None and self.other_cpu_share > MOST_OTHER_SHARE:
            load = "" if self.load_average is None else f" (load average {self.load_average:.1f})"
            yield f"other processes used {self.other_cpu_share:.0%} of the {self.cores} cores{load}"
        if self.steal_share is not None and self.steal_share > MOST_STEAL_SHARE:
            yield f"the hypervisor took {self.steal_share:.1%} of the time of the {self.cores} cores"
        if self.cpu_throttled:
            yield f"the processor slowed down for heat, counted {self.cpu_throttled} times"
        if self.gpu_processes:
            yield f"other processes were on the GPU: {', '.join(map(str, self.gpu_processes))}"
        if self.gpu_throttle_reasons:
            yield f"the GPU lowered its clocks: {', '.join(self.gpu_throttle_reasons)}"


class SharingRecorder:
    """Watches the machine from `start` to `stop`; `sample` in between looks at the GPU once more.

    Processor time comes from counters, so none of it is missed. GPU processes and clocks are seen only when looked at.
    """

    def __init__(self, gpu_uuid: str = "", *, nvml: Any = None, read: Callable[[], CpuReading] | None = None) -> None:
        self._read = read or read_cpu
        self._gpu = GpuWatch(gpu_uuid, nvml or _load_nvml()) if gpu_uuid else None
        self._started: CpuReading | None = None

    def start(self) -> None:
        """Begin, forgetting what was seen before."""
        if self._gpu:
            self._gpu.forget()
        self.sample()
        self._started = self._read()

    def sample(self) -> None:
        """Look at the GPU's processes and clocks."""
        if self._gpu:
            self._gpu.look()

    def stop(self) -> Sharing:
        """Return what went on since `start`."""
        if self._started is None:
            raise RuntimeError("the recorder was not started: call start() first.")
        before, after = self._started, self._read()
        self.sample()
        cores, seconds = usable_cores(), after.seconds - before.seconds
        capacity = seconds * cores
        other = (after.busy - before.busy) - (after.own - before.own)
        steal = _difference(before.steal, after.steal)
        throttled = _difference(before.throttled, after.throttled)
        return Sharing(
            seconds=seconds,
            cores=cores,
            load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            other_cpu_share=max(other, 0.0) / capacity if capacity > 0 else None,
            steal_share=steal / capacity if steal is not None and capacity > 0 else None,
            cpu_throttled=None if throttled is None else int(throttled),
            gpu_processes=self._gpu.others() if self._gpu else None,
            gpu_throttle_reasons=self._gpu.reasons() if self._gpu else None,
        )


def read_cpu(sysfs: Path = SYSFS_CPUS) -> CpuReading:
    """Return the counters of the usable cores now."""
    import psutil

    times = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        times = [times[core] for core in os.sched_getaffinity(0) if core < len(times)]
    fields = ("user", "nice", "system", "irq", "softirq")
    return CpuReading(
        seconds=time.perf_counter(),
        busy=sum(getattr(each, field, 0.0) for each in times for field in fields),
        own=sum(map(_cpu_seconds, own_processes())),
        steal=sum(each.steal for each in times) if all(hasattr(each, "steal") for each in times) else None,
        throttled=_throttle_count(sysfs),
    )


def own_processes() -> list[Any]:
    """Return this process and its living descendants, as psutil's."""
    import psutil

    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def _cpu_seconds(process: Any) -> float:
    """Return the CPU time of a process and of those of its children that have ended; 0 if it is gone."""
    import psutil

    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _throttle_count(sysfs: Path) -> int | None:
    try:
        counts = [int(path.read_text()) for path in sysfs.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
    except (OSError, ValueError):
        return None
    return sum(counts) if counts else None


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(after - before, 0)


def _load_nvml() -> Any:
    import pynvml

    return pynvml


class GpuWatch:
    """What NVML shows of one GPU at each look: processes, and why its clocks are lowered."""

    def __init__(self, uuid: str, nvml: Any) -> None:
        self._uuid, self._nvml = uuid, nvml
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._processes: set[int] | None = None
        self._reasons: int | None = None

    def look(self) -> None:
        """Add what is there now; what the driver does not tell stays unknown."""
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            handle = nvml.nvmlDeviceGetHandleByUUID(self._uuid)
            running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            running += nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)
            self._processes = (self._processes or set()) | _foreign({each.pid for each in running})
            self._reasons = (self._reasons or 0) | nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
        except nvml.NVMLError:
            return

    def others(self) -> tuple[int, ...] | None:
        """Return the numbers of other processes that were seen, or None."""
        return None if self._processes is None else tuple(sorted(self._processes))

    def reasons(self) -> tuple[str, ...] | None:
        """Return why clocks were lowered, as far as it slows work down, or None."""
        seen = self._reasons
        return None if seen is None else tuple(name for bit, name in GPU_SLOWDOWNS.items() if seen & bit)


def _foreign(processes: set[int]) -> set[int]:
    """Return those that are not of this process's tree.

    In a container NVML gives the host's numbers, under which this process does not know itself: where none is its own,
    one that does not exist here is taken for it.
    """
    import psutil

    own = {each.pid for each in own_processes()}
    unknown = sorted(pid for pid in processes if not psutil.pid_exists(pid))
    return processes - own if processes & own else processes - set(unknown[-1:])
