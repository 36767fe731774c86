"""Nothing flows backwards: a module imports only what stands before it, and TensorFlow stays out of light commands."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "bench"
ORDER = [
    "errors",
    "atomic",
    "units",
    "api",
    "literals",
    "sources",
    "plugins",
    "recipes",
    "tuning",
    "spec",
    "events",
    "environment",
    "sweeps",
    "layers",
    "groups",
    "schedules",
    "optimizers",
    "data",
    "backends",
    "evaluation",
    "measurement",
    "stopping",
    "checkpoints",
    "training",
    "records",
    "fields",
    "archive",
    "claims",
    "store",
    "execution",
    "contract",
    "report",
    "cli",
]


def test_every_module_imports_only_what_stands_before_it():
    backwards = []
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if part in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            imported = getattr(node, "module", None) or ""
            names = [imported] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.startswith("bench.") and ORDER.index(name.split(".")[1]) > ORDER.index(part):
                    backwards.append(f"{path.name} imports {name}")
    assert backwards == []


@pytest.mark.parametrize(
    "code",
    [
        "main(['list'])",
        "main(['--version'])",
        "main(['run', '--arch', 'no_such', '--dataset', 'digits'])",
        "main(['report', '--results', 'no_such'])",
        "main(['check', 'no_such'])",
        "import bench.cli.run, bench.report.files, bench.execution.runner",
        "import bench.plugins as p; [p.load_module(each) for each in p.discover('dataset').plugins.values()]",
    ],
)
def test_the_commands_own_process_never_imports_tensorflow(code, tmp_path):
    script = f"""
import sys
from bench.cli.main import main
try:
    {code}
except SystemExit:
    pass
heavy = {{'tensorflow', 'keras', 'tensorflow_datasets', 'jax', 'torch'}} & set(sys.modules)
sys.exit(f'imported {{heavy}}' if heavy else 0)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
