"""How each weight of a model is trained: its own learning rate and decay, and the epochs in which it is frozen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import keras

from bench.errors import UsageError
from bench.recipes import Group

NEVER_DECAYED = {"bias", "gamma", "beta"}
SHOWN_PATHS = 8
SILENT = Group(match="*")
"""A group that changes nothing."""


@dataclass(frozen=True)
class Weight:
    """How one trainable variable is trained.

    Attributes:
        index: its position in the model's `trainable_variables`.
        path: its name in the model, `conv2d/kernel`.
        rate: multiplies the learning rate.
        decay: how strongly `l2` and `weight_decay` act on it.
        from_epoch: it is frozen in epochs before that one, counted from 0.
        until_epoch: it is frozen from that epoch on; infinity: never.

    """

    index: int
    path: str
    rate: float
    decay: float
    from_epoch: float = 0.0
    until_epoch: float = math.inf

    def trained_in(self, epoch: int) -> bool:
        """Return whether it is trained in an epoch; what falls within an epoch begins with the next one."""
        return self.from_epoch <= epoch < self.until_epoch

    @property
    def is_always_trained(self) -> bool:
        """Return whether it is never frozen."""
        return self.from_epoch == 0 and self.until_epoch == math.inf


@dataclass(frozen=True)
class Phase:
    """Epochs in which the same weights are trained.

    Attributes:
        start: the first of them, counted from 0.
        trained: the indices of the weights.

    """

    start: int
    trained: frozenset[int]


def resolve_groups(groups: Sequence[Group], model: keras.Model) -> tuple[Weight, ...]:
    """Return how each of the model's trainable variables is trained, in their order.

    Of the groups that match a variable the last one counts, for each property by itself: what a group leaves at its
    default it does not change. So general groups come first, and those that refine them after.

    Raises:
        UsageError: a group that is not optional matches no variable.

    """
    head = {id(each) for each in head_variables(model)}
    weights = []
    matched: set[Group] = set()
    for index, variable in enumerate(model.trainable_variables):
        own = [group for group in groups if _matches(group, variable, id(variable) in head)]
        weights.append(_weight(index, variable, own))
        matched.update(own)
    for group in groups:
        if group not in matched and not group.optional:
            raise _no_match(group, [each.path for each in model.trainable_variables])
    return tuple(weights)


def phases(weights: Sequence[Weight], epochs: float) -> tuple[Phase, ...]:
    """Return the phases of a training of so many epochs: a new one begins where other weights are trained than before.

    Raises:
        UsageError: there is an epoch in which no weight is trained.

    """
    found: list[Phase] = []
    edges = {edge for each in weights for edge in (each.from_epoch, each.until_epoch)} - {math.inf}
    for epoch in sorted({0} | {math.ceil(edge) for edge in edges}):
        trained = frozenset(each.index for each in weights if each.trained_in(epoch))
        if epoch < epochs and not trained:
            raise UsageError(
                f"groups: every weight is frozen in epoch {epoch}, counted from 0. Some must be trained in each epoch; "
                "see the groups' from_epoch and until_epoch."
            )
        if epoch < epochs and (not found or trained != found[-1].trained):
            found.append(Phase(epoch, trained))
    return tuple(found)


def head_variables(model: keras.Model) -> list[Any]:
    """Return the trainable variables of the last layer that has any; of a nested model, those of its last layer."""
    last: Any = model
    while isinstance(last, keras.Model):
        layers = [layer for layer in last.layers if layer.trainable_variables]
        if not layers:
            break
        last = layers[-1]
    return list(last.trainable_variables)


def default_decay(variable: Any) -> float:
    """Return 1 for kernels and matrices, which decay, and 0 for biases and normalisation scales, which do not.

    Names count beside shapes, since an attention layer's biases are matrices.
    """
    return float(len(variable.shape) >= 2 and variable.name not in NEVER_DECAYED)


def _matches(group: Group, variable: Any, in_head: bool) -> bool:
    if group.match == "head":
        return in_head
    if group.match == "backbone":
        return not in_head
    return fnmatchcase(variable.path, group.match)


def _weight(index: int, variable: Any, groups: Sequence[Group]) -> Weight:
    values = {"rate": 1.0, "decay": default_decay(variable), "from_epoch": 0.0, "until_epoch": math.inf}
    for group in groups:
        values |= {key: getattr(group, key) for key in values if getattr(group, key) != getattr(SILENT, key)}
    return Weight(index, variable.path, **values)


def _no_match(group: Group, paths: Sequence[str]) -> UsageError:
    shown = ", ".join(paths[:SHOWN_PATHS]) + (
        f" and {len(paths) - SHOWN_PATHS} more" if len(paths) > SHOWN_PATHS else ""
    )
    return UsageError(
        f"groups: match = {group.match!r} is none of the model's trainable weights. Expected head, backbone or a "
        f"pattern of paths such as '*/kernel'; the weights are {shown}. For a group that only some models have, say "
        "optional = true."
    )
