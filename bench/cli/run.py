"""`bench run`: plan the sweep, run what is missing, report."""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from bench.archive import Archive
from bench.cli.console import print_failure, print_leaderboard, print_problems
from bench.cli.dry_run import Outlook, estimate_all, print_outlook
from bench.cli.inputs import RunSettings, choices_of, sources_of
from bench.cli.progress import make_observer, prepare_progress, print_notes
from bench.data.cache import DataSource, Prepared, peek
from bench.data.test_sets import require_fit, require_trainable
from bench.environment import BACKENDS, resolve_precision
from bench.errors import BackendError, DataError, StoreError, UsageError
from bench.execution.engine import Engine
from bench.execution.estimate import disk_bytes
from bench.execution.local import LocalEngine
from bench.execution.planning import (
    Choice,
    Policy,
    Trial,
    last_of,
    plan,
    prepare_sources,
    remaining,
    stale,
    too_small,
)
from bench.execution.profiles import Profiles
from bench.execution.runner import Options, Runner
from bench.execution.searches import Search, searches_of, tuned_choices
from bench.execution.server import ForkServer
from bench.plugins import discover
from bench.records import Status, TrialRecord
from bench.report.files import write_report
from bench.store import Store
from bench.sweeps.combinations import Sweep
from bench.units import format_bytes

STALE_LINES = 10
NOTE_LINES = 3


@dataclass(frozen=True)
class Plan:
    """A sweep's trials, those of them that are to be run, and what the results folder held when that was decided."""

    trials: Sequence[Trial]
    todo: Sequence[Trial]
    before: Archive
    machines: set[str]
    policy: Policy


@dataclass(frozen=True)
class Setup:
    """What a sweep is run with: its data sets in the cache, the engine and its machines, and what was chosen."""

    settings: RunSettings
    arguments: argparse.Namespace
    prepared: Mapping[str, Prepared]
    engine: Engine
    choices: Sequence[Choice]
    machines: set[str]


def run_sweep(sweep: Sweep, settings: RunSettings, arguments: argparse.Namespace) -> int:
    """Run a sweep and report. Returns 0 when every trial is well, skipped ones aside, else 1.

    Raises:
        KeyboardInterrupt: after the report was written.

    """
    store = Store(settings.results)
    if not arguments.dry_run:
        store.check_writable()
        store.sweep_up()
    setup = _set_up(sweep, settings, arguments)
    try:
        if settings.tuning is None:
            return _run_choices(setup, setup.choices, store)
        fit, skipped = _divide(setup)
        searches = searches_of(fit, settings.tuning)
        code = _run_choices(setup, [each for search in searches for each in search.choices], store)
        if arguments.dry_run:
            print(f"then {len(setup.choices)} trials with the values that are best on the validation images")
            return code
        last = last_of(store.read().records, setup.machines)
        choices, failed = tuned_choices(fit, searches, setup.prepared, last)
        _tell_failed(failed)
        return code | _run_choices(setup, [*choices, *skipped], store) if choices or skipped else code
    finally:
        setup.engine.close()


def _set_up(sweep: Sweep, settings: RunSettings, arguments: argparse.Namespace) -> Setup:
    """Look up what the sweep names, prepare its data sets, and ask what there is to run it on."""
    architectures = discover("architecture", settings.plugins)
    names = dict.fromkeys(each.dataset for each in sweep.combinations)
    sources = sources_of([*names, *settings.evaluate_also], settings.plugins, settings.data_dir)
    for name in names:
        require_trainable(sources[name].choice)
    named = {sources[name].choice.label: sources[name] for name in settings.evaluate_also}
    also = [source for _, source in sorted(named.items())]  # in another order it would be another trial
    backends = list(dict.fromkeys(each.backend for each in sweep.combinations))
    list(choices_of(sweep.combinations, architectures, sources, lambda precision, _: precision))  # wrong names first
    prepared = _prepared(sources, backends[0], settings, arguments)
    print_notes(prepared, details=NOTE_LINES)
    _check_fit(also, [sources[name] for name in names], prepared)
    engine = _engine(settings, backends)
    choices = list(choices_of(sweep.combinations, architectures, sources, partial(_precision, engine), also))
    machines = {engine.setting([unit], backend).environment.machine for unit in engine.units() for backend in backends}
    return Setup(settings, arguments, prepared, engine, choices, machines)


def _check_fit(also: Sequence[DataSource], trained: Sequence[DataSource], prepared: Mapping[str, Prepared]) -> None:
    """Raise `UsageError` where a data set cannot be evaluated on with a model that was trained on another one."""
    for each, main in itertools.product(also, trained):
        labels = each.choice.label, main.choice.label
        own, other = (prepared[label].info for label in labels)
        require_fit(labels[0], own, labels[1], other)


