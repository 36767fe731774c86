"""Turns arguments into what the other parts take: plugins with parameters, data sources, a recipe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import DataError, UsageError
from bench.execution.work import Limits
from bench.literals import expanded, parse_pairs, split_reference
from bench.plugins import FOLDERS, Kind, PluginChoice, Registry, discover
from bench.recipes import OWN, Recipe, resolve_recipe
from bench.sweeps.combinations import Combination, Sweep, make_sweep
from bench.sweeps.settings import Settings
from bench.tuning import Tuning, make_tuning
from bench.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from bench.data.cache import DataSource
    from bench.execution.planning import Choice

BUDGETS = {"epochs": "epochs", "flops": "budget_flops"}
DISK_BYTES = 4 * 10**9
CHECKPOINT_SECONDS = 300.0


def plugin_kinds(folder: str | None) -> list[Kind]:
    """Return the kind whose folder has this name, or both."""
    return [kind for kind, name in FOLDERS.items() if folder in (None, name)]


def sources_of(references: Iterable[str], plugins: Sequence[Path], data_dir: Path | None) -> dict[str, DataSource]:
    """Return the data sets that were named, each with the folders it works with, by these names."""
    from bench.data.cache import DataSource, default_cache_dir

    registry = discover("dataset", plugins)
    folder = existing_data_dir(data_dir)
    return {name: DataSource(registry.choose(name), folder, default_cache_dir()) for name in dict.fromkeys(references)}


def existing_data_dir(named: Path | None) -> Path:
    """Return the TFDS data directory; one that was named must exist."""
    from bench.data.tfds import default_data_dir

    if named is None:
        return default_data_dir()
    folder = expanded(named)
    if not folder.is_dir():
        raise DataError(f"--data-dir {folder} does not exist. Expected a folder that holds prepared TFDS data sets.")
    return folder.resolve()


def sweep_of(arguments: argparse.Namespace) -> Sweep:
    """Return the sweep that the file and the command line describe together."""
    if arguments.seeds is not None and arguments.seeds < 1:
        raise UsageError(f"--seeds must be at least 1; got {arguments.seeds}.")
    given = {
        "architectures": arguments.arch,
        "datasets": arguments.dataset,
        "recipes": arguments.recipe,
        "precisions": arguments.precision,
        "backends": arguments.backend,
        "devices": arguments.devices,
        "seeds": arguments.seeds,
        "train_fractions": arguments.train_fraction,
    }
    return make_sweep(arguments.sweep, given, _overrides(arguments))


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line changes of every recipe."""
    overrides: dict[str, Any] = {}
    for pair in arguments.set:
        overrides |= parse_pairs(pair, "--set")
    for key in ("epochs", "batch_size", "learning_rate"):
        value = getattr(arguments, key)
        if value is not None and key in overrides:
            raise UsageError(f"{key} is given twice: by --set and by --{key.replace('_', '-')}. Leave one away.")
        if value is not None:
            overrides[key] = value
    if arguments.budget is not None:
        overrides |= _budget(arguments.budget, overrides)
    return overrides


