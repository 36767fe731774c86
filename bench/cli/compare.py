"""`bench compare`: which of the architectures is more accurate, as far as the records can tell."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.archive import read_records
from bench.cli.console import make_console, sound_records
from bench.errors import StoreError, UsageError, unknown_name
from bench.literals import split_reference
from bench.recipes import recipe_label
from bench.records import TrialRecord
from bench.report import sentences
from bench.report.comparison import Section, compare, sides_by_setting, to_json
from bench.report.judgement import LEVEL, Verdict
from bench.spec import PluginSpec

LEFT = {"comparison", "verdict", "not compared"}
ROOMY = 120  # columns of a terminal; in a narrower one long names are folded, so that the others fit beside them
WIDEST_NAME = 28
COLORS = {Verdict.BETTER: "green", Verdict.WORSE: "red", Verdict.CANNOT_TELL: "yellow"}
Show = Callable[[TrialRecord], str]


def compare_architectures(arguments: argparse.Namespace) -> int:
    """Print the comparisons, a section a data set and setting; returns 0."""
    difference = _difference(arguments.difference)
    records = sound_records(read_records(arguments.results), arguments.results)
    labels = _distinct([_resolve("architecture", text, records, arguments.results) for text in arguments.architectures])
    chosen = _filtered(records, arguments)
    sections = compare(chosen, labels, arguments.results, difference)
    if not sections:
        raise UsageError(_nothing_shared(chosen, labels, arguments.results))
    _print(sections, labels, difference, make_console())
    if arguments.json:
        _write(arguments.json, {"level": LEVEL, "comparisons": to_json(sections)})
    return 0


def _difference(points: float) -> float:
    """Return percentage points as a fraction."""
    if not (math.isfinite(points) and 0 < points <= 100):
        raise UsageError(f"--difference is in percentage points, above 0 and at most 100; got {points:g}.")
    return points / 100


def _resolve(kind: str, text: str, records: Sequence[TrialRecord], results: Path) -> str:
    """Return the label by which the records know what was typed; parameters may be in any order, defaults too."""
    plugins: dict[str, PluginSpec] = {getattr(each.spec, kind).label: getattr(each.spec, kind) for each in records}
    if text in plugins:
        return text
    name, typed = split_reference(text)
    for label, plugin in plugins.items():
        named = plugin.name == name and split_reference(label)[1].keys() <= typed.keys()
        if named and all(key in plugin.parameters and plugin.parameters[key] == typed[key] for key in typed):
            return label
    where = f"These have records in {results}; `bench run` makes others'."
    raise UsageError(f"{unknown_name(kind.replace('dataset', 'data set'), text, plugins)} {where}")


def _distinct(labels: Sequence[str]) -> Sequence[str]:
    if len(labels) < 2:
        raise UsageError(f"compare needs two architectures or more; got only {labels[0]}.")
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"{label} is named {labels.count(label)} times; compare needs different architectures.")
    return labels


def _filtered(records: Sequence[TrialRecord], arguments: argparse.Namespace) -> list[TrialRecord]:
    """Return the records that --dataset, --recipe, --precision and --backend leave."""
    datasets = {_resolve("dataset", text, records, arguments.results) for text in arguments.dataset or ()}
    chosen = [record for record in records if not datasets or record.spec.dataset.label in datasets]
    filters: dict[str, Show] = {
        "recipe": lambda record: recipe_label(record.spec.recipe),
        "precision": lambda record: record.spec.precision,
        "backend": lambda record: record.spec.backend,
    }
    for name, value_of in filters.items():
        chosen = _only(chosen, name, getattr(arguments, name), value_of)
    return chosen


def _only(records: list[TrialRecord], name: str, value: str | None, value_of: Show) -> list[TrialRecord]:
    if value is None:
        return records
    kept = [record for record in records if value_of(record) == value]
    if not kept:
        raise unknown_name(f"{name} (in these records)", value, {value_of(record) for record in records})
    return kept


def _nothing_shared(records: Sequence[TrialRecord], labels: Sequence[str], results: Path) -> str:
    """Return the message that says what each architecture has."""
    lines = [f"no data set and setting that two of these architectures have: {', '.join(labels)}. They have:"]
    for label in labels:
        settings = [setting for setting, _ in sides_by_setting(records, [label], results)]
        lines += [f"  {label}: {sentences.setting_line(setting)}" for setting in settings] or [
            f"  {label}: nothing that these filters leave"
        ]
    return "\n".join([*lines, "Run what is missing with `bench run`, on the same machine with the same versions."])


def _print(sections: Sequence[Section], labels: Sequence[str], difference: float, console: Console) -> None:
    family = sum(each.judgement.test is not None for section in sections for each in section.comparisons)
    for section in sections:
        _print_words(section, sections, family, difference, console)
        _print_absent(section, labels, console)
        _print_tables(section, console)
    for note in sentences.notes(family, difference):
        _print_text(console, note)
    if any(each.networks for section in sections for each in section.comparisons):
        _print_text(console, sentences.NETWORKS_NOTE)
    shared = sentences.shared_setting(sections)
    if shared:
        console.print(f"All comparisons: {shared}.", markup=False)


def _print_words(
    section: Section, sections: Sequence[Section], family: int, difference: float, console: Console
) -> None:
    console.rule(escape(sentences.section_title(section, sections)), align="left")
    for comparison in section.comparisons:
        text = sentences.verdict_sentence(comparison, family)
        if comparison.judgement.verdict == Verdict.CANNOT_TELL and comparison.judgement.difference is not None:
            text += f" {sentences.seeds_sentence(comparison, difference)}"
        _print_text(console, text)
    _print_text(console, sentences.basis_sentence(section))


def _print_absent(section: Section, labels: Sequence[str], console: Console) -> None:
    present = {side.label for each in section.comparisons for side in (each.first, each.second)}
    absent = [label for label in labels if label not in present]
    if absent:
        _print_text(console, f"No trials in this setting: {', '.join(absent)}.")


def _print_tables(section: Section, console: Console) -> None:
    _print_table(console, "verdicts", [sentences.verdict_row(each) for each in section.comparisons])
    _print_table(console, "cost: first / second", [sentences.cost_row(each) for each in section.comparisons])
    networks = [row for each in section.comparisons for row in sentences.network_rows(each)]
    if networks:
        _print_table(console, "trained networks, seed by seed (McNemar)", networks)


def _print_text(console: Console, text: str) -> None:
    console.print(text, markup=False)
    console.print()


def _print_table(console: Console, title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Print the rows without the columns that are empty in all of them."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    for name in filled:
        table.add_column(
            "\n".join(name.rsplit(" ", 1)),
            justify="left" if name in LEFT else "right",
            no_wrap=name == "comparison",
        )
    for row in rows:
        table.add_row(*(_cell(name, row[name], console.width) for name in filled))
    console.print(table)


def _cell(name: str, value: str, width: int) -> str:
    if name == "verdict":
        return f"[{COLORS[Verdict(value)]}]{value}[/]"
    if name == "comparison" and width < ROOMY:
        value = "\n".join(_folded(line) for line in value.splitlines())
    return escape(value)


def _folded(line: str) -> str:
    """Break a name that is too long for its column after a comma or colon, where it has one."""
    if len(line) <= WIDEST_NAME:
        return line
    cut = max(line.rfind(mark, 0, WIDEST_NAME) for mark in ",:") + 1 or WIDEST_NAME
    return f"{line[:cut]}\n{_folded(line[cut:])}"


def _write(path: Path, value: Any) -> None:
    try:
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"--json {path} cannot be written: {error}.") from error
