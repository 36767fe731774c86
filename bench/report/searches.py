"""One row a search for values of the recipe: what was tried, what it cost, and what was best on validation images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.records import Status
from bench.report.trials import HARDWARE, OF_TRIAL, numbers
from bench.tuning import TUNABLE

SETTING = [
    *("dataset", "architecture", "recipe", "train_fraction", "precision", "backend", *HARDWARE, "environment"),
    *("architecture_source", "dataset_source", "data_fingerprint"),
]
COLUMNS = [
    *SETTING,
    "tried",
    "failed",
    "search_seconds",
    "best_validation_accuracy",
    *(f"best_{key}" for key in TUNABLE),
]


def searches(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the searches in a table of attempts (`trials_table`), in the order of their settings."""
    if not len(trials) or not trials["tuning"].any():
        return pd.DataFrame(columns=COLUMNS)
    tried = _last(trials[trials["tuning"]])
    rest = tried["recipe_resolved"].map(_without_values)  # of two recipes that have the same name
    groups = tried.groupby([*(tried[name] for name in SETTING), rest])
    rows = [_row(dict(zip(SETTING, key, strict=False)), group) for key, group in groups]
    return pd.DataFrame(rows, columns=COLUMNS)


def _last(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the last attempt at each trial, oldest first; an interrupted one says nothing, and will be run again."""
    ended = trials[trials["status"] != str(Status.INTERRUPTED)]
    return ended.groupby(OF_TRIAL, sort=False).tail(1)


def _without_values(recipe: str) -> str:
    return json.dumps({key: value for key, value in json.loads(recipe).items() if key not in TUNABLE})


def _row(setting: Mapping[Any, Any], group: pd.DataFrame) -> dict[str, Any]:
    ended = group[group["status"] == str(Status.OK)]
    row = {
        **setting,
        "tried": len(group),
        "failed": len(group) - len(ended),
        "search_seconds": group["trial_seconds"].sum(),
    }
    accuracies = numbers(ended, "validation_accuracy")
    if not accuracies.notna().any():
        return row
    recipe = json.loads(ended["recipe_resolved"].tolist()[accuracies.tolist().index(accuracies.max())])
    values = {f"best_{key}": recipe[key] for key in TUNABLE}
    return {**row, "best_validation_accuracy": accuracies.max(), **values}
