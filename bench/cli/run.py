"""`bench run`: plan the sweep, run what is missing, report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.cli.console import print_failure, print_leaderboard
from bench.cli.inputs import recipe_of, seeds_of, sources_of
from bench.cli.progress import make_observer, prepare_progress
from bench.environment import BACKENDS, Device, describe, resolve_precision
from bench.errors import BackendError
from bench.execution.devices import matmul_peak, remembered_peak, resolve_device
from bench.execution.planning import Policy, Request, Trial, plan, prepare_sources, remaining
from bench.execution.profiles import Profiles
from bench.execution.runner import Runner
from bench.execution.server import ForkServer
from bench.plugins import discover
from bench.records import Status, TrialRecord, last_attempts
from bench.report.files import write_report
from bench.store import Store


def run_sweep(arguments: argparse.Namespace) -> int:
    """Run a sweep and report. Returns 0 when every trial is well, skipped ones aside, else 1.

    Raises:
        KeyboardInterrupt: after the report was written.

    """
    recipe, seeds = recipe_of(arguments), seeds_of(arguments)
    architectures = discover("architecture", arguments.plugins)
    choices = [architectures.choose(reference) for reference in arguments.arch]
    sources = sources_of(arguments, arguments.dataset)
    store = Store(arguments.results)
    store.check_writable()
    before = store.records()
    server = ForkServer(arguments.backend)
    with prepare_progress(arguments.quiet) as progress:
        prepared = prepare_sources(sources, server, progress)
    device = resolve_device(server)
    if device.note:
        print(f"bench: note: {device.note}", file=sys.stderr)
    request = Request(
        architectures=choices,
        sources=sources,
        recipe=recipe,
        precision=resolve_precision(arguments.precision, device),
        backend=arguments.backend,
        seeds=seeds,
    )
    trials = plan(request, prepared)
    environment = describe(device, arguments.backend)
    policy = Policy(force=arguments.force, retry_failed=arguments.retry_failed)
    todo = remaining(trials, before, environment.machine, policy)
    _announce(trials, todo, request, device.name, arguments.quiet)
    profiles = Profiles(environment, before, todo, wanted=arguments.measure == "full")
    if todo:
        server.check()  # here, so that the first trial's seconds hold no import
    peak = _peak(server, device, request.precision, any(profiles.is_missing(trial.spec) for trial in todo))
    try:
        with make_observer(len(todo), arguments.quiet) as observer:
            Runner(store, server, device, environment, arguments.logits, observer, profiles, peak).run(todo)
    finally:
        ended = _report(store, trials, environment.machine, arguments)
    return int(any(_is_bad(record) for record in ended) or not any(record.status == Status.OK for record in ended))


def _peak(server: ForkServer, device: Device, precision: str, measure: bool) -> float | None:
    """Return the matrix-product peak: measured where much else is measured too, else as remembered."""
    try:
        return matmul_peak(server, device, precision) if measure else remembered_peak(device, precision)
    except BackendError as error:  # no sweep ends for want of it
        print(f"bench: note: {error} Utilisation stays blank.", file=sys.stderr)
        return None


def _announce(trials: Sequence[Trial], todo: Sequence[Trial], request: Request, device: str, quiet: bool) -> None:
    if quiet:
        return
    done = len(trials) - len(todo)
    print(f"{len(trials)} trial{'s' * (len(trials) != 1)} in {request.precision} on {device}", flush=True)
    if done:
        print(f"{done} of them ended before (--force runs them again, --retry-failed those that failed)", flush=True)
    print(
        f"importing {BACKENDS[request.backend].title}, once for all of them ..." if todo else "nothing is left to run",
        flush=True,
    )


def _report(store: Store, trials: Sequence[Trial], machine: str, arguments: argparse.Namespace) -> list[TrialRecord]:
    """Write and print the tables, and return the last record of each of the sweep's trials that has one."""
    records = store.records()
    here = [record for record in records if record.environment.machine == machine]
    last = last_attempts(here, lambda record: record.trial_id)
    ended = [last[trial.spec.trial_id] for trial in trials if trial.spec.trial_id in last]
    if not ended:
        return []
    table = write_report(store.folder, records)
    if not arguments.quiet:
        datasets = {record.spec.dataset.label for record in ended}
        print_leaderboard(table[table["dataset"].isin(datasets)], arguments.results)
    for record in ended:
        if record.status != Status.OK:
            print_failure(record, _folder(store, record))
    return ended


def _folder(store: Store, record: TrialRecord) -> Path:
    return store.folder / "trials" / record.trial_id / record.attempt


def _is_bad(record: TrialRecord) -> bool:
    return record.status not in (Status.OK, Status.SKIPPED)
