"""The trials of a search for values of the recipe, and the trials that are run with what it found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.data.cache import Prepared
from bench.errors import UsageError
from bench.execution.planning import Choice, plan
from bench.records import Status, TrialRecord
from bench.tuning import SEED, Tuning, candidates, tuned


@dataclass(frozen=True)
class Search:
    """The candidates for what a choice's seeds share, in the order of `bench.tuning.candidates`."""

    of: Choice
    tuning: Tuning
    choices: Sequence[Choice]


def searches_of(choices: Iterable[Choice], tuning: Tuning) -> list[Search]:
    """Return a search for each combination of architecture, data set, recipe and so on; seeds share it.

    Raises:
        UsageError: there would be no validation images to choose by, or nothing to search.

    """
    shared = {_shared(choice): choice for choice in choices}
    return [_search(choice, tuning) for choice in shared.values()]


def tuned_choices(
    choices: Iterable[Choice],
    searches: Iterable[Search],
    prepared: Mapping[str, Prepared],
    last: Mapping[Any, TrialRecord],
) -> tuple[list[Choice], list[Search]]:
    """Return the choices with the values that were found, and the searches of which every candidate failed.

    Args:
        choices: that were to be run.
        searches: for their values, ended by now.
        prepared: the data sets, by their labels.
        last: the last record of each trial, by its id.

    """
    recipes, failed = {}, []
    for search in searches:
        ids = [trial.spec.trial_id for trial in plan(search.choices, prepared)]
        accuracies = [_accuracy(last.get(each)) for each in ids]
        recipe = recipes[_shared(search.of)] = tuned(search.of.recipe, search.tuning, accuracies)
        failed += [search] if recipe is None else []
    found = ((choice, recipes[_shared(choice)]) for choice in choices)
    return [dataclasses.replace(choice, recipe=recipe) for choice, recipe in found if recipe is not None], failed


def _search(choice: Choice, tuning: Tuning) -> Search:
    recipe = choice.recipe
    if not recipe.validation_fraction:
        raise UsageError(
            f"--tune chooses by accuracy on validation images, and recipe {recipe.label} holds none out. "
            "Add --set validation_fraction=0.1"
        )
    tries = [
        dataclasses.replace(choice, recipe=each, seed=SEED, evaluate_also=(), tuning=True)
        for each in candidates(recipe, tuning)
    ]
    return Search(choice, tuning, tries)


def _shared(choice: Choice) -> tuple[Any, ...]:
    """Return what the trials of one search have in common: everything but the seed."""
    labels = choice.architecture.label, choice.source.choice.label
    return *labels, choice.recipe, choice.precision, choice.backend, choice.devices, choice.train_fraction


def _accuracy(record: TrialRecord | None) -> float | None:
    if record is None or record.status != Status.OK:
        return None
    accuracy: float | None = record.metrics.get("validation_accuracy")
    return accuracy