def _divide(setup: Setup) -> tuple[list[Choice], list[Choice]]:
    """Return the choices that values can be searched for, and those whose trials are skipped whatever the values."""
    fit, skipped = list[Choice](), list[Choice]()
    for each in setup.choices:
        data = setup.prepared[each.source.choice.label]
        (skipped if too_small(each.architecture.plugin, data) else fit).append(each)
    return fit, skipped


def _run_choices(setup: Setup, choices: Sequence[Choice], store: Store) -> int:
    """Plan, run and report what is chosen; a dry run prints the plan. Returns the exit code."""
    planned, engine, settings = _plan(setup, choices, store), setup.engine, setup.settings
    quiet, dry_run = setup.arguments.quiet, setup.arguments.dry_run
    _announce(planned, engine, quiet=quiet or dry_run)
    if dry_run:
        _print_dry_run(planned, engine, store, settings)
        return 0
    _check_room(store, planned.todo, settings)
    try:
        _run(planned, engine, store, settings, quiet)
    except BaseException:
        with suppress(StoreError):  # why the sweep ended is to be told, a full disk say, and not that again
            _report(store, planned, quiet)
        raise
    ended = _report(store, planned, quiet)
    return int(any(_is_bad(record) for record in ended) or not any(record.status == Status.OK for record in ended))


def _plan(setup: Setup, choices: Sequence[Choice], store: Store) -> Plan:
    trials = plan(choices, setup.prepared)
    _check_devices(trials, setup.engine)
    before = store.read()
    print_problems(before.problems)
    policy = Policy(force=setup.arguments.force, retry_failed=setup.arguments.retry_failed)
    todo = remaining(trials, before.records, setup.machines, policy)
    return Plan(trials, todo, before, setup.machines, policy)


def _prepared(
    sources: Mapping[str, DataSource], backend: str, settings: RunSettings, arguments: argparse.Namespace
) -> dict[str, Prepared]:
    """Return the data sets in the cache, by their labels; a dry run prepares none."""
    if not arguments.dry_run:
        with prepare_progress(arguments.quiet) as progress:
            return prepare_sources(sources.values(), ForkServer(backend), progress)
    data_dir, plugins = settings.data_dir, settings.plugins
    found = {source.choice.label: peek(source) for source in sources.values()}
    absent = [label for label, data in found.items() if data is None]
    if absent:
        command = ["bench", "prepare", *absent]
        for option, folders in (("--data-dir", [data_dir] if data_dir else []), ("--plugins", plugins)):
            command += [part for folder in folders for part in (option, str(folder))]
        raise DataError(f"what trials there are depends on the images. First prepare them: {shlex.join(command)}")
    return {label: data for label, data in found.items() if data is not None}


def _engine(settings: RunSettings, backends: Sequence[str]) -> Engine:
    if settings.engine == "local":
        return LocalEngine(backends, settings.jobs)
    from bench.execution.cluster import RayEngine

    return RayEngine(backends, settings.jobs, settings.ray_address)


def _precision(engine: Engine, precision: str, backend: str) -> str:
    return resolve_precision(precision, engine.setting(engine.units()[:1], backend).device)


def _check_devices(trials: Sequence[Trial], engine: Engine) -> None:
    for spec in {(trial.spec.backend, trial.spec.devices): trial.spec for trial in trials}.values():
        if spec.devices > 1 and spec.backend == "torch":
            raise UsageError("--devices: PyTorch trains on one device here; --backend tensorflow and jax on several.")
        device = engine.setting(engine.units()[:1], spec.backend).device
        most = max(Counter(unit.machine for unit in engine.units()).values())
        if device.kind == "GPU" and spec.devices > most:
            raise UsageError(f"--devices {spec.devices}: no machine has more than {most} GPUs for {spec.backend} here.")


def _announce(planned: Plan, engine: Engine, quiet: bool) -> None:
    """Print what is to be done, where, and what of it had been done before its sources changed."""
    trials, todo = planned.trials, planned.todo
    backends = dict.fromkeys(trial.spec.backend for trial in trials)
    unit = engine.units()[0]
    devices = {backend: engine.setting([unit], backend).device for backend in backends}
    for note in dict.fromkeys(device.note for device in devices.values() if device.note):
        print(f"bench: note: {note}", file=sys.stderr)
    if quiet:
        return
    precisions = ", ".join(dict.fromkeys(trial.spec.precision for trial in trials))
    names = ", ".join(dict.fromkeys(device.name for device in devices.values()))
    side_by_side = f", {len(engine.units())} at a time" if len(engine.units()) > 1 else ""
    print(f"{len(trials)} trial{'s' * (len(trials) != 1)} in {precisions} on {names}{side_by_side}", flush=True)
    done = len(trials) - len(todo)
    if done:
        print(f"{done} of them ended before (--force runs them again, --retry-failed those that failed)", flush=True)
    _tell_stale(planned)
    titles = " and ".join(BACKENDS[each].title for each in dict.fromkeys(trial.spec.backend for trial in todo))
    print(f"importing {titles}, once for all of them ..." if todo else "nothing is left to run", flush=True)


