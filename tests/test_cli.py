"""The other commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import bench as package
from tests.conftest import command


def test_the_console_script_and_the_module_are_the_same():
    script_path = Path(sys.executable).with_name("bench")
    script = subprocess.run([script_path, "--version"], capture_output=True, text=True, check=True)
    module = subprocess.run([sys.executable, "-m", "bench", "--version"], capture_output=True, text=True, check=True)
    assert script.stdout == module.stdout == f"bench {package.__version__}\n"


@pytest.mark.parametrize("name", ["", "run", "report", "prepare", "list", "doctor"])
def test_every_command_has_help_with_examples(bench, name):
    code, out, _ = bench(*([name] if name else []), "--help")
    assert code == 0
    assert f"  bench {name}".rstrip() in out.partition("examples:")[2]


def test_no_command_is_wrong_usage(bench):
    assert bench()[0] == 2


def test_list_shows_plugins_with_their_parameters(bench, plugins):
    code, out, _ = bench("list", "--plugins", plugins)
    assert code == 0
    architectures, datasets = out.split("datasets:")
    assert "tiny_net             A tiny net for tests." in architectures
    assert "parameters: units=8" in architectures
    assert "digits" in datasets
    assert "parameters: size=32, channels=3, classes=10, number=5000" in datasets
    code, out, _ = bench("list", "datasets")
    assert "architectures" not in out


def test_list_shows_broken_plugins_among_the_others(bench, plugins):
    (plugins / "architectures" / "broken.py").write_text("def build(:\n")
    code, out, _ = bench("list", "--plugins", plugins)
    assert code == 1
    assert "broken               BROKEN: " in out
    assert "syntax error in line 1" in out
    assert "baseline_cnn" in out


def test_prepare_caches_and_says_what_it_found(bench, plugins):
    code, out, err = bench("prepare", "tiny_data", "tiny_data:number=40", "--plugins", plugins)
    assert code == 0, err
    assert "tiny_data: 64 train, 20 test images of 8×8×1, 4 classes; ready" in out
    assert "tiny_data:number=40: 40 train" in out
    assert bench("prepare", "tiny_data", "--plugins", plugins, "--quiet") == (0, "", "")


def test_prepare_reports_what_a_plugin_does_wrong(bench, plugins):
    path = plugins / "datasets" / "tiny_data.py"
    path.write_text(path.read_text().replace("np.uint8", "np.float32"))
    code, _, err = bench("prepare", "tiny_data", "--plugins", plugins)
    assert code == 2
    assert "images must be uint8 N×H×W×C, got float32" in err


def test_prepare_survives_a_plugin_that_kills_its_process(bench, plugins):
    path = plugins / "datasets" / "tiny_data.py"
    path.write_text(path.read_text().replace("    def draw", "    import os; os._exit(9)\n    def draw", 1))
    code, _, err = bench("prepare", "tiny_data", "--plugins", plugins)
    assert code == 2
    assert "data set tiny_data cannot be prepared: the process ended with exit code 9" in err


def test_prepare_decodes_real_data_with_progress(bench, real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    code, out, err = bench("prepare", "fashion_mnist", "--data-dir", real_data)
    assert code == 0, err
    assert "decoding fashion_mnist train: 60,000 of 60,000" in out
    assert "fashion_mnist: 60,000 train, 10,000 test images of 28×28×1, 10 classes; ready" in out
    code, out, _ = bench("prepare", "fashion_mnist", "--data-dir", real_data)
    assert "decoding" not in out


def test_output_that_nobody_reads_any_more_is_no_traceback():
    process = command("list")
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == ""


def test_report_makes_the_tables_anew(run, bench, tmp_path):
    run()
    results = tmp_path / "results"
    before = (results / "leaderboard.csv").read_bytes()
    for name in ("leaderboard.csv", "leaderboard.md", "trials.parquet"):
        (results / name).unlink()
    code, out, _ = bench("report", "--results", results)
    assert code == 0
    assert "tiny_net" in out
    assert (results / "leaderboard.csv").read_bytes() == before


def test_report_without_records_says_what_to_do(bench, tmp_path):
    code, _, err = bench("report", "--results", tmp_path)
    assert code == 2
    assert f"no records in {tmp_path}: `bench run` makes some, --results names another folder." in err


def test_doctor_shows_what_there_is(bench, tmp_path):
    code, out, err = bench("doctor", "--data-dir", tmp_path)
    assert code == 0, err
    for word in ("Python", "packages", "TensorFlow", "trains on", "GPUs", "auto precision", "free disk"):
        assert word in out
    assert re.search(r"matrix products: [\d,]+ GFLOP/s float32, [\d,]+ GFLOP/s mixed_bfloat16", out)
    assert f"{tmp_path}: no data sets" in out.replace("\n", "")
    assert "damaged" not in out
