"""`bench check`: the contract as a command, which reads like a linter."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY_DATA, TINY_NET


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_sound_architecture_and_a_sound_data_set_are_all_well(bench, plugins):
    code, out, err = bench("check", "tiny_net:units=16", "tiny_data", "--plugins", plugins)
    assert code == 0, out + err
    assert f"architecture tiny_net:units=16 ({plugins / 'architectures' / 'tiny_net.py'})" in out
    assert "  ok      saving" in out
    assert "  ok      loading                   64 train, 20 test images of 8x8x1, 4 classes" in out
    assert "all well: 16 checks" in out


def test_what_is_wrong_is_said_with_its_line_and_how_to_mend_it(bench, tmp_path):
    path = write(tmp_path / "net.py", TINY_NET.replace("(num_classes)(x)", '(num_classes, activation="softmax")(x)'))
    code, out, _ = bench("check", path)
    assert code == 1
    assert "  wrong   build" in out
    assert f"{path}: the model's outputs are probabilities" in out
    assert "-> Remove the softmax" in out
    assert "1 finding in 2 checks" in out
    write(path, TINY_NET.replace("    x = keras", "    x = keras.no\n    x = keras", 1))
    code, out, _ = bench("check", path)
    assert code == 1
    assert f"{path}:10: `build` for images of 32x32x3 and 10 classes raised AttributeError" in out


def test_a_file_that_cannot_be_read_is_a_finding_and_starts_no_backend(bench, tmp_path):
    path = write(tmp_path / "architectures" / "net.py", "def build(:\n")
    code, out, _ = bench("check", path)
    assert code == 1
    assert f"{path}:1: syntax error in line 1" in out


def test_a_name_of_both_kinds_is_checked_as_both(bench, plugins):
    write(plugins / "datasets" / "tiny_net.py", TINY_DATA)
    (plugins / "architectures" / "tiny_net.py").write_text("INFO = Architecture()\n")
    code, out, _ = bench("check", "tiny_net", "--plugins", plugins)
    assert code == 1
    assert "architecture tiny_net" in out
    assert "has no function `build`" in out
    assert "dataset tiny_net" in out
    assert "  ok      test images apart" in out


@pytest.mark.parametrize(
    ("folder", "note"),
    [
        ("here", "`bench run` finds it in a folder named datasets: --plugins DIR is for DIR/datasets/*.py"),
        ("datasets", "`bench run` finds it with --plugins "),
    ],
)
def test_a_file_outside_of_the_plugin_folders_is_checked_with_a_note(bench, tmp_path, folder, note):
    path = write(tmp_path / folder / "images.py", TINY_DATA)
    code, out, err = bench("check", f"{path}:number=40")
    assert code == 0, out + err
    assert "dataset images:number=40" in out
    assert note in out


def test_a_file_whose_name_is_taken_is_told_so(bench, tmp_path):
    code, out, _ = bench("check", write(tmp_path / "datasets" / "digits.py", TINY_DATA))
    assert code == 0
    assert "digits.py has this name already: give the file another one before it is used" in out


def test_a_process_that_dies_is_a_finding_of_its_check(bench, tmp_path):
    text = TINY_NET.replace("import keras", "import os\nimport keras", 1).replace(
        "    inputs =", "    os._exit(3)\n    i ="
    )
    code, out, _ = bench("check", write(tmp_path / "net.py", text))
    assert code == 1
    assert "  wrong   build" in out
    assert "this check did not end: the process ended with exit code 3" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("baselin_cnn", "unknown plugin 'baselin_cnn'. Did you mean baseline_cnn"),
        ("~no_such_user/net.py", "~no_such_user/net.py: there is no such user here, or none with a home."),
        ("no_such.py", "no_such.py does not exist. Expected the name of a plugin, or its file."),
        ("baseline_cnn:depth=2", "architecture baseline_cnn has no parameter 'depth'"),
    ],
)
def test_a_name_that_there_is_not_is_wrong_usage(bench, name, message):
    code, _, err = bench("check", name)
    assert code == 2
    assert message in err


def test_what_is_wrong_with_images_is_no_fault_of_a_line(bench, tmp_path):
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    code, out, _ = bench("check", f"folder:{tmp_path / 'photos'}")
    assert code == 1
    assert "folder.py: " in out
    assert "no images" in " ".join(out.split())


def test_a_file_that_is_no_plugin_is_wrong_usage(bench, tmp_path):
    code, _, err = bench("check", write(tmp_path / "notes.py", "print('hello')\n"))
    assert code == 2
    assert "notes.py is no plugin: expected `INFO = Architecture(...)` or `INFO = Dataset(...)` in it" in err


def test_the_commands_own_process_imports_no_backend(tmp_path):
    path = write(tmp_path / "net.py", TINY_NET)
    script = f"""
import sys
from pathlib import Path
from bench.cli.main import main
code = main(["check", {str(path)!r}])
heavy = {{"tensorflow", "keras", "jax", "torch"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else code)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


DOCS = Path(__file__).resolve().parent.parent
BY_HAND = """\
from pathlib import Path

import numpy as np

from bench.api import Dataset, Split, Splits

INFO = Dataset(horizontal_flip=True)


"""


def shown_in(page, beginning):
    """Return the block of Python in a page of the documentation that begins with these words."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(beginning)]
    return found


@pytest.mark.skipif(not (DOCS / "docs").is_dir(), reason="not in a checkout")
@pytest.mark.parametrize(
    ("page", "beginning", "path"),
    [
        ("README.md", '"""Two strided', "architectures/strided_cnn.py"),
        ("docs/writing-plugins.md", '"""Generated 16x16', "datasets/stripes.py"),
        ("docs/writing-plugins.md", "def load(*, data_dir: Path)", "datasets/my_images.py"),
    ],
)
def test_what_the_documentation_shows_passes(bench, tmp_path, page, beginning, path):
    text = shown_in(page, beginning)
    file = write(tmp_path / path, text if text.startswith('"""') else f'"""Images of my own."""\n\n{BY_HAND}{text}')
    labels = np.arange(40) % 2
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 8, 8, 3)).astype(np.uint8)
    parts = {"train_images": images[0], "train_labels": labels, "test_images": images[1], "test_labels": labels}
    np.savez(tmp_path / "my_images.npz", **parts)
    code, out, err = bench("check", file, "--plugins", tmp_path, "--data-dir", tmp_path)
    assert code == 0, out + err
    assert "all well" in out
