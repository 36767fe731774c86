import dataclasses
import json

import pytest

from bench.recipes import RECIPES
from bench.spec import PluginSpec, TrialSpec

SPEC = TrialSpec(
    architecture=PluginSpec(name="net", label="net", parameters={"depth": 20}, source_hash="a"),
    dataset=PluginSpec(name="data", label="data", parameters={}, source_hash="b"),
    data_fingerprint="c",
    recipe=RECIPES["standard"],
    precision="float32",
    backend="tensorflow",
    seed=3,
)


def test_a_spec_reads_back_from_json_as_the_same_trial():
    read = TrialSpec.from_json(json.loads(json.dumps(SPEC.to_json())))
    assert read == SPEC
    assert read.trial_id == SPEC.trial_id
    assert SPEC.trial_id.startswith("net-data-seed3-")


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": dataclasses.replace(SPEC.architecture, source_hash="z")},
        {"architecture": dataclasses.replace(SPEC.architecture, parameters={"depth": 56})},
        {"dataset": dataclasses.replace(SPEC.dataset, source_hash="z")},
        {"data_fingerprint": "z"},
        {"recipe": RECIPES["document"]},
        {"precision": "mixed_bfloat16"},
        {"backend": "jax"},
        {"seed": 4},
    ],
)
def test_whatever_changes_makes_another_trial(change):
    assert dataclasses.replace(SPEC, **change).trial_id != SPEC.trial_id
