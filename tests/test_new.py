"""`bench new`: what it writes works as it is, and nothing is overwritten."""

import shutil
import subprocess
import sys

import pytest

from tests.test_layering import PACKAGE


@pytest.mark.parametrize("kind", ["architecture", "dataset"])
def test_what_it_writes_is_sound_as_it_is(bench, tmp_path, kind):
    code, out, err = bench("new", kind, "my_own", "--plugins", tmp_path)
    assert code == 0, err
    path = tmp_path / f"{kind}s" / "my_own.py"
    assert f"written: {path} (the folder {path.parent} is new)" in out
    assert f"  bench check my_own --plugins {tmp_path}" in out
    assert "$" not in path.read_text()
    code, out, err = bench("check", "my_own", "--plugins", tmp_path)
    assert code == 0, out + err
    assert "all well" in out


@pytest.mark.parametrize("kind", ["architecture", "dataset"])
def test_what_it_writes_passes_the_linter(bench, tmp_path, kind):
    if not (PACKAGE.parent / "pyproject.toml").is_file() or shutil.which("ruff", path=sys.prefix + "/bin") is None:
        pytest.skip("needs a checkout and ruff")
    bench("new", kind, "my_own", "--plugins", tmp_path)
    text = (tmp_path / f"{kind}s" / "my_own.py").read_text()
    for command in (["check"], ["format", "--check"]):
        ended = subprocess.run(
            [sys.prefix + "/bin/ruff", *command, "--stdin-filename", f"{kind}s/my_own.py", "-"],
            input=text, cwd=PACKAGE.parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout


def test_a_new_architecture_trains_beside_the_baseline(bench, run, plugins, tmp_path, records):
    assert bench("new", "architecture", "my_own", "--plugins", plugins)[0] == 0
    code, out, err = run(arch="my_own:width=4 tiny_net")
    assert code == 0, out + err
    assert {record.spec.architecture.label for record in records()} == {"my_own:width=4", "tiny_net"}


def test_in_a_folder_that_is_searched_anyway_no_folder_need_be_named(bench, tmp_path, monkeypatch):
    (tmp_path / "architectures").mkdir()
    monkeypatch.setattr("bench.plugins._builtin_folder", lambda kind: (tmp_path / "architectures").resolve())
    monkeypatch.chdir(tmp_path)
    code, out, err = bench("new", "architecture", "my_own")
    assert code == 0, err
    assert "bench check my_own\n" in out
    assert "is new" not in out


def test_nothing_is_overwritten(bench, plugins):
    path = plugins / "architectures" / "tiny_net.py"
    before = path.read_text()
    code, _, err = bench("new", "architecture", "tiny_net", "--plugins", plugins)
    assert code == 2
    assert f"{path} is there already, and is left as it is" in err
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("name", "hint"),
    [("My-Net", " Did you mean my_net?"), ("2fast", ""), ("class", ""), ("_hidden", " Did you mean hidden?"), ("", "")],
)
def test_a_name_that_no_plugin_can_have_is_refused(bench, tmp_path, name, hint):
    code, _, err = bench("new", "architecture", name, "--plugins", tmp_path / "mine")
    assert code == 2
    assert f"{name!r} cannot be the name of an architecture: expected lower-case letters, digits and underscores" in err
    assert err.endswith(f"no word of Python.{hint}\n")
    assert not (tmp_path / "mine").exists()


def test_a_name_that_is_taken_is_refused_with_its_file(bench, tmp_path):
    code, _, err = bench("new", "dataset", "digits", "--plugins", tmp_path)
    assert code == 2
    assert "a data set is named 'digits' already: " in err
    assert "digits.py. Take another name." in err


def test_a_folder_that_cannot_be_written_is_an_error(bench, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = bench("new", "dataset", "my_own", "--plugins", tmp_path / "file")
    assert code == 2
    assert "my_own.py cannot be written: Not a directory. Name another folder with --plugins." in err
