"""One row an attempt, with everything that is a single value: what `trials.parquet` holds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from bench.environment import Environment
from bench.measurement.peak import utilisation
from bench.recipes import OWN, Recipe, recipe_label
from bench.records import TrialRecord, last_attempts

PEAK = "resolved_matmul_peak_flops"
HASH_DIGITS = 12
MOST_COLUMNS = 1_000  # beyond, records that somebody made up would fill the memory
HARDWARE = ["devices", "machine", "cores_used"]
OF_TRIAL = ["training_id", "machine", "cores_used", "environment"]  # of attempts that share these the last one counts
Row = dict[str, Any]


def trials_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return one row an attempt, with everything that is a single value. Lists and mappings are JSON text."""
    said: dict[int, Row] = {}  # by the environment's id: thousands of records share the object
    rows = []
    for record in records:
        known = said.get(id(record.environment))
        if known is None:
            known = said[id(record.environment)] = _hardware(record.environment)
        rows.append(_flatten(record, known))
    table = pd.DataFrame({name: _alike([row.get(name) for row in rows]) for name in _names(rows)})
    return _with_utilisation(table) if PEAK in table and "macs" in table else table


def _names(rows: Sequence[Row]) -> Iterable[str]:
    """Return the columns in the order in which they come up; where there are too many, those that most rows have."""
    counts = Counter(name for row in rows for name in row)
    if len(counts) <= MOST_COLUMNS:
        return counts
    kept = {name for name, _ in counts.most_common(MOST_COLUMNS)}
    return [name for name in counts if name in kept]


def _alike(values: list[Any]) -> list[Any]:
    """Return the values of a column; as JSON text where they are of several types, which no file could hold."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {int, float} or len(kinds) <= 1 or all(issubclass(kind, str) for kind in kinds):
        return values
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]


def _with_utilisation(trials: pd.DataFrame) -> pd.DataFrame:
    """Add the share of the matrix-product peak: the greatest that was measured on that hardware at that precision."""
    peaks = numbers(trials, PEAK).groupby([trials[name] for name in (*HARDWARE, "precision")]).transform("max")
    devices = numbers(trials, "devices").where(trials["device"] == "GPU", 1)  # of a processor's they are virtual
    peaks *= devices
    speed, macs = (numbers(trials, name) for name in ("train_images_per_second", "macs"))
    return trials.assign(utilisation=utilisation(speed, macs, peaks))


def numbers(trials: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Return a column as numbers, nan where there is none."""
    return pd.to_numeric(trials[name], errors="coerce") if name in trials else pd.Series(math.nan, trials.index)


def counted_trials(records: Sequence[TrialRecord], trials: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row a trial, machine and environment: its last attempt, with the columns of `trials_table`.

    Without the trials of searches, which saw no test image.
    """
    trials = trials_table(records) if trials is None else trials
    keys = zip(map(id, records), zip(*(trials[name] for name in OF_TRIAL), strict=True), strict=True)
    key_of = dict(keys)
    kept = {id(record) for record in last_attempts(records, lambda record: key_of[id(record)]).values()}
    return trials[[id(record) in kept and not record.spec.tuning for record in records]]


def _flatten(record: TrialRecord, hardware: Row) -> Row:
    spec = record.spec
    own = {
        "trial_id": record.trial_id,
        "training_id": _training_id(record),
        "attempt": record.attempt,
        "status": str(record.status),
        "reason": str(record.reason),
        "message": record.message,
        "log_tail": record.log_tail,
        "dataset": spec.dataset.label,
        "architecture": spec.architecture.label,
        **_recipe(spec.recipe),
        "precision": spec.precision,
        "backend": spec.backend,
        "devices": spec.devices,
        "seed": spec.seed,
        "train_fraction": spec.train_fraction,
        "tuning": spec.tuning,
        **hardware,
        "architecture_source": spec.architecture.sources,
        "dataset_source": spec.dataset.sources,
        "data_fingerprint": spec.data_fingerprint,
        "started_at": record.started_at,
        "trial_seconds": record.seconds - record.phases.get("profile", 0.0),  # which one seed of many has
    }
    figures = {key: _plain(value) for key, value in record.metrics.items()}
    figures |= {f"{phase}_seconds": seconds for phase, seconds in record.phases.items()}
    figures |= {f"resolved_{key}": _plain(value) for key, value in record.resolved.items()}
    return own | figures | own  # whatever figures are called, they take no other column's place


def _training_id(record: TrialRecord) -> str:
    """Return what trials share that train alike: what else a model was evaluated on makes another trial of it."""
    spec = record.spec
    return dataclasses.replace(spec, evaluate_also=()).trial_id if spec.evaluate_also else record.trial_id


@cache
def _recipe(recipe: Recipe) -> Row:
    """Return the recipe's columns.

    What recipes share that are compared is all that they say, but for values that were searched for each architecture;
    of architectures' own recipes only the name.
    """
    identity = recipe.identity()
    shared = {key: value for key, value in identity.items() if key not in recipe.tuned}
    return {
        "recipe": recipe_label(recipe),
        "recipe_resolved": json.dumps(recipe.to_json()),
        "recipe_hash": _digest(identity),
        "recipe_shared": "" if recipe.name == OWN else _digest(shared),
    }


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:HASH_DIGITS]


def _hardware(environment: Environment) -> Row:
    return {
        "device": environment.device,
        "machine": environment.machine,
        "cores_used": environment.cores_used or environment.cores,
        "environment": environment.software,
        "environment_full": json.dumps(environment.to_json()),
    }


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value
