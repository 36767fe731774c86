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
class TrialSpec:
    """One training and evaluation: architecture × dataset × recipe × precision × backend × devices × seed."""

    architecture: PluginSpec
    dataset: PluginSpec
    data_fingerprint: str
    recipe: Recipe
    precision: str
    backend: str
    seed: int
    devices: int = 1

    @cached_property
    def trial_id(self) -> str:
        """A readable name that ends in the hash of the whole spec."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.architecture.name}-{self.dataset.name}-seed{self.seed}-{digest}"

    @property
    def title(self) -> str:
        """What a person calls the trial."""
        return f"{self.architecture.label} on {self.dataset.label}, seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrialSpec:
        """Return the spec that `to_json` wrote."""
        return cls(
            **{
                **value,
                "architecture": PluginSpec(**value["architecture"]),
                "dataset": PluginSpec(**value["dataset"]),
                "recipe": Recipe(**value["recipe"]),
            }
        )
