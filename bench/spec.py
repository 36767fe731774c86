"""What a trial is, fully resolved, and the hash that identifies it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bench.recipes import Recipe
from bench.tuning import TUNABLE


@dataclass(frozen=True, kw_only=True)
class PluginSpec:
    """A plugin as a trial uses it: name, every parameter, the hashes of its source and of local modules it imports."""

    name: str
    label: str
    parameters: Mapping[str, Any]
    source_hash: str
    modules: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def sources(self) -> str:
        """One hash of the plugin's file and of the local modules that it imports; without any, of its file alone."""
        text = json.dumps([self.source_hash, dict(self.modules)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest() if self.modules else self.source_hash


@dataclass(frozen=True, kw_only=True)
class AlsoSpec:
    """A data set that a trained model is evaluated on besides its own test images."""

    dataset: PluginSpec
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One training and evaluation: architecture × dataset × recipe × precision × backend × devices × seed.

    Attributes:
        architecture: the plugin with its parameters.
        dataset: likewise.
        data_fingerprint: of the data set's content.
        recipe: how to train.
        precision: Keras's dtype policy.
        backend: of Keras.
        seed: of everything that is drawn.
        devices: over which each batch is shared out.
        train_fraction: of the training images, those that are used.
        evaluate_also: further data sets to evaluate on.
        tuning: whether this is a search for values of the recipe, which never sees a test image.

    """

    architecture: PluginSpec
    dataset: PluginSpec
    data_fingerprint: str
    recipe: Recipe
    precision: str
    backend: str
    seed: int
    devices: int = 1
    train_fraction: float = 1.0
    evaluate_also: tuple[AlsoSpec, ...] = ()
    tuning: bool = False

    @cached_property
    def trial_id(self) -> str:
        """A readable name that ends in the hash of the whole spec."""
        text = json.dumps(self._identity(), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.architecture.name}-{self.dataset.name}-seed{self.seed}-{digest}"

    @property
    def title(self) -> str:
        """What a person calls the trial."""
        what = f"{self.architecture.label} on {self.dataset.label}"
        if not self.tuning:
            return f"{what}, seed {self.seed}"
        values = {key: getattr(self.recipe, key) for key in TUNABLE}
        return f"{what}, a search at " + ", ".join(f"{key}={value:.3g}" for key, value in values.items() if value)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values."""
        return {**dataclasses.asdict(self), "recipe": self.recipe.to_json()}

    def _identity(self) -> dict[str, Any]:
        """Return what decides the trial; defaults are left out, so that a new field changes no identity."""
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        kept = [name for name, default in defaults.items() if getattr(self, name) != default]
        values = {**self.to_json(), "recipe": self.recipe.identity()}
        return {name: values[name] for name in kept}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrialSpec:
        """Return the spec that `to_json` wrote."""
        return cls(
            **{
                **value,
                "architecture": PluginSpec(**value["architecture"]),
                "dataset": PluginSpec(**value["dataset"]),
                "recipe": Recipe.from_json(value["recipe"]),
                "evaluate_also": tuple(
                    AlsoSpec(dataset=PluginSpec(**each["dataset"]), fingerprint=each["fingerprint"])
                    for each in value.get("evaluate_also", ())
                ),
            }
        )
