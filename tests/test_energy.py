# ruff: noqa: N802 - the fakes have NVML's names
import pytest

from bench.measurement.energy import Energy, EnergyMeter, rapl_packages


class FakeNvml:
    class NVMLError(Exception):
        pass

    def __init__(self, millijoules, supported=True):
        self.millijoules, self.supported = millijoules, supported

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid != "GPU-1":
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if not self.supported:
            raise self.NVMLError
        return self.millijoules


def zone(powercap, name, label, energy, most=262_143_328_850):
    folder = powercap / name
    folder.mkdir()
    (folder / "name").write_text(f"{label}\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def spend(folder, energy):
    (folder / "energy_uj").write_text(f"{energy}\n")


def test_only_packages_count(tmp_path):
    for name, label in {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
    }.items():
        zone(tmp_path, name, label, 0)
    assert [each.folder.name for each in rapl_packages(tmp_path)] == ["intel-rapl:0", "intel-rapl:1"]


def test_packages_add_up(tmp_path):
    first, second = (
        zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000),
        zone(tmp_path, "intel-rapl:1", "package-1", 1_000_000),
    )
    meter = EnergyMeter(powercap=tmp_path)
    meter.start()
    spend(first, 12_000_000)
    spend(second, 1_500_000)
    assert meter.stop() == Energy(pytest.approx(7.5), "cpu package")


def test_a_counter_that_wrapped_around_goes_on(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 90_000_000, most=100_000_000)
    meter = EnergyMeter(powercap=tmp_path)
    meter.start()
    spend(folder, 20_000_000)
    meter.sample()
    spend(folder, 95_000_000)
    meter.sample()
    spend(folder, 5_000_000)
    assert meter.stop() == Energy(pytest.approx(30 + 75 + 10), "cpu package")


def test_a_gpu_counts_millijoules(tmp_path):
    nvml = FakeNvml(1_000_000)
    meter = EnergyMeter("GPU-1", nvml=nvml, powercap=tmp_path)
    meter.start()
    nvml.millijoules += 2_500
    assert meter.stop() == Energy(pytest.approx(2.5), "gpu")


def test_gpu_and_packages_are_both_named(tmp_path):
    folder, nvml = zone(tmp_path, "intel-rapl:0", "package-0", 0), FakeNvml(0)
    meter = EnergyMeter("GPU-1", nvml=nvml, powercap=tmp_path)
    meter.start()
    spend(folder, 1_000_000)
    nvml.millijoules = 4_000
    assert meter.stop() == Energy(pytest.approx(5.0), "gpu+cpu package")


def test_a_gpu_that_does_not_count_leaves_the_packages(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter("GPU-1", nvml=FakeNvml(0, supported=False), powercap=tmp_path)
    meter.start()
    spend(folder, 1_000_000)
    assert meter.stop() == Energy(pytest.approx(1.0), "cpu package")


def test_where_nothing_counts_there_is_no_figure(tmp_path):
    meter = EnergyMeter(powercap=tmp_path / "absent")
    meter.start()
    assert meter.stop() is None


def test_an_unreadable_package_is_no_figure(tmp_path):
    (zone(tmp_path, "intel-rapl:0", "package-0", 0) / "energy_uj").unlink()
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    meter = EnergyMeter(powercap=tmp_path)
    meter.start()
    spend(second, 3_000_000)
    assert meter.stop() is None


def test_a_package_that_became_unreadable_is_no_figure(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(powercap=tmp_path)
    meter.start()
    spend(folder, "no number")
    meter.sample()
    spend(folder, 3_000_000)
    assert meter.stop() is None


def test_a_counter_that_stands_still_is_no_figure(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 7)
    meter = EnergyMeter(powercap=tmp_path)
    meter.start()
    assert meter.stop() is None


def test_starting_again_begins_at_zero(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = EnergyMeter(powercap=tmp_path)
    meter.start()
    spend(folder, 1_000_000)
    meter.start()
    spend(folder, 3_000_000)
    assert meter.stop() == Energy(pytest.approx(2.0), "cpu package")
