import os
import subprocess
import sys
import textwrap

import pytest

from bench.api import Architecture
from bench.errors import PluginError, UsageError
from bench.plugins import discover, load_module, read_plugin
from bench.store import Store
from tests.conftest import TINY_DATA, TINY_NET, command

RAISES = """
from bench.api import Architecture
INFO = Architecture()
def build(s, n): ...
1 / 0
"""


def write(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "net.py"
    path.write_text(textwrap.dedent(text))
    return path


def test_the_stem_is_the_name_and_the_description_is_read_without_importing(tmp_path):
    path = write(
        tmp_path,
        '''
        """A net (Somebody 2020).

        More words."""
        raise RuntimeError("must not be imported")
        INFO = Architecture(paper="https://example.org", min_size=16)
        def build(input_shape, num_classes, *, depth: int = 20, rate: float = 0.5): ...
        ''',
    )
    plugin = read_plugin("architecture", path)
    assert (plugin.name, plugin.summary, plugin.error) == ("net", "A net (Somebody 2020).", "")
    assert plugin.info == Architecture(paper="https://example.org", min_size=16)
    assert plugin.parameters == {"depth": 20, "rate": 0.5}


def test_discovery_skips_underscored_files_and_lists_broken_ones(plugins):
    (plugins / "architectures" / "_shared.py").write_text("not python at all (")
    (plugins / "architectures" / "broken.py").write_text("def build(:\n")
    registry = discover("architecture", [plugins])
    assert "_shared" not in registry.plugins
    assert "syntax error in line 1" in registry.plugins["broken"].error
    assert {"baseline_cnn", "tiny_net"} <= set(registry.plugins)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("INFO = Architecture()\n", "has no function `build`"),
        ("def build(input_shape, num_classes): ...\n", "has no `INFO = Architecture(...)`"),
        ("INFO = Architecture(min_size=2 * n)\ndef build(s, n): ...\n", "must be literal"),
        ("INFO = Architecture(size=2)\ndef build(s, n): ...\n", "unexpected keyword argument 'size'"),
        ("INFO = Dataset()\ndef build(s, n): ...\n", "INFO must be Architecture(...), found Dataset(...)"),
        ("INFO = Architecture()\ndef build(s, n, *, depth): ...\n", "'depth' needs a literal default"),
        ("INFO = Architecture()\ndef build(s, n, *, depth=f()): ...\n", "'depth' needs a literal default"),
        ("INFO = Architecture()\ndef build(s, n, *, depth={1}): ...\n", "'depth' needs a literal default"),
        ("INFO = Architecture(min_size='16')\ndef build(s, n): ...\n", "min_size must be int, got '16'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, message):
    assert message in read_plugin("architecture", write(tmp_path, text)).error


def test_a_broken_plugin_cannot_be_chosen(plugins):
    (plugins / "architectures" / "broken.py").write_text("INFO = Architecture()\n")
    with pytest.raises(PluginError, match=r"broken\.py: has no function `build`"):
        discover("architecture", [plugins]).choose("broken")


def test_a_name_that_appears_twice_names_both_files(plugins):
    (plugins / "architectures" / "baseline_cnn.py").write_text("")
    with pytest.raises(PluginError) as error:
        discover("architecture", [plugins])
    assert str(plugins / "architectures" / "baseline_cnn.py") in str(error.value)
    assert str(error.value).count("baseline_cnn.py") == 2


def test_the_same_folder_may_be_named_twice(plugins):
    assert "tiny_net" in discover("architecture", [plugins, plugins]).plugins


def test_a_folder_without_plugins_is_an_error(tmp_path):
    with pytest.raises(PluginError, match="expected a folder that holds architectures/ or datasets/"):
        discover("architecture", [tmp_path])


def test_a_plugin_folder_one_level_too_deep_is_recognised(plugins):
    with pytest.raises(PluginError, match=f"Did you mean --plugins {plugins}[?]"):
        discover("architecture", [plugins / "architectures"])


def test_a_misspelt_name_answers_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown architecture 'baselin_cnn'\. Did you mean baseline_cnn"):
        discover("architecture").choose("baselin_cnn")


def test_a_misspelt_parameter_answers_with_those_there_are():
    with pytest.raises(UsageError, match=r"architecture resnet_cifar has no parameter 'dept'. It has: depth=20"):
        discover("architecture").choose("resnet_cifar:dept=56")


def test_parameters_are_set_and_the_label_shows_what_differs():
    registry = discover("dataset")
    choice = registry.choose("synthetic:classes=20,size=64")
    assert choice.parameters == {"size": 64, "channels": 3, "classes": 20, "number": 5_000}
    assert choice.label == "synthetic:size=64,classes=20"
    assert registry.choose("synthetic:size=32").label == "synthetic"


def test_a_file_that_raises_leaves_nothing_behind(tmp_path):
    plugin = read_plugin("architecture", write(tmp_path, RAISES))
    with pytest.raises(PluginError, match=r"net\.py cannot be imported: ZeroDivisionError"):
        load_module(plugin)
    assert not [name for name in sys.modules if name.startswith("_bench_") and name.endswith("_net")]


def test_what_was_read_is_what_runs_whatever_becomes_of_the_file(tmp_path):
    path = write(tmp_path, RAISES.replace("1 / 0", "VALUE = 1\ndef annotated(x: int): ..."))
    plugin = read_plugin("architecture", path)
    path.write_text("VALUE = 2")
    module = load_module(plugin)
    assert module.VALUE == 1
    assert module.annotated.__annotations__ == {"x": int}  # a plugin inherits nobody's __future__


USES = """
from bench.api import Architecture
INFO = Architecture()
{imports}
def build(s, n): ...
"""


@pytest.fixture
def local_package(tmp_path, monkeypatch):
    """A package that is being developed, with one inside that has no __init__.py; returns the name, which is new."""
    name = f"local_{tmp_path.name.replace('-', '_')}"
    package = tmp_path / "elsewhere" / name
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "blocks.py").write_text("from . import more\nVALUE = more.VALUE\n")
    (package / "more.py").write_text("VALUE = 1\n")
    (package / "inner" / "deep.py").write_text("from ..more import VALUE\n")
    monkeypatch.syspath_prepend(package.parent)
    return package


@pytest.mark.parametrize(
    ("imports", "found"),
    [
        ("import {0}.blocks as b", ["{0}", "{0}.blocks", "{0}.more"]),
        ("from {0} import blocks", ["{0}", "{0}.blocks", "{0}.more"]),
        ("from {0}.inner.deep import VALUE", ["{0}", "{0}.inner.deep", "{0}.more"]),
        ("def later():\n    from {0}.more import VALUE", ["{0}", "{0}.more"]),
        ("import keras, numpy, json, bench.api", []),
        ("from bench import layers", ["bench.layers", "bench.layers.basic"]),
        ("from bench.layers import conv_bn", ["bench.layers", "bench.layers.basic"]),
        ("from bench.layers.basic import conv_bn", ["bench.layers.basic"]),
    ],
)
def test_the_local_modules_that_a_plugin_imports_are_found(tmp_path, local_package, imports, found):
    plugin = read_plugin("architecture", write(tmp_path, USES.format(imports=imports.format(local_package.name))))
    assert plugin.error == ""
    assert list(plugin.modules.hashes) == [name.format(local_package.name) for name in found]


def test_modules_of_a_package_without_an_init_file_are_found(tmp_path, local_package):
    (local_package / "__init__.py").unlink()
    plugin = read_plugin("architecture", write(tmp_path, USES.format(imports=f"import {local_package.name}.more")))
    assert list(plugin.modules.hashes) == [f"{local_package.name}.more"]


def test_a_local_module_that_changed_after_planning_is_refused(tmp_path, local_package):
    imports = f"from {local_package.name}.blocks import VALUE"
    plugin = read_plugin("architecture", write(tmp_path, USES.format(imports=imports)))
    (local_package / "more.py").write_text("VALUE = 22\n")
    with pytest.raises(PluginError, match=r"\.more, which it imports, changed after the trials were planned"):
        load_module(plugin)
    assert load_module(read_plugin("architecture", plugin.path)).VALUE == 22


PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "their-plugins"
version = "1.0"

[project.entry-points."bench.architectures"]
theirs = "their_plugins.architectures"

[project.entry-points."bench.datasets"]
theirs = "their_plugins.datasets"

[tool.setuptools]
packages = ["their_plugins", "their_plugins.architectures", "their_plugins.datasets"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that a package was installed into, which offers `their_net` and `their_data`."""
    pytest.importorskip("setuptools")
    project, target = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("installed")
    (project / "pyproject.toml").write_text(PROJECT)
    files = {
        "__init__.py": "raise RuntimeError('must not be imported to be listed')",
        "architectures/_blocks.py": "UNITS = 4",
        "architectures/their_net.py": TINY_NET.replace("import keras", "import keras\nfrom ._blocks import UNITS", 1),
        "datasets/their_data.py": TINY_DATA,
    }
    for name, text in files.items():
        path = project / "their_plugins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    options = ["--no-build-isolation", "--no-index", "--no-deps", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(project)], check=True)
    return target


def test_an_installed_package_offers_plugins_that_are_listed_and_run(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *filter(None, sys.path)])}
    listed = command("list", env=environment)
    out, err = listed.communicate()
    assert listed.returncode == 0, err
    architectures, _, datasets = out.partition("datasets:")
    assert "their_net" in architectures
    assert "their_data" in datasets
    options = ("--epochs", 2, "--batch-size", 16, "--measure", "basic", "--results", tmp_path)
    trained = command("run", "--arch", "their_net", "--dataset", "their_data", *options, env=environment)
    out, err = trained.communicate()
    assert trained.returncode == 0, out + err
    (record,) = Store(tmp_path).records()
    assert (record.spec.architecture.name, record.spec.dataset.name) == ("their_net", "their_data")
    assert record.spec.architecture.modules.keys() == {"._blocks"}


@pytest.mark.parametrize("value", ["no_such_package", "their_package.no_such_part", "lonely", "their_package:plugins"])
def test_an_entry_point_that_names_no_package_is_an_error(tmp_path, monkeypatch, value):
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (tmp_path / "their_package").mkdir()
    (tmp_path / "lonely.py").write_text("")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bench.architectures]\ntheirs = {value}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError) as error:
        discover("architecture")
    assert f"'theirs' (bench.architectures) names no package: '{value}'. Expected one whose .py" in str(error.value)
    discover("dataset")