def _print_dry_run(planned: Plan, engine: Engine, store: Store, settings: RunSettings) -> None:
    outlook = Outlook(
        trials=planned.trials,
        estimates=estimate_all(planned.todo, planned.before.records, engine, settings.logits, count=True),
        last=last_of(planned.before.records, planned.machines),
        stale=stale(planned.todo, planned.before.records),
    )
    print_outlook(outlook, len(engine.units()), store.free_bytes() if store.folder.exists() else None)


def _tell_failed(searches: Sequence[Search]) -> None:
    """Say which trials are left out, since nothing was found to run them with."""
    for search in searches:
        of, keys = search.of, ", ".join(search.tuning.keys)
        print(
            f"bench: {of.architecture.label} on {of.source.choice.label} is left out: none of the "
            f"{len(search.choices)} trials that searched for its {keys} under recipe {of.recipe.label} ended well. "
            "Why is said above; begin with another value (--set), or run it without --tune.",
            file=sys.stderr,
        )


def _tell_stale(planned: Plan) -> None:
    why = stale(planned.todo, planned.before.records)
    by_reason: dict[str, int] = {}
    for reason in why.values():
        by_reason[reason] = by_reason.get(reason, 0) + 1
    for reason, count in list(by_reason.items())[:STALE_LINES]:
        print(f"{count} that had ended {'is' if count == 1 else 'are'} run anew: {reason}", flush=True)


def _check_room(store: Store, todo: Sequence[Trial], settings: RunSettings) -> None:
    """Raise `StoreError` where the disk has no room for what the trials will leave."""
    needed = sum(disk_bytes(trial, settings.logits) for trial in todo)
    if needed > store.free_bytes():
        raise StoreError(
            f"the {len(todo):,} trials will leave up to {format_bytes(needed)} in {store.folder}, and its disk has "
            f"{format_bytes(store.free_bytes())} free. Free some space, name another folder with --results, or halve "
            "the predictions with --logits float16."
        )


def _run(planned: Plan, engine: Engine, store: Store, settings: RunSettings, quiet: bool) -> None:
    known: dict[str, set[str]] = {}
    for record in planned.before.records:
        known.setdefault(record.trial_id, set()).add(record.attempt)
    profiles = Profiles(
        planned.before.records, {trial.spec.trial_id for trial in planned.todo}, wanted=settings.measure == "full"
    )
    options = Options(
        logits_dtype=settings.logits,
        policy=planned.policy,
        limits=settings.limits,
        checkpoint_seconds=settings.checkpoint_seconds,
        exclusive=settings.exclusive,
    )
    _measure_peaks(planned.todo, engine, profiles)
    done_before = len(planned.trials) - len(planned.todo)
    units = len(engine.units())
    expected = _expected_seconds(planned, engine, settings)
    shown = make_observer(
        store.folder, len(planned.todo), done_before, units, quiet, expected=expected, trials=planned.todo
    )
    with shown as observer:
        Runner(store, engine, observer, profiles, options).run(planned.todo, known)


def _expected_seconds(planned: Plan, engine: Engine, settings: RunSettings) -> dict[str, float]:
    """Return what earlier records let expect of each trial, by its id."""
    estimates = estimate_all(planned.todo, planned.before.records, engine, settings.logits, count=False)
    return {each.trial.spec.trial_id: each.seconds.value for each in estimates if each.seconds.value is not None}


def _measure_peaks(todo: Sequence[Trial], engine: Engine, profiles: Profiles) -> None:
    """Measure the matrix-product peaks of what is about to be measured in full; no sweep ends for want of one."""
    units = {unit.machine: unit for unit in reversed(engine.units())}.values()
    wanted = {
        (unit, trial.spec.backend, trial.spec.precision)
        for trial in todo
        for unit in units
        if profiles.is_missing(trial.spec, engine.setting([unit], trial.spec.backend).environment)
    }
    for unit, backend, precision in sorted(wanted):
        try:
            engine.peak(unit, backend, precision, measure=True)
        except BackendError as error:
            print(f"bench: note: {error} Utilisation stays blank.", file=sys.stderr)


def _report(store: Store, planned: Plan, quiet: bool) -> list[TrialRecord]:
    """Write and print the tables, and return the last record of each of the sweep's trials that has one."""
    archive = store.read()
    last = last_of(archive.records, planned.machines)
    ended = [last[trial.spec.trial_id] for trial in planned.trials if trial.spec.trial_id in last]
    if not ended:
        return []
    table = write_report(store.folder, archive.records)
    if not quiet:
        datasets = {record.spec.dataset.label for record in ended}
        print_leaderboard(table[table["dataset"].isin(datasets)], store.folder)
    for record in ended:
        if record.status != Status.OK:
            print_failure(record, store.folder / "trials" / record.trial_id / record.attempt)
    return ended


def _is_bad(record: TrialRecord) -> bool:
    return record.status not in (Status.OK, Status.SKIPPED)