def _budget(text: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `--budget epochs=10` or `--budget flops=1e15` changes of every recipe."""
    pairs = parse_pairs(text, "--budget")
    (key, value), *more = pairs.items() or [("", None)]
    amount = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    if more or key not in BUDGETS or not 0 < amount <= sys.float_info.max:
        raise UsageError(f"--budget: expected epochs=10 or flops=1e15, say, above 0; got {text!r}.")
    if overrides.keys() & BUDGETS.values():
        raise UsageError("--budget takes the place of epochs and budget_flops; leave one of them away.")
    return {BUDGETS[key]: float(amount)}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a sweep is run: what the command line says, or else the sweep file, or else the default."""

    results: Path
    data_dir: Path | None
    plugins: Sequence[Path]
    measure: str
    logits: str
    jobs: int | None
    limits: Limits
    checkpoint_seconds: float
    exclusive: bool
    engine: str
    ray_address: str | None
    evaluate_also: Sequence[str]
    tuning: Tuning | None


def settings_of(arguments: argparse.Namespace, file: Settings) -> RunSettings:
    """Return how the sweep is run."""

    def pick(name: str, default: Any = None) -> Any:
        value = getattr(arguments, name)
        in_file = getattr(file, name, None)
        return value if value is not None else in_file if in_file is not None else default

    def parsed(name: str, parse: Callable[[str, str], float], default: Any = None) -> Any:
        value = pick(name, default)
        return parse(value, f"--{name.replace('_', '-')}") if isinstance(value, str) else value

    jobs = pick("jobs")
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs must be at least 1; got {jobs}.")
    keys = pick("tune", ())
    if pick("tune_trials") is not None and not keys:
        raise UsageError("--tune-trials is for --tune KEY, which was not asked for.")
    if pick("ray_address") and pick("engine") != "ray":
        raise UsageError("--ray-address is for --engine ray, which was not asked for.")
    return RunSettings(
        results=pick("results", Path("results")),
        data_dir=pick("data_dir"),
        plugins=[*arguments.plugins, *file.plugins],
        measure=pick("measure", "full"),
        logits=pick("logits", "float32"),
        jobs=jobs,
        limits=Limits(
            seconds=parsed("timeout", parse_seconds),
            memory_bytes=parsed("memory_limit", parse_bytes),
            disk_bytes=parsed("disk_limit", parse_bytes, DISK_BYTES),
        ),
        checkpoint_seconds=parsed("checkpoint_every", parse_seconds, CHECKPOINT_SECONDS),
        exclusive=pick("timing") == "exclusive",
        engine=pick("engine", "local"),
        ray_address=pick("ray_address"),
        evaluate_also=pick("evaluate_also", ()),
        tuning=make_tuning(keys, pick("tune_trials")) if keys else None,
    )


def choices_of(
    combinations: Iterable[Combination],
    architectures: Registry,
    sources: Mapping[str, DataSource],
    precision_of: Callable[[str, str], str],
    also: Sequence[DataSource] = (),
) -> Iterator[Choice]:
    """Yield the combinations with what their names stand for.

    Args:
        combinations: of the sweep.
        architectures: those that there are.
        sources: the data sets, by the names that the combinations have for them.
        precision_of: returns what a precision, `auto` perhaps, means with a backend.
        also: data sets that each model is evaluated on besides.

    """
    from bench.execution.planning import Choice

    chosen = cache(lambda reference: _choose(architectures, reference))
    resolved = cache(precision_of)
    recipes: dict[Any, Recipe] = {}
    for each in combinations:
        architecture = chosen(each.architecture)
        key = each.recipe, id(each.overrides), each.architecture if each.recipe == OWN else ""
        if key not in recipes:
            recipes[key] = _recipe(each, architecture)
        yield Choice(
            architecture=architecture,
            source=sources[each.dataset],
            recipe=recipes[key],
            precision=resolved(each.precision, each.backend),
            backend=each.backend,
            devices=each.devices,
            seed=each.seed,
            train_fraction=each.train_fraction,
            evaluate_also=tuple(also),
        )


def _recipe(each: Combination, architecture: PluginChoice) -> Recipe:
    """Return the recipe of a combination; an architecture whose file cannot be read has any."""
    plugin = architecture.plugin
    own = None if plugin.error else plugin.info.recipe
    try:
        return resolve_recipe(each.recipe, each.overrides, own)
    except UsageError as error:
        if each.recipe == OWN:
            raise UsageError(f"{plugin.path}: {error}") from None
        raise


def _choose(architectures: Registry, reference: str) -> PluginChoice:
    """Return an architecture; one whose file cannot be read too: its trials fail, and others go on."""
    name, changes = split_reference(reference)
    plugin = architectures.plugins.get(name)
    return PluginChoice(plugin, changes) if plugin and plugin.error else architectures.choose(reference)
