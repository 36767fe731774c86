"""What a model costs, counted from its layers."""

from __future__ import annotations

import math
from typing import Any

MOVING_STATISTICS = {"moving_mean", "moving_variance"}


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return the parameters, trainable and frozen, and the trainable ones alone.

    BatchNorm's moving statistics are state, not parameters; a frozen kernel is a parameter.
    """
    counted = [variable for variable in model.weights if variable.name not in MOVING_STATISTICS]
    return _size(counted), _size(model.trainable_variables)


def _size(variables: list[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
