import dataclasses
import subprocess

import pytest

from bench import environment
from bench.environment import Device, Gpu, commit, describe, resolve_precision, visible_gpus
from bench.errors import BackendError, DataError
from bench.execution import devices
from bench.execution.devices import matmul_peak, remembered_peak, resolve_devices
from bench.execution.failures import failure_of
from bench.execution.planning import Policy, Trial, remaining
from bench.execution.work import ANYWHERE, Failure, WorkDiedError, WorkFailedError
from bench.records import Reason, Status
from tests.test_report import failure, trial
from tests.test_spec import SPEC

GPUS = tuple(Gpu(name, (8, 0), 2**30, f"GPU-{name}") for name in ("a", "b", "c"))


def gpu(major, minor=0):
    return Device("GPU", "a GPU", compute_capability=(major, minor))


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (Device("CPU", "a processor"), "float32"),
        (gpu(6, 1), "float32"),
        (gpu(7), "mixed_float16"),
        (gpu(7, 5), "mixed_float16"),
        (gpu(8), "mixed_bfloat16"),
        (gpu(9), "mixed_bfloat16"),
    ],
)
def test_auto_precision_follows_the_compute_capability(device, expected):
    assert resolve_precision("auto", device) == expected


def test_a_precision_that_was_asked_for_is_taken_or_refused():
    assert resolve_precision("mixed_float16", Device("CPU", "a processor")) == "mixed_float16"
    assert resolve_precision("mixed_float16", gpu(7)) == "mixed_float16"
    expected = r"8\.0 or later; a GPU has 7\.5\. Possible there: --precision float32 or mixed_float16\."
    with pytest.raises(BackendError, match=f"mixed_bfloat16 needs a GPU of compute capability {expected}"):
        resolve_precision("mixed_bfloat16", gpu(7, 5))
    with pytest.raises(BackendError, match=r"7\.0 or later; a GPU has 6\.1\. Possible there: --precision float32\."):
        resolve_precision("mixed_float16", gpu(6, 1))


@pytest.mark.parametrize(
    ("variable", "names"),
    [(None, "abc"), ("", ""), ("1", "b"), ("2,0", "ca"), ("GPU-b", "b"), ("0,7,1", "a"), ("-1", "")],
)
def test_visible_gpus_are_those_that_cuda_would_show(monkeypatch, variable, names):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert "".join(each.name for each in visible_gpus(GPUS)) == names


class Server:
    """Answers as the fork server would, and counts how often it was asked."""

    backend, title = "tensorflow", "TensorFlow"

    def __init__(self, answer):
        self.answer, self.asked = answer, 0

    def run(self, *_, **__):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def with_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "find_gpus", lambda: GPUS)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))


def test_a_gpu_that_tensorflow_can_use_is_used_and_remembered(with_gpus):
    server = Server(1)
    for _ in range(2):
        device = resolve_devices(server)[0]
        assert (device.kind, device.name, device.compute_capability) == ("GPU", "a", (8, 0))
    assert server.asked == 1


def test_a_gpu_that_tensorflow_cannot_use_is_noted_and_asked_for_again(with_gpus):
    server = Server(0)
    for _ in range(2):
        device = resolve_devices(server)[0]
        assert device.kind == "CPU"
        assert "a is there, but this TensorFlow cannot use it: pip install" in device.note
    assert server.asked == 2


def test_a_tensorflow_that_dies_listing_its_gpus_is_one_message(with_gpus):
    with pytest.raises(BackendError, match="TensorFlow cannot list its GPUs: the process ended with exit code -11"):
        resolve_devices(Server(WorkDiedError(-11)))


def test_every_gpu_that_the_backend_can_use_is_a_device(monkeypatch, with_gpus):
    more = [dataclasses.replace(GPUS[0], uuid=f"GPU-{number}") for number in range(3)]
    monkeypatch.setattr(devices, "find_gpus", lambda: tuple(more))
    assert [device.uuid for device in resolve_devices(Server(2))] == ["GPU-0", "GPU-1"]


def test_of_all_measured_peaks_the_greatest_is_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    server, device = Server(5e9), Device("CPU", "a processor")

    def measured(precision="float32", cores=2):
        return matmul_peak(server, device, precision, ANYWHERE, cores)

    assert remembered_peak(device, "float32", 2) is None
    assert measured() == 5e9
    server.answer = 4e9  # something disturbed it
    assert measured() == remembered_peak(device, "float32", 2) == 5e9
    assert measured("mixed_bfloat16") == 4e9
    assert measured(cores=1) == 4e9
    server.answer = WorkDiedError(-9)
    with pytest.raises(BackendError, match="the matrix-product peak of a processor cannot be measured"):
        measured()


def test_without_a_gpu_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(devices, "find_gpus", lambda: ())
    server = Server(1)
    assert resolve_devices(server)[0].kind == "CPU"
    assert server.asked == 0


def test_variables_that_change_results_or_speed_make_another_environment(monkeypatch):
    plain = describe(Device("CPU", "a processor"), "tensorflow")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", "terraform's")
    changed = describe(Device("CPU", "a processor"), "tensorflow")
    assert changed.settings == {**plain.settings, "TF_ENABLE_ONEDNN_OPTS": "0"}
    assert changed.software == f"{plain.software}, TF_ENABLE_ONEDNN_OPTS=0"


def test_somebody_elses_repository_gives_no_commit(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "site-packages" / "bench" / "environment.py"))
    (tmp_path / "site-packages" / "bench").mkdir(parents=True)
    assert commit.__wrapped__() == ""


@pytest.mark.parametrize(
    ("error", "device", "reason"),
    [
        (DataError("no"), "CPU", Reason.BAD_DATA),
        (WorkFailedError(Failure("ResourceExhaustedError", "OOM", "", None)), "GPU", Reason.OUT_OF_MEMORY_DEVICE),
        (
            WorkFailedError(Failure("ResourceExhaustedError", "by allocator cpu", "", None)),
            "GPU",
            Reason.OUT_OF_MEMORY_HOST,
        ),
        (WorkFailedError(Failure("MemoryError", "", "", None)), "GPU", Reason.OUT_OF_MEMORY_HOST),
        (WorkFailedError(Failure("KeyError", "x", "", None)), "CPU", Reason.EXCEPTION),
        (WorkDiedError(255), "CPU", Reason.PROCESS_EXIT),
        (RuntimeError("of our own"), "CPU", Reason.EXCEPTION),
    ],
)
def test_every_failure_has_its_reason(error, device, reason):
    ended = failure_of(error, SPEC, device)
    assert (ended["status"], ended["reason"]) == (Status.FAILED, reason)


def test_only_this_machines_last_ended_attempts_count():
    todo = [Trial(SPEC, None, None, None)]
    mine = trial(3)
    machine = mine.environment.machine
    assert mine.trial_id == SPEC.trial_id
    interrupted = failure(3, Status.INTERRUPTED)
    machine = {machine}
    assert remaining(todo, [], machine, Policy()) == todo
    assert remaining(todo, [mine], {"another machine"}, Policy()) == todo
    assert remaining(todo, [interrupted], machine, Policy()) == todo
    assert remaining(todo, [mine, interrupted], machine, Policy()) == []  # a forced run that was cut off takes nothing
    assert remaining(todo, [failure(3)], machine, Policy()) == []
    assert remaining(todo, [failure(3)], machine, Policy(retry_failed=True)) == todo
    assert remaining(todo, [mine], machine, Policy(force=True)) == todo
