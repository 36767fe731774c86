"""Keras's optimizers, with a learning rate and a decay of its own for each weight, and weights that may be frozen.

All of it happens in `update_step`, which every backend calls for one variable at a time: also TensorFlow within each
replica of a MirroredStrategy, and JAX within `stateless_apply`. (On PyTorch, Keras's own classes update all variables
together; a subclass does not, so that ours are used only where they are needed.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from bench.groups import Weight


class PerWeight(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Goes before one of Keras's optimizers as a base class, whose update it scales for each weight.

    Decay is decoupled and comes first: w becomes w · (1 - rate · factor · weight_decay), with the weight's own rate and
    factor, as Keras and PyTorch do it for AdamW.

    Attributes:
        per_weight: how each variable that the optimizer is built with is trained, in their order.
        decoupled: the recipe's `weight_decay`. Keras's attribute of that name stays None: it would act alike on all.
        trained: the indices of the weights that are being trained; None: all. A frozen weight is not updated, nor does
            it decay, and what the optimizer keeps of it stays as it is, whatever gradient comes. It is read when a step
            is traced: what was compiled before it changed goes on as it was.

    """

    trained: frozenset[int] | None = None

    def __init__(self, rate: Any, weights: Sequence[Weight], weight_decay: float, **options: Any) -> None:
        super().__init__(rate, **options)
        self.per_weight = tuple(weights)
        self.decoupled = weight_decay

    def build(self, variables: list[Any]) -> None:
        """Make the optimizer's variables: Keras's, and the updates counted of each weight that begins late."""
        super().build(variables)
        self.count_late()

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable, if it is trained."""
        weight = self.per_weight[self._get_variable_index(variable)]
        if self.trained is None or weight.index in self.trained:
            gradient = ops.cast(gradient, variable.dtype)
            self.change(gradient, variable, weight, ops.cast(learning_rate, variable.dtype) * weight.rate)
            if self.updates[weight.index] is not None:
                self.assign_add(self.updates[weight.index], 1)

    def change(self, gradient: Any, variable: Any, weight: Weight, rate: Any) -> None:
        """Change one variable, at the weight's own rate."""
        self.shrink(variable, weight, rate)
        super().update_step(gradient, variable, rate)

    def shrink(self, variable: Any, weight: Weight, rate: Any) -> None:
        """Apply the decoupled decay."""
        factor = self.decoupled * weight.decay
        if factor:
            self.assign_sub(variable, variable * (rate * factor))

    def count(self, weight: Weight, dtype: str) -> Any:
        """Return how many updates a weight will have had with this one, as a float: 1 for the first."""
        counter = self.updates[weight.index]
        return ops.cast((self.iterations if counter is None else counter) + 1, dtype)

    def count_late(self) -> None:
        """Count the updates of each weight that begins late; for others that is the number of steps."""
        self.updates = [
            self.add_variable((), dtype="int", name="updates") if weight.from_epoch > 0 else None
            for weight in self.per_weight
        ]


class Sgd(PerWeight, keras.optimizers.SGD):  # type: ignore[misc]
    """SGD with momentum; the velocity contains the rate, as in Keras and Caffe."""


class Lion(PerWeight, keras.optimizers.Lion):  # type: ignore[misc]
    """Lion (Chen et al. 2023)."""


class Adam(PerWeight, keras.optimizers.Adam):  # type: ignore[misc]
    """Adam, and with decay AdamW, whose bias correction counts the updates of each weight.

    Keras counts all steps: the first updates of a weight that was frozen before would be up to three times too large.
    """

    def change(self, gradient: Any, variable: Any, weight: Weight, rate: Any) -> None:
        """Change one variable, at the weight's own rate."""
        self.shrink(variable, weight, rate)
        if self.updates[weight.index] is not None:
            own, all_steps = self.count(weight, variable.dtype), ops.cast(self.iterations + 1, variable.dtype)
            rate = rate * self._correction(own) / self._correction(all_steps)
        keras.optimizers.Adam.update_step(self, gradient, variable, rate)

    def _correction(self, count: Any) -> Any:
        """Return what Keras's Adam multiplies the rate by, at the first update and on."""
        return ops.sqrt(1 - ops.power(self.beta_2, count)) / (1 - ops.power(self.beta_1, count))
