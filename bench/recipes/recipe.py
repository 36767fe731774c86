"""One way to train, as plain data, and what its values may be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import UsageError, unknown_name
from bench.literals import replace_defaults


@dataclass(frozen=True, kw_only=True)
class Group:
    """Weights that are trained in another way than the rest; of groups that match a weight, later ones count.

    Attributes:
        match: a pattern of variables' paths (`*/beta`), or `head`: the weights of the model's last layer that has any,
            or `backbone`: all others.
        rate: multiplies the learning rate.
        decay: how strongly `l2` and `weight_decay` act; None: 1 on kernels and matrices, 0 on biases and
            normalisation scales.
        from_epoch: before that, the weights are frozen.
        until_epoch: from that on, the weights are frozen; 0: never.
        optional: whether a model may have no such weights; else that is an error.

    """

    match: str
    rate: float = 1.0
    decay: float | None = None
    from_epoch: float = 0.0
    until_epoch: float = 0.0
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train.

    Attributes:
        name: what the recipe is called.
        label: the name with what was overridden, as tables show it.
        epochs: passes over the training images; 9.9 ends within the tenth.
        min_steps: least number of steps; on small sets it raises the number of epochs. `--epochs` sets it to 0.
        budget_flops: what a training may cost, in floating-point operations, 6 for each multiply-add of the model and
            image; it takes the place of `epochs`. 0: no such budget.
        batch_size: images a step.
        drop_remainder: leave out the last, smaller batch of an epoch (other images each epoch, as they are shuffled).
        optimizer: `sgd`, `adam`, `adamw`, `lamb`, `lion` or `muon`.
        learning_rate: at its highest point.
        momentum: of SGD and Muon.
        nesterov: whether SGD looks ahead.
        beta_1: decay of the mean of gradients, of Adam, AdamW, LAMB, Lion, and Muon for what is no matrix.
        beta_2: decay of the mean of their squares, likewise.
        epsilon: added to the root of that mean.
        weight_decay: decoupled decay, scaled by the learning rate (Loshchilov and Hutter 2019), of matrices and
            kernels; biases and normalisation scales are left alone.
        l2: L2 penalty l2/2·|w|² on matrices and kernels, so its gradient is l2·w, as published SGD recipes mean it.
        schedule: `constant`, `multistep`, `cosine`, `onecycle` or `triangular`.
        warmup: fraction of all steps over which the learning rate rises.
        milestones: fractions of all steps at which `multistep` multiplies the rate by `decay_factor`.
        decay_factor: see `milestones`.
        start_factor: the rate at the very beginning of the rise, as a fraction of `learning_rate`.
        end_factor: the rate at the end of a schedule that falls, likewise.
        clip_norm: the gradient's greatest global norm; 0 leaves it alone.
        label_smoothing: mixture weight of the uniform distribution in the targets.
        average: `none`, `ema` (the end is a moving average of the weights) or `lookahead` (training goes on from it).
        average_every: steps from one averaging to the next.
        average_decay: what an averaging keeps of the average; of `lookahead` at the end, growing with the third power.
        normalization: `symmetric` maps 0..255 to [-1, 1]; `standardize` subtracts the training images' channel means
            and divides by their standard deviations.
        crop_padding: random crops after padding each side by this fraction of the image's size (0.125: 4 pixels of 32).
        crop_fill: what the padding is: `zeros`, or the image's `reflect`ion.
        flip: mirror half of the images, on data sets whose labels allow it.
        flip_alternates: an image is seen mirrored every other epoch (Jordan 2024) rather than at random.
        cutout: side of a square that is blanked, as a fraction of the image's (DeVries and Taylor 2017).
        mixup: alpha of the mixture of two images (Zhang et al. 2018); 0: none.
        cutmix: alpha of the part that another image takes (Yun et al. 2019); 0: none. With both, each batch draws one.
        rand_augment: operations of RandAugment an image (Cubuk et al. 2020).
        rand_magnitude: their strength, 0 to 1.
        resized_crop: least share of the area of a random part that is resized to the image's size; 0: none.
        test_time: `none`, `flip` or `flip_shift`: views that are averaged in a second test accuracy.
        validation_fraction: share of the training images held out for validation, stratified, drawn by the seed; a
            data set's own validation split is used instead where there is one. 0 trains on everything.
        groups: weights that are trained in another way.
        tuned: keys whose values were searched for each architecture by itself.
        tuning_trials: how many values were tried.

    """

    name: str
    label: str = ""
    epochs: float
    min_steps: int = 0
    budget_flops: float = 0.0
    batch_size: int
    drop_remainder: bool = True
    optimizer: str
    learning_rate: float
    momentum: float = 0.9
    nesterov: bool = False
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.0
    l2: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    milestones: tuple[float, ...] = ()
    decay_factor: float = 0.1
    start_factor: float = 0.0
    end_factor: float = 0.0
    clip_norm: float = 0.0
    label_smoothing: float = 0.0
    average: str = "none"
    average_every: int = 1
    average_decay: float = 0.0
    normalization: str = "standardize"
    crop_padding: float = 0.0
    crop_fill: str = "zeros"
    flip: bool = False
    flip_alternates: bool = False
    cutout: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    rand_augment: int = 0
    rand_magnitude: float = 0.5
    resized_crop: float = 0.0
    test_time: str = "none"
    validation_fraction: float = 0.0
    groups: tuple[Group, ...] = ()
    tuned: tuple[str, ...] = ()
    tuning_trials: int = 0

    def steps_per_epoch(self, images: int) -> int:
        """Return the steps of one epoch over that many images."""
        return images // self.batch_size if self.drop_remainder else math.ceil(images / self.batch_size)

    def total_steps(self, images: int, macs: int | None = None) -> int:
        """Return the steps to train on that many images, of a model of so many multiply-adds an image.

        Raises:
            ValueError: the recipe has a budget, and what the model costs is not known.

        """
        if self.budget_flops:
            if not macs:
                raise ValueError("the multiply-adds of this model are not known, so a budget of FLOPs means nothing")
            return max(1, int(self.budget_flops / (TRAINING_FLOPS * macs * self.batch_size)))
        per_epoch = self.steps_per_epoch(images)
        whole = math.ceil(self.min_steps / per_epoch) * per_epoch
        return max(1, whole, math.ceil(round(self.epochs * per_epoch, 6)))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}

    def identity(self) -> dict[str, Any]:
        """Return what decides a training: keys at their defaults are left out, so that new ones change no identity."""
        values = self.to_json()
        values.pop("label")
        defaults = {item.name: _plain(item.default) for item in dataclasses.fields(self)}
        return {key: value for key, value in values.items() if value != defaults[key]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_json` wrote."""
        lists = {key: tuple(value[key]) for key in ("milestones", "tuned") if key in value}
        groups = tuple(Group(**each) for each in value.get("groups", ()))
        return cls(**{**value, **lists, "groups": groups})


TRAINING_FLOPS = 6  # a multiply-add is two operations, and the backward pass takes twice the forward pass's
NOT_KEYS = ("name", "label", "tuned", "tuning_trials")
KEYS = {item.name: item for item in dataclasses.fields(Recipe) if item.name not in NOT_KEYS}
REQUIRED: Mapping[str, Any] = {"epochs": 1.0, "batch_size": 1, "optimizer": "", "learning_rate": 1.0}
"""The keys that a recipe must say, with a value of their types."""

CHOICES = {
    "optimizer": ("sgd", "adam", "adamw", "lamb", "lion", "muon"),
    "schedule": ("constant", "multistep", "cosine", "onecycle", "triangular"),
    "average": ("none", "ema", "lookahead"),
    "normalization": ("symmetric", "standardize"),
    "crop_fill": ("zeros", "reflect"),
    "test_time": ("none", "flip", "flip_shift"),
}

Range = tuple[Callable[[Any], bool], str]
AT_LEAST_0: Range = (lambda value: 0 <= value < math.inf, "at least 0")
BELOW_1: Range = (lambda value: 0 <= value < 1, "from 0 to below 1")
TO_1: Range = (lambda value: 0 <= value <= 1, "from 0 to 1")
ABOVE_0: Range = (lambda value: 0 < value < math.inf, "above 0")
FROM_1: Range = (lambda value: 1 <= value < math.inf, "at least 1")
LONGEST = 1e6  # epochs
RANGES: Mapping[str, Range] = {
    "epochs": (lambda value: 0 < value <= LONGEST, "above 0 and at most 1,000,000"),
    "min_steps": AT_LEAST_0,
    "budget_flops": (lambda value: 0 <= value <= 1e27, "from 0 to 1e27"),
    "batch_size": FROM_1,
    "learning_rate": ABOVE_0,
    "momentum": BELOW_1,
    "beta_1": BELOW_1,
    "beta_2": BELOW_1,
    "epsilon": ABOVE_0,
    "weight_decay": AT_LEAST_0,
    "l2": AT_LEAST_0,
    "warmup": BELOW_1,
    "decay_factor": ABOVE_0,
    "start_factor": TO_1,
    "end_factor": TO_1,
    "clip_norm": AT_LEAST_0,
    "label_smoothing": BELOW_1,
    "average_every": FROM_1,
    "average_decay": BELOW_1,
    "crop_padding": BELOW_1,
    "cutout": TO_1,
    "mixup": AT_LEAST_0,
    "cutmix": AT_LEAST_0,
    "rand_augment": AT_LEAST_0,
    "rand_magnitude": TO_1,
    "resized_crop": TO_1,
    "validation_fraction": BELOW_1,
}
ADAPTIVE = ("adam", "adamw", "lamb", "lion", "muon")
USED_BY: Mapping[
    str, tuple[str, tuple[str, ...]]
] = {  # a key, and the values of another one with which it means something
    "momentum": ("optimizer", ("sgd", "muon")),
    "nesterov": ("optimizer", ("sgd",)),
    "beta_1": ("optimizer", ADAPTIVE),
    "beta_2": ("optimizer", ADAPTIVE),
    "epsilon": ("optimizer", ("adam", "adamw", "lamb", "muon")),
    "weight_decay": ("optimizer", ("adamw", "lamb", "lion", "muon")),
    "milestones": ("schedule", ("multistep",)),
    "decay_factor": ("schedule", ("multistep",)),
    "end_factor": ("schedule", ("cosine", "onecycle", "triangular")),
    "average_every": ("average", ("ema", "lookahead")),
    "average_decay": ("average", ("ema", "lookahead")),
}
PART_OF = {
    "start_factor": "warmup",
    "crop_fill": "crop_padding",
    "flip_alternates": "flip",
    "rand_magnitude": "rand_augment",
}
"""A key, and another one that must be on for it to mean something."""


def make_recipe(name: str, values: Mapping[str, Any], owner: str, said: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe that a mapping describes; what it does not say has its default.

    Args:
        name: what the recipe is called.
        values: its keys, `groups` as tables.
        owner: what messages begin with.
        said: those keys that must mean something with the others; all of them, unless told.

    Raises:
        UsageError: an unknown or missing key, a value of a wrong type or out of range, keys that do not go together.

    """
    for key in values:
        if key not in KEYS:
            raise UsageError(f"{owner}: {unknown_name('key of a recipe', key, KEYS)}")
    for key in REQUIRED:
        if key not in values:
            raise UsageError(f"{owner}: {key} is missing. A recipe says at least {', '.join(REQUIRED)}.")
    defaults = {key: REQUIRED.get(key, item.default) for key, item in KEYS.items() if key != "groups"}
    plain = {key: value for key, value in values.items() if key != "groups"}
    milestones = plain.pop("milestones", ())
    replaced = replace_defaults(defaults, plain, owner)
    replaced["milestones"] = _milestones(milestones, owner)
    recipe = Recipe(name=name, **replaced, groups=_groups(values.get("groups", ()), owner))
    _check(recipe, values if said is None else said, owner)
    return recipe


def _check(recipe: Recipe, said: Mapping[str, Any], owner: str) -> None:
    """Hold values, and how they go together, against what a training can do."""
    for key, allowed in CHOICES.items():
        if getattr(recipe, key) not in allowed:
            raise UsageError(f"{owner}: {key} must be one of {', '.join(allowed)}; got {getattr(recipe, key)!r}.")
    for key, (accepts, expected) in RANGES.items():
        if not accepts(getattr(recipe, key)):
            raise UsageError(f"{owner}: {key} must be {expected}; got {getattr(recipe, key)!r}.")
    if recipe.weight_decay and recipe.optimizer not in USED_BY["weight_decay"][1]:
        raise UsageError(
            f"{owner}: weight_decay is decoupled decay, which is none of {recipe.optimizer}'s; with "
            f"optimizer={recipe.optimizer!r} set weight_decay=0.0, and l2 for a penalty; got "
            f"weight_decay={recipe.weight_decay}."
        )
    changed = [key for key in said if getattr(recipe, key) != KEYS[key].default]
    for key in filter(USED_BY.__contains__, changed):
        other, values = USED_BY[key]
        if getattr(recipe, other) not in values:
            raise UsageError(
                f"{owner}: {key} means something with {other} {' or '.join(values)} alone; "
                f"{other} is {getattr(recipe, other)!r}."
            )
    for key in filter(PART_OF.__contains__, changed):
        if not getattr(recipe, PART_OF[key]):
            raise UsageError(f"{owner}: {key} means something with {PART_OF[key]} alone, which is off.")
    if recipe.schedule == "multistep" and not recipe.milestones:
        raise UsageError(
            f"{owner}: schedule 'multistep' needs milestones, fractions of the training such as [0.5, 0.75]."
        )
    if recipe.average != "none" and not recipe.average_decay:
        raise UsageError(f"{owner}: average {recipe.average!r} needs an average_decay, such as 0.999.")


def _milestones(value: Any, owner: str) -> tuple[float, ...]:
    fractions = value if isinstance(value, list | tuple) else [value]
    numbers = all(type(each) in (int, float) and 0 < each < 1 for each in fractions)
    if not numbers or sorted(set(fractions)) != list(fractions):
        raise UsageError(
            f"{owner}: milestones must be ascending fractions of the training, above 0 and below 1; got {value!r}."
        )
    return tuple(map(float, fractions))


def _groups(tables: Any, owner: str) -> tuple[Group, ...]:
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        raise UsageError(f"{owner}: groups must be a list of tables; got {tables!r}.")
    return tuple(_group(table, f"{owner}: group {number}") for number, table in enumerate(tables, 1))


def _group(table: Any, owner: str) -> Group:
    if isinstance(table, Group):
        return table
    keys = {item.name: item for item in dataclasses.fields(Group)}
    if not isinstance(table, Mapping) or not isinstance(table.get("match"), str):
        raise UsageError(
            f'{owner} must be a table with a match, such as {{ match = "head", rate = 10.0 }}; got {table!r}.'
        )
    for key, value in table.items():
        if key not in keys:
            raise UsageError(f"{owner}: {unknown_name('key of a group', key, keys)}")
        if key == "optional" and type(value) is not bool:
            raise UsageError(f"{owner}: optional must be true or false; got {value!r}.")
        if key not in ("match", "optional") and (type(value) not in (int, float) or not 0 <= value < math.inf):
            raise UsageError(f"{owner}: {key} must be a number of at least 0; got {value!r}.")
    numbers = {key: float(value) for key, value in table.items() if key not in ("match", "optional")}
    return Group(match=table["match"], optional=table.get("optional", False), **numbers)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [dataclasses.asdict(each) if isinstance(each, Group) else each for each in value]
    return value
