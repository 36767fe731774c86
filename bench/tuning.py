"""The same search for every architecture: which learning rate, say, suits each of them.

One rate for all would measure whom it suits. The search looks at validation images alone, and tries the recipe's own
value and then points of a Sobol sequence between a tenth and ten times of it, evenly in their logarithms. Which points
these are does not depend on what came out before: so all architectures get the same ones, and they can be tried side by
side and resumed like any trials. Such points find good values with fewer trials than points that are drawn at random
(Bousquet et al. 2017, arXiv:1706.03200).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import UsageError
from bench.recipes import Recipe

SEED = 2**31
"""Of the trials of a search: none of those whose results are reported."""
TRIALS = 8
FACTOR = 10.0
TUNABLE = ("learning_rate", "weight_decay", "l2")


@dataclass(frozen=True)
class Tuning:
    """What is searched.

    Attributes:
        keys: of the recipe.
        trials: how many values are tried.

    """

    keys: tuple[str, ...]
    trials: int = TRIALS


def make_tuning(keys: Iterable[str], trials: int | None) -> Tuning:
    """Return the search that the command line or a sweep file asks for.

    Raises:
        UsageError: a key that cannot be searched, or too few trials.

    """
    parts = tuple(dict.fromkeys(part.strip() for key in keys for part in key.split(",")))
    for key in parts:
        if key not in TUNABLE:
            raise UsageError(f"--tune: expected some of {', '.join(TUNABLE)}, got {key!r}.")
    count = TRIALS if trials is None else trials
    if count < 2:
        raise UsageError(f"--tune-trials must be at least 2; got {count}.")
    return Tuning(parts, count)


def candidates(recipe: Recipe, tuning: Tuning) -> list[Recipe]:
    """Return the recipes to try, the recipe's own values first; each says what is searched, so no two searches mix.

    Raises:
        UsageError: a value of the recipe is 0, so that there is nothing to multiply; or Optuna is not installed.

    """
    for key in tuning.keys:
        if not getattr(recipe, key):
            raise UsageError(f"--tune {key}: recipe {recipe.label} has {key}=0, and the search is for multiples of it.")
    return [dataclasses.replace(recipe, tuned=tuning.keys, **values) for values in _points(recipe, tuning)]


def tuned(recipe: Recipe, tuning: Tuning, accuracies: Sequence[float | None]) -> Recipe | None:
    """Return the candidate that was best on the validation images, as a recipe that says so; None where all failed.

    Args:
        recipe: that was searched.
        tuning: the search.
        accuracies: of each candidate on the validation images; None for one that failed.

    """
    tried = list(zip(candidates(recipe, tuning), accuracies, strict=True))
    ended = [(accuracy, candidate) for candidate, accuracy in tried if accuracy is not None]
    if not ended:
        return None
    _, best = max(ended, key=lambda pair: pair[0])
    label = f"{recipe.label} tuned({','.join(tuning.keys)}; {tuning.trials} trials)"
    return dataclasses.replace(best, tuning_trials=tuning.trials, label=label)


def _points(recipe: Recipe, tuning: Tuning) -> list[Mapping[str, Any]]:
    """Return the values that are tried, by key: the recipe's own, and quasi-random multiples of them."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError('--tune needs Optuna, which is not installed: pip install -e ".[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    own = {key: getattr(recipe, key) for key in tuning.keys}
    space: dict[str, optuna.distributions.BaseDistribution] = {
        key: optuna.distributions.FloatDistribution(value / FACTOR, value * FACTOR, log=True)
        for key, value in own.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(scramble=True, seed=0, warn_independent_sampling=False)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(own)
    points: list[Mapping[str, Any]] = []
    for _ in range(tuning.trials):
        trial = study.ask(space)
        points.append(dict(trial.params))
        study.tell(trial, 0.0)  # a quasi-random sequence does not look at it
    return points
