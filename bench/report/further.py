"""Accuracies on data sets that models were evaluated on besides their own: one row a setting and set of images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from bench.records import Status
from bench.report.tables import SETTING

ALL = "all"
COLUMNS = [*SETTING, "evaluated_on", "set", "accuracy_mean", "seeds"]


def further(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the mean accuracies over the seeds of each setting, on each set and, as the set `all`, over the sets.

    Each set weighs the same: over the corruptions of Hendrycks and Dietterich (2019), the mean corruption accuracy (one
    minus the mean of their errors before these are divided by AlexNet's).

    Args:
        trials: all attempts (`trials_table`), oldest first.

    """
    if "also_sets" not in trials:
        return pd.DataFrame(columns=COLUMNS)
    found = trials[(trials["status"] == str(Status.OK)) & trials["also_sets"].notna()]
    rows = [
        {**dict(zip(SETTING, setting, strict=True)), "evaluated_on": name, **row}
        for (setting, name), seeds in _by_setting(found.to_dict("records")).items()
        for row in _rows(list(seeds.values()))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _by_setting(trials: Iterable[Mapping[Any, Any]]) -> dict[tuple[Any, str], dict[str, Mapping[str, float]]]:
    """Return the accuracies by setting and data set, and in that by training, of which the last trial counts."""
    found: dict[tuple[Any, str], dict[str, Mapping[str, float]]] = {}
    for trial in trials:
        for name, sets in _mapping(trial["also_sets"]).items():
            numbers = {key: each for key, each in _mapping(json.dumps(sets)).items() if type(each) in (int, float)}
            if numbers:
                key = tuple(trial[column] for column in SETTING), name
                found.setdefault(key, {})[trial["training_id"]] = numbers
    return found


def _mapping(text: Any) -> Mapping[str, Any]:
    """Return the mapping in a record's JSON; an empty one of anything else, for anybody may have written it."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _rows(seeds: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    accuracies = {ALL: [fmean(sets.values()) for sets in seeds]}
    for name in dict.fromkeys(name for sets in seeds for name in sets):
        accuracies[name] = [sets[name] for sets in seeds if name in sets]
    return [{"set": name, "accuracy_mean": fmean(values), "seeds": len(values)} for name, values in accuracies.items()]
