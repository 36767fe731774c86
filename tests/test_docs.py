"""The documentation against the code: what a record, a table or a file holds is described, and nothing else is."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.cli.parser import make_parser
from bench.environment import Environment
from bench.events import Epoch
from bench.measurement.cost import LayerCost
from bench.measurement.latency import BatchSpeed
from bench.records import Reason, Status, TrialRecord
from bench.report.comparison import NetworkPair
from bench.report.scaling import SCALING
from bench.report.tables import LEADERBOARD
from bench.spec import PluginSpec, TrialSpec
from tests.test_layering import ORDER, PACKAGE

CHECKOUT = PACKAGE.parent
REFERENCE = CHECKOUT / "results" / "reference"
RESULTS = (CHECKOUT / "docs" / "results.md").read_text(encoding="utf-8")
WORD = re.compile(r"`([a-z0-9_]+)`")


def section(title):
    """Return what stands under a heading of docs/results.md, up to the next heading."""
    _, found, rest = RESULTS.partition(f"{title}\n")
    assert found, f"no heading {title!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def described(title):
    """Return the names in the first column of the tables in a section."""
    rows = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("|")]
    return {name for cell in rows for name in WORD.findall(cell)}


def names(kind):
    return {field.name for field in fields(kind)}


@pytest.fixture
def record(run, records):
    code, _, err = run("--measure", "full")
    assert code == 0, err
    (made,) = records()
    return made


def test_every_figure_of_a_record_is_described_and_no_other(record):
    assert described("### metrics") == set(record.metrics)
    assert described("### resolved") == set(record.resolved)
    assert set(WORD.findall(section("### phases"))) == set(record.phases)
    assert set(WORD.findall(section("### metrics").rpartition("Each of")[2])) >= names(BatchSpeed)


@pytest.mark.parametrize(
    ("title", "kinds"),
    [
        ("## record.json", [TrialRecord]),
        ("### spec", [TrialSpec, PluginSpec]),
        ("### environment", [Environment]),
        ("## history.csv", [Epoch]),
        ("## layers.csv", [LayerCost]),
    ],
)
def test_every_field_of_a_file_is_described_and_no_other(title, kinds):
    assert described(title) == set().union(*map(names, kinds))


def test_every_column_of_the_leaderboard_is_described_and_no_other():
    assert described("## leaderboard.csv") == set(LEADERBOARD)


def test_every_column_of_the_scaling_table_is_described_and_no_other():
    assert described("## scaling.csv") == set(SCALING)


def test_every_status_and_reason_is_described():
    assert set(WORD.findall(section("### status and reason"))) >= {*Status, *Reason} - {Reason.NONE}


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="not in a checkout")
def test_every_field_of_a_comparison_is_described_and_no_other(tmp_path):
    file = tmp_path / "comparison.json"
    assert main(["compare", "baseline_cnn", "baseline_cnn_bn", "--results", str(REFERENCE), "--json", str(file)]) == 0
    title = "## bench compare --json FILE"
    assert described(title) == set(json.loads(file.read_text())["comparisons"][0])
    assert set(WORD.findall(section(title).rpartition("Each of")[2])) >= names(NetworkPair)


def test_the_readme_names_every_command():
    (commands,) = (action.choices for action in make_parser()._actions if action.choices)
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert [name for name in commands if f"| `bench {name}" not in text] == []


def test_the_architecture_lists_the_parts_in_the_order_of_imports():
    text = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## Modules, in import order")[2].partition("\n## ")[0]
    parts, modules = [], set()
    for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for name in re.findall(r"`([a-z0-9_.]+)`", cell):
            part = name.split(".")[0] or parts[-1]
            modules.add(part + name[name.index(".") :] if "." in name else part)
            parts += [part] if part not in parts else []
    assert parts == ORDER
    there = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    expected = {name for name in there if "__" not in name and not name.startswith("cli.")} | {"cli"}
    assert modules == expected


def test_links_lead_somewhere():
    broken = []
    for file in [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8")):
            path, _, anchor = link.partition("#")
            target = Path(file.parent, path) if path else file
            if "://" in link or (target.exists() and (not anchor or anchor in anchors(target))):
                continue
            broken.append(f"{file.name}: {link}")
    assert broken == []


def anchors(file):
    """Return the names by which the headings of a Markdown file can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
