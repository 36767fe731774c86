"""LAMB (You et al. 2020, arXiv:1904.00962, algorithm 2)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bench.groups import Weight
from bench.optimizers.weighted import PerWeight


class Lamb(PerWeight, keras.optimizers.Lamb):  # type: ignore[misc]
    """LAMB, whose decay is part of the update that the trust ratio scales.

    w becomes w - rate · |w| / |u| · u with u = m / (√v + epsilon) + weight_decay · w, m and v corrected for their bias.
    Keras's own decays before that, so that its trust ratio knows nothing of it. The ratio is 1 where either norm is 0,
    and for weights that do not decay (biases, normalisation scales), as in the authors' code: begun at 0, such a weight
    could hardly grow.
    """

    def change(self, gradient: Any, variable: Any, weight: Weight, rate: Any) -> None:
        """Change one variable, at the weight's own rate."""
        update = self._adapted(gradient, variable, weight)
        if weight.decay:
            update = update + self.decoupled * weight.decay * variable
            rate = rate * _trust(ops.norm(ops.reshape(variable, (-1,))), ops.norm(ops.reshape(update, (-1,))))
        self.assign_sub(variable, rate * update)

    def _adapted(self, gradient: Any, variable: Any, weight: Weight) -> Any:
        """Return Adam's direction, and keep its moments."""
        index, count = weight.index, self.count(weight, variable.dtype)
        mean = self.beta_1 * self._momentums[index] + (1 - self.beta_1) * gradient
        square = self.beta_2 * self._velocities[index] + (1 - self.beta_2) * ops.square(gradient)
        self.assign(self._momentums[index], mean)
        self.assign(self._velocities[index], square)
        mean = mean / (1 - ops.power(self.beta_1, count))
        square = square / (1 - ops.power(self.beta_2, count))
        return mean / (ops.sqrt(square) + self.epsilon)


def _trust(weight: Any, update: Any) -> Any:
    """Return the ratio of two norms, 1 where one of them is 0."""
    known = ops.logical_and(weight > 0, update > 0)
    return ops.where(known, weight / ops.where(known, update, 1.0), 1.0)
