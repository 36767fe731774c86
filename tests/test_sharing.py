# ruff: noqa: N802 - the fakes have NVML's names
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from bench.environment import usable_cores
from bench.measurement.sharing import CpuReading, SharingRecorder, read_cpu

BUSY = "import time; end = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
CORES = usable_cores()


class FakeNvml:
    """A GPU whose processes and event reasons change from look to look."""

    class NVMLError(Exception):
        pass

    def __init__(self, processes=((),), reasons=(0,), supported=True):
        self.processes, self.reasons, self.supported = list(processes), list(reasons), supported

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid != "GPU-1" or not self.supported:
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        now = self.processes.pop(0) if len(self.processes) > 1 else self.processes[0]
        return [SimpleNamespace(pid=pid) for pid in now]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):
        return []

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self.reasons.pop(0) if len(self.reasons) > 1 else self.reasons[0]


def shared(after, before=None, **options):
    """What is recorded between two readings."""
    readings = iter([before or CpuReading(0.0, 0.0, 0.0, 0.0, 0), after])
    recorder = SharingRecorder(read=lambda: next(readings), **options)
    recorder.start()
    return recorder.stop()


@pytest.fixture
def strangers():
    """Busy processes that are nobody's children here, on an eighth of the cores or more."""
    script = 'for i in $(seq "$2"); do "$0" -c "$1" >/dev/null 2>&1 & echo $!; done'
    command = ["sh", "-c", script, sys.executable, BUSY, str(CORES // 8 + 1)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    processes = [psutil.Process(int(pid)) for pid in listed.split()]
    yield processes
    for process in processes:
        process.kill()


def test_a_busy_other_process_is_seen(strangers):
    def used():
        return sum(process.cpu_times().user + process.cpu_times().system for process in strangers)

    recorder = SharingRecorder()
    recorder.start()
    start = used()
    while used() - start < 0.5 * CORES * 0.1 + 0.5:
        time.sleep(0.05)
    least = used() - start
    sharing = recorder.stop()
    assert sharing.other_cpu_share * CORES * sharing.seconds >= 0.9 * least - 0.05
    assert sharing.seconds * CORES >= least
    if sharing.other_cpu_share > 0.05:  # less, where much else runs and the strangers hardly get a turn
        assert any("other processes used" in note for note in sharing.notes)


def test_children_are_no_others():
    before = read_cpu()
    child = subprocess.Popen([sys.executable, "-c", BUSY])
    times = psutil.Process(child.pid)
    while times.cpu_times().user < 0.5:
        time.sleep(0.05)
    living = read_cpu()
    child.kill()
    child.wait()
    ended = read_cpu()
    assert living.own - before.own >= 0.4
    assert ended.own - before.own >= 0.4


def test_real_counters_grow_and_shares_stay_within_the_capacity():
    recorder = SharingRecorder()
    recorder.start()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    sharing = recorder.stop()
    assert sharing.seconds >= 0.3
    assert 0 <= sharing.other_cpu_share <= 1.1  # counters tick every 10 ms
    assert sharing.gpu_processes is None
    assert sharing.gpu_throttle_reasons is None


def test_a_quiet_machine_gives_no_note():
    sharing = shared(CpuReading(10.0, 5.0 + 0.04 * 10 * CORES, 5.0, 0.005 * 10 * CORES, 0))
    assert sharing.other_cpu_share == pytest.approx(0.04)
    assert sharing.steal_share == pytest.approx(0.005)
    assert sharing.notes == ()


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (CpuReading(10.0, 0.3 * 10 * CORES + 5, 5.0, 0.0, 0), f"used 30% of the {CORES} cores"),
        (CpuReading(10.0, 5.0, 5.0, 0.02 * 10 * CORES, 0), "hypervisor took 2.0%"),
        (CpuReading(10.0, 5.0, 5.0, 0.0, 7), "heat, counted 7 times"),
    ],
)
def test_each_disturbance_is_a_note_with_its_figure(after, words):
    (note,) = shared(after).notes
    assert words in note


