"""The learning rate at every step of a training, as a table that NumPy computes and any backend looks up."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from bench.recipes import Recipe

Floats = npt.NDArray[np.float64]


def rates(recipe: Recipe, total_steps: int) -> npt.NDArray[np.float32]:
    """Return the recipe's learning rate at every step, float32 (total_steps,).

    The rate rises from `start_factor` at step 0 to its highest at step W, the share `warmup` of all steps, rounded, and
    falls from there so that it would be at `end_factor` at step `total_steps`, one after the last. Lines are straight,
    but `onecycle` rises by half a cosine (Smith 2018, in the form of PyTorch's OneCycleLR), and `onecycle` and `cosine`
    fall by one. `constant` stays at its highest; `multistep` is multiplied by `decay_factor` from each milestone on, a
    fraction of all steps, warm-up included.
    """
    step = np.arange(total_steps, dtype=np.float64)
    warmup = round(recipe.warmup * total_steps)
    rise = _cosine if recipe.schedule == "onecycle" else _line
    rising = rise(step / max(1, warmup), recipe.start_factor, 1.0)
    falling = _falling(recipe, step, (step - warmup) / max(1, total_steps - warmup))
    return np.asarray(recipe.learning_rate * np.where(step < warmup, rising, falling), np.float32)


def _falling(recipe: Recipe, step: Floats, progress: Floats) -> Floats:
    """Return the rate after the warm-up, as a fraction of its highest; `progress` is 0 at its end and 1 at the end."""
    if recipe.schedule == "constant":
        return np.ones_like(step)
    if recipe.schedule == "multistep":
        milestones = [round(each * len(step)) for each in recipe.milestones]
        return np.power(recipe.decay_factor, np.searchsorted(milestones, step, side="right"))
    fall = _line if recipe.schedule == "triangular" else _cosine
    return fall(progress, 1.0, recipe.end_factor)


def _line(progress: Floats, start: float, end: float) -> Floats:
    return start + (end - start) * progress


def _cosine(progress: Floats, start: float, end: float) -> Floats:
    """Go from start to end by half a cosine, level at both."""
    return end + (start - end) * (1 + np.cos(np.pi * progress)) / 2


class Tabulated(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Looks the learning rate up by the step; past the end of the table it stays at the last one.

    Attributes:
        table: float32 (steps,), on the host.

    """

    def __init__(self, table: npt.ArrayLike) -> None:
        super().__init__()
        self.table = np.asarray(table, np.float32)
        # On the device once: optimizers ask for the rate several times a step, and each time would make a constant.
        self._placed = ops.convert_to_tensor(self.table)

    def __call__(self, step: Any) -> Any:
        """Return the rate at a step, counted from 0: a float32 scalar."""
        return ops.take(self._placed, ops.minimum(ops.cast(step, "int32"), len(self.table) - 1))

    def get_config(self) -> dict[str, Any]:
        """Return what makes another one like it."""
        return {"table": self.table.tolist()}