def test_own_work_on_all_cores_is_no_disturbance():
    sharing = shared(CpuReading(10.0, 10.0 * CORES, 10.0 * CORES + 0.02, 0.0, 0))
    assert sharing.other_cpu_share == 0
    assert sharing.notes == ()


def test_what_the_system_does_not_tell_is_none():
    sharing = shared(CpuReading(10.0, 5.0, 5.0), before=CpuReading(0.0, 0.0, 0.0))
    assert (sharing.steal_share, sharing.cpu_throttled) == (None, None)
    assert sharing.notes == ()


def test_no_time_gives_no_share():
    assert shared(CpuReading(0.0, 0.0, 0.0)).other_cpu_share is None


def test_a_system_without_linux_interfaces_is_read_all_the_same(monkeypatch, tmp_path):
    times = SimpleNamespace(user=3.0, nice=0.0, system=1.0, idle=9.0)  # psutil's fields on macOS
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [times, times])
    monkeypatch.delattr(os, "sched_getaffinity")
    reading = read_cpu(tmp_path / "absent")
    assert (reading.busy, reading.steal, reading.throttled) == (8.0, None, None)


def test_throttling_is_counted_over_all_cores(tmp_path):
    for core, counts in enumerate([(2, 1), (3, 0)]):
        folder = tmp_path / f"cpu{core}" / "thermal_throttle"
        folder.mkdir(parents=True)
        for name, count in zip(("core", "package"), counts, strict=True):
            (folder / f"{name}_throttle_count").write_text(f"{count}\n")
            (folder / f"{name}_throttle_total_time_ms").write_text("99\n")
    assert read_cpu(tmp_path).throttled == 6


def test_stopping_before_starting_is_an_error():
    with pytest.raises(RuntimeError, match="start"):
        SharingRecorder().stop()


def test_another_process_on_the_gpu_is_named(strangers):
    other = strangers[0].pid
    nvml = FakeNvml([[os.getpid()], [os.getpid(), other], [os.getpid()]])
    recorder = SharingRecorder("GPU-1", nvml=nvml)
    recorder.start()
    recorder.sample()
    sharing = recorder.stop()
    assert sharing.gpu_processes == (other,)
    assert any(str(other) in note for note in sharing.notes)


def test_in_a_container_one_unknown_number_is_this_process():
    absent = max(psutil.pids()) + 2_000_000
    after = CpuReading(10.0, 0.0, 0.0)
    assert shared(after, gpu_uuid="GPU-1", nvml=FakeNvml([[absent]])).gpu_processes == ()
    assert shared(after, gpu_uuid="GPU-1", nvml=FakeNvml([[absent, absent + 1]])).gpu_processes == (absent,)


def test_lowered_clocks_are_explained_and_idle_clocks_are_not():
    after = CpuReading(10.0, 0.0, 0.0)
    idle = shared(after, gpu_uuid="GPU-1", nvml=FakeNvml(reasons=[0x1]))
    assert idle.gpu_throttle_reasons == ()
    assert idle.notes == ()
    hot = shared(after, gpu_uuid="GPU-1", nvml=FakeNvml(reasons=[0x1, 0x4 | 0x20]))
    assert hot.gpu_throttle_reasons == ("thermal slowdown by the driver",)
    (note,) = hot.notes
    assert "thermal slowdown by the driver" in note


def test_a_gpu_that_does_not_answer_is_unknown():
    sharing = shared(CpuReading(10.0, 0.0, 0.0), gpu_uuid="GPU-1", nvml=FakeNvml(supported=False))
    assert (sharing.gpu_processes, sharing.gpu_throttle_reasons) == (None, None)


def test_starting_again_forgets():
    nvml = FakeNvml(reasons=[0x40, 0x40, 0x0])
    readings = iter([CpuReading(0.0, 0.0, 0.0)] * 4)
    recorder = SharingRecorder("GPU-1", nvml=nvml, read=lambda: next(readings))
    recorder.start()
    assert recorder.stop().gpu_throttle_reasons == ("thermal slowdown by the hardware",)
    recorder.start()
    assert recorder.stop().gpu_throttle_reasons == ()
