"""Sweep files: what they come to, what is said of wrong ones, and the schema beside the parser."""

import json
import os
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bench.environment import BACKENDS, PRECISIONS
from bench.errors import UsageError
from bench.literals import split_reference
from bench.recipes import CHOICES, KEYS, RANGES, RECIPES, SHIPPED, resolve_recipe
from bench.recipes.recipe import USED_BY
from bench.sweeps.axes import AXES
from bench.sweeps.combinations import Combination, make_sweep
from bench.sweeps.document import read_document
from bench.sweeps.settings import CHOICES as RUN_CHOICES
from bench.sweeps.settings import Settings
from bench.units import BYTES, SECONDS
from tests.test_layering import PACKAGE

SCHEMA = json.loads((PACKAGE / "sweep.schema.json").read_text(encoding="utf-8"))
DOCUMENTATION = PACKAGE.parent / "docs" / "sweeps.md"
EXAMPLES = int(os.environ.get("BENCH_TEST_EXAMPLES") or 300)  # of each property; thousands before a release
TWO_BY_TWO = "architectures = ['a', 'b']\ndatasets = ['x', 'y']\n"

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "sweep.toml"


@pytest.fixture
def sweep(file):
    """Make the sweep of a file with this text."""

    def make(text, overrides=None, **given):
        file.write_text(text, encoding="utf-8")
        return make_sweep(file, given, overrides)

    return make


def refused(call, *arguments, **given):
    with pytest.raises(UsageError) as caught:
        call(*arguments, **given)
    return re.sub(r"^.*/sweep\.toml", "sweep.toml", str(caught.value))


def columns(made, *names):
    return [tuple(getattr(each, name) for name in names) for each in made.combinations]


# What a file comes to


def test_two_lines_are_a_sweep(sweep):
    made = sweep("architectures = 'net'\ndatasets = 'digits'")
    assert made.combinations == [
        Combination(
            architecture="net",
            dataset="digits",
            recipe="standard",
            overrides={},
            precision="auto",
            backend="tensorflow",
            devices=1,
            seed=0,
            train_fraction=1.0,
        )
    ]
    assert made.settings == Settings()


def test_architectures_vary_first_then_the_rest_then_seeds_then_data_sets(sweep):
    made = sweep(TWO_BY_TWO + "seeds = 2\nbackends = ['jax', 'torch']")
    assert columns(made, "dataset", "seed", "backend", "architecture") == [
        (dataset, seed, backend, architecture)
        for dataset in "xy"
        for seed in (0, 1)
        for backend in ("jax", "torch")
        for architecture in "ab"
    ]


def test_every_axis_reaches_its_field(sweep):
    (made,) = sweep(
        "architectures = 'net:depth=56'\ndatasets = { name = 'synthetic', size = 64 }\n"
        "recipes = { name = 'document', epochs = 3 }\nprecisions = 'float32'\nbackends = ['torch']\ndevices = 2\n"
        "seeds = [7]\ntrain_fractions = 0.5"
    ).combinations
    assert made == Combination(
        architecture="net:depth=56",
        dataset="synthetic:size=64",
        recipe="document",
        overrides={"epochs": 3},
        precision="float32",
        backend="torch",
        devices=2,
        seed=7,
        train_fraction=0.5,
    )


def test_lists_in_a_table_span_a_grid(sweep):
    made = sweep(
        "datasets = 'x'\narchitectures = ['a', { name = 'net', depth = [20, 56], wide = [true, false] }]\n"
        "[[recipes]]\nname = 'standard'\nepochs = [5, 10]\nflip = false"
    )
    nets = [f"net:depth={depth},wide={wide}" for depth in (20, 56) for wide in ("true", "false")]
    assert columns(made, "architecture", "overrides") == [
        (name, {"epochs": epochs, "flip": False}) for epochs in (5, 10) for name in ("a", *nets)
    ]


def test_a_parameter_that_is_a_list_takes_a_list_of_lists(sweep):
    made = sweep("datasets = 'x'\narchitectures = ['net:sizes=[1,2]', { name = 'other', sizes = [[1, 2], [3]] }]")
    assert columns(made, "architecture") == [("net:sizes=[1,2]",), ("other:sizes=[1,2]",), ("other:sizes=[3]",)]


def test_references_are_what_the_command_line_reads(sweep):
    made = sweep("""datasets = 'x'\narchitectures = { name = 'net', pool = "it's", rate = 1e-3, sizes = [[1, 2]] }""")
    ((reference,),) = columns(made, "architecture")
    assert split_reference(reference) == ("net", {"pool": "it's", "rate": 0.001, "sizes": [1, 2]})


def test_seeds_are_a_number_or_a_list(sweep):
    assert columns(sweep("architectures = 'a'\ndatasets = 'x'\nseeds = 3"), "seed") == [(0,), (1,), (2,)]
    assert columns(sweep("architectures = 'a'\ndatasets = 'x'\nseeds = [3, 1]"), "seed") == [(3,), (1,)]


def test_a_file_may_begin_with_a_byte_order_mark(sweep):
    assert len(sweep("\ufeffarchitectures = 'a'\ndatasets = 'x'").combinations) == 1


# Rules

ALL_BUT_FIRST = ["net", "net:depth=20,width=2", "net:depth=56,width=1", "net:depth=56,width=2", "other"]


def test_what_matches_an_exclude_on_all_its_axes_is_left_out(sweep):
    made = sweep(TWO_BY_TWO + "[[exclude]]\narchitectures = 'b'\ndatasets = ['y']")
    assert columns(made, "architecture", "dataset") == [("a", "x"), ("b", "x"), ("a", "y")]


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("'net'", ["other"]),
        ("'net:depth=56'", ["net", "net:depth=20,width=1", "net:depth=20,width=2", "other"]),
        ("{ name = 'net', width = 1, depth = 20 }", ALL_BUT_FIRST),
        ("{ name = 'net', width = [1.0, 2] }", ["net", "other"]),
        ("['other', 'net:width=1']", ["net", "net:depth=20,width=2", "net:depth=56,width=2"]),
    ],
)  # fmt: skip
def test_a_rule_means_a_name_with_all_parameters_that_it_gives(sweep, rule, left):
    nets = "['net', { name = 'net', depth = [20, 56], width = [1, 2] }, 'other']"
    made = sweep(f"datasets = 'x'\narchitectures = {nets}\n[[exclude]]\narchitectures = {rule}")
    assert columns(made, "architecture") == [(name,) for name in left]


def test_an_include_takes_the_lists_where_it_names_nothing(sweep):
    made = sweep(TWO_BY_TWO + "seeds = 2\n[[include]]\narchitectures = 'big'\ndatasets = 'y'")
    assert columns(made, "architecture", "dataset", "seed")[4:] == [
        ("a", "y", 0),
        ("b", "y", 0),
        ("big", "y", 0),
        ("a", "y", 1),
        ("b", "y", 1),
        ("big", "y", 1),
    ]


def test_includes_come_after_excludes_and_nothing_runs_twice(sweep):
    rules = "[[exclude]]\narchitectures = 'b'\n[[include]]\ndatasets = 'x'\narchitectures = ['a', 'b']"
    assert columns(sweep(TWO_BY_TWO + rules), "architecture", "dataset") == [("a", "x"), ("b", "x"), ("a", "y")]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "exclude]]\narchitectures = ['b', 'c']",
            'exclude[0].architectures[1]: expected a value that `architectures` has (a, b), got "c"',
        ),
        (
            "exclude]]\ndatasets = 'x:z=1'",
            'exclude[0].datasets: expected a value that `datasets` has (x, y), got "x:z=1"',
        ),
        ("exclude]]\nseeds = [4]", "exclude[0].seeds[0]: expected a value that `seeds` has (0), got 4"),
        ("exclude]]\nbackends = 'jax'", 'expected a value that `backends` has (tensorflow), got "jax"'),
        (
            "include]]\ndatasets = 'x'",
            "include[0]: expected combinations that are not there already, but this adds none",
        ),
        ("exclude]]\ndatasets = ['x', 'y']", "expected at least one combination, but [[exclude]] leaves none"),
    ],
)
def test_a_rule_without_effect_is_an_error(sweep, rule, message):
    assert message in refused(sweep, f"{TWO_BY_TWO}[[{rule}")


# The command line comes first


def test_the_command_line_alone_makes_a_sweep():
    made = make_sweep(None, {"architectures": ["a", "b", "a"], "datasets": ["x"], "seeds": 2, "recipes": None})
    assert columns(made, "architecture", "seed") == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert made.settings == Settings()


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"architectures": None}, "expected at least one architecture, got none. Name some: --arch."),
        ({"datasets": ["x,y"]}, '--dataset: expected a name without spaces, commas and colons, got "x,y"'),
        ({"seeds": 0}, "--seeds: expected a number of seeds from 1 to 1,000,000, or a list of seeds, got 0"),
        ({"architectures": ["a:depth="]}, "--arch: a: cannot read 'depth='. Expected KEY=VALUE"),
        ({"recipes": ["slow"]}, "--recipe: unknown recipe 'slow'"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(given_, message):
    text = refused(make_sweep, None, {"architectures": ["a"], "datasets": ["x"], **given_})
    assert text.startswith(message)


def test_an_axis_of_the_command_line_replaces_the_files(sweep):
    made = sweep(TWO_BY_TWO + "seeds = 3", datasets=["z"], seeds=[5])
    assert columns(made, "architecture", "dataset", "seed") == [("a", "z", 5), ("b", "z", 5)]


def test_what_the_command_line_leaves_out_does_not_come_back_through_an_include(sweep):
    text = TWO_BY_TWO + "[[include]]\narchitectures = 'big'\ndatasets = ['y', 'z']\n[[exclude]]\ndatasets = 'x'"
    assert columns(sweep(text, datasets=["y"]), "architecture") == [("a",), ("b",), ("big",)]
    assert columns(sweep(text, architectures=["a"]), "architecture", "dataset") == [("a", "y")]


def test_overrides_of_the_command_line_change_every_recipe_last(sweep):
    text = (
        "architectures = ['a', 'b']\ndatasets = 'x'\nrecipes = [{ name = 'standard', epochs = [5, 50] }, 'document']\n"
        "[[exclude]]\narchitectures = 'b'\nrecipes = 'standard:epochs=50'"
    )
    made = sweep(text, {"epochs": 1})
    both = [("a", "standard"), ("b", "standard"), ("a", "document"), ("b", "document")]
    assert columns(made, "architecture", "recipe") == both
    assert all(each.overrides == {"epochs": 1} for each in made.combinations)
    message = refused(sweep, text, {"momentum": 0.5})
    assert message.startswith(
        "recipe standard:epochs=5, changed by the command line: recipe standard: momentum means something"
    )


# [run]


def test_settings_with_paths_from_the_files_folder(sweep, file, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    made = sweep(
        "architectures = 'a'\ndatasets = 'x'\n[run]\nresults = 'night'\ndata_dir = '/data'\n"
        "plugins = ['mine', '~/others']\nmeasure = 'basic'\nlogits = 'float16'\njobs = 4\ntimeout = '1.5h'\n"
        "memory_limit = '8 GiB'\ndisk_limit = '2GB'\ncheckpoint_every = '10m'\nray_address = 'auto'\n"
        "timing = 'exclusive'\nengine = 'ray'"
    )
    assert made.settings == Settings(
        results=file.parent / "night",
        data_dir=Path("/data"),
        plugins=(file.parent / "mine", Path("/home/somebody/others")),
        measure="basic",
        logits="float16",
        jobs=4,
        timeout=5400,
        memory_limit=8 * 2**30,
        disk_limit=2 * 10**9,
        checkpoint_every=600,
        ray_address="auto",
        timing="exclusive",
        engine="ray",
    )


# What is said of wrong files


# A line of a sweep file, and under it what is said of it.
WRONG_LINES = r"""
recipes = ['standard', { name = 'standard', epochs = 'ten' }]
  recipes[1].epochs: expected a number above 0 and at most 1,000,000 or a list of them, got "ten"
recipes = { name = 'standard', epochs = [1, 0] }
  recipes.epochs[1]: expected a number above 0 and at most 1,000,000, got 0
recipes = { name = 'standard', epochs = [] }
  recipes.epochs: expected at least one value, got an empty list
recipes = 'standard:flip=1'
  recipes.flip: expected true or false, got 1
recipes = { name = 'standard', flip = 1 }
  recipes.flip: expected true or false or a list of them, got 1
recipes = { name = 'standard', warmup = 1 }
  recipes.warmup: expected a number from 0 to below 1 or a list of them, got 1
recipes = { name = 'standard', learning_rate = nan }
  recipes.learning_rate: expected a number above 0 or a list of them, got nan
recipes = { name = 'standard', schedule = 'step' }
  recipes.schedule: expected one of constant, multistep, cosine, onecycle, triangular or a list of them, got "step"
recipes = { name = 'standard', epoch = 1 }
  recipes.epoch: unknown key of a recipe 'epoch'. Did you mean epochs
recipes = { name = 'standard', optimizer = 'sgd' }
  recipes: recipe standard: weight_decay is decoupled decay
recipes = { epochs = 3 }
  recipes: expected a table with a name, such as { name = "resnet_cifar", depth = [20, 56] }
recipes = ['standart']
  recipes[0]: unknown recipe 'standart'. Did you mean standard
architecture = 'a'
  architecture: unknown key of a sweep 'architecture'. Did you mean architectures
'a b' = 1
  "a b": unknown key of a sweep 'a b'.
devices = 0
  devices: expected a whole number of at least 1 or a list of them, got 0
devices = [1, true]
  devices[1]: expected a whole number of at least 1, got true
devices = 0xffffffffffffffffffff
  devices: expected a whole number of at least 1 or a list of them, got a number that is out of range
seeds = 0
  seeds: expected a number of seeds from 1 to 1,000,000, or a list of seeds, got 0
seeds = '3'
  seeds: expected a number of seeds from 1 to 1,000,000, or a list of seeds, got "3"
seeds = [0, -1]
  seeds[1]: expected a whole number from 0 to 4,294,967,295, got -1
seeds = [1, 1]
  seeds[1]: expected each seed once, got 1 again
precisions = 'float64'
  precisions: unknown precision 'float64'. Did you mean float32
precisions = [32]
  precisions[0]: expected one of auto, float32, mixed_bfloat16, mixed_float16, got 32
backends = 2020-01-01
  backends: expected one of tensorflow, jax, torch or a list of them, got 2020-01-01
backends = []
  backends: expected at least one value, got an empty list
include = 3
  include: expected tables under [[include]], got 3
exclude = [{}]
  exclude[0]: expected values of at least one axis (datasets, seeds, recipes, precisions, backends, devices,
exclude = [{ archs = 'a' }]
  exclude[0].archs: unknown axis 'archs'. Did you mean architectures
exclude = ['a']
  exclude[0]: expected a table, got "a"
run = 1
  run: expected a table, got 1
run = { result = 'x' }
  run.result: unknown setting 'result'. Did you mean results
run = { results = '' }
  run.results: expected a path, got ""
run = { plugins = ['x', 1] }
  run.plugins[1]: expected a path, got 1
run = { plugins = ['~nobody-of-that-name/x'] }
  run.plugins[0]: ~nobody-of-that-name/x: there is no such user here, or none with a home.
run = { timeout = 3 }
  run.timeout: expected a text such as "2h", got 3
run = { timeout = '3' }
  run.timeout: expected a duration such as 90s, 45m, 2h or 1d; got '3'.
run = { memory_limit = '8 gigs' }
  run.memory_limit: expected a size such as 500MB, 8GB or 6GiB; got '8 gigs'.
run = { engine = 'slurm' }
  run.engine: expected one of local, ray, got "slurm"
run = { jobs = 0 }
  run.jobs: expected a whole number of at least 1, got 0
"""
WRONG_REFERENCES = r"""
datasets = []
  datasets: expected at least one value, got an empty list
datasets = 3
  datasets: expected a reference ("net", "net:depth=56" or { name = "net", depth = 56 }) or a list of them, got 3
datasets = ['x', ['y']]
  datasets[1]: expected a reference ("net", "net:depth=56" or { name = "net", depth = 56 }), got a list
datasets = "x\u0007"
  datasets: expected a reference ("net", "net:depth=56" or { name = "net", depth = 56 }) or a list of them, got "x
datasets = 'two words'
  datasets: expected a name without spaces, commas and colons or a list of them, got "two words"
datasets = { name = 'x:size=1' }
  datasets.name: expected a name without spaces, commas and colons, got "x:size=1"
datasets = { name = 3 }
  datasets.name: expected a name without spaces, commas and colons, got 3
datasets = 'x:size='
  datasets: x: cannot read 'size='. Expected KEY=VALUE
train_fractions = [0.5, 0]
  train_fractions[1]: expected a fraction above 0 and up to 1, got 0
recipes = 'absent.toml'
  recipes: recipe
recipes = { name = 'standard', groups = 'head' }
  recipes.groups: unknown key of a recipe 'groups'
datasets = { name = 'x', 'a b' = 1 }
  datasets."a b": expected the name of a parameter of "x", got "a b"
datasets = { name = 'x', '' = 1 }
  datasets."": expected the name of a parameter of "x", got ""
datasets = { name = 'x', size = {} }
  datasets.size: expected a parameter's value (true, false, a finite number, a text or a list) or a list of them, got {}
datasets = { name = 'x', size = [1, inf] }
  datasets.size[1]: expected a parameter's value (true, false, a finite number, a text or a list), got inf
datasets = { name = 'x', size = [1, 2, 1.0] }
  datasets: expected each data set once, got "x:size=1.0" again
datasets = ['x:a=1,b=2', { name = 'x', b = 2, a = 1 }]
  datasets[1]: expected each data set once, got "x:b=2,a=1" again
"""


def pairs(text):
    """Return the lines two by two."""
    lines = text.strip().splitlines()
    return list(zip(lines[::2], (line.strip() for line in lines[1::2]), strict=True))


@pytest.mark.parametrize(("line", "message"), pairs(WRONG_LINES))
def test_a_wrong_line_is_named_with_what_was_expected_and_what_came(sweep, line, message):
    assert refused(sweep, f"{TWO_BY_TWO}{line}").startswith(f"sweep.toml: {message}")


@pytest.mark.parametrize(("line", "message"), pairs(WRONG_REFERENCES))
def test_wrong_references_are_named(sweep, line, message):
    assert refused(sweep, f"architectures = 'a'\n{line}").startswith(f"sweep.toml: {message}")


def test_long_values_are_cut_short_in_messages(sweep):
    message = refused(sweep, f"architectures = 'a'\ndatasets = ['{'x' * 99}', '{'x' * 99}']")
    assert message == f'sweep.toml: datasets[1]: expected each data set once, got "{"x" * 60}..." again'


def test_data_sets_have_to_be_named_somewhere(sweep):
    message = "sweep.toml: expected at least one data set, got none. Name some: `datasets` in the file, or --dataset."
    assert refused(sweep, "architectures = 'a'") == message
    assert len(sweep("architectures = 'a'", datasets=["x"]).combinations) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = 1000000", "sweep.toml: expected at most 1,000,000 combinations, got 4,000,000"),
        ("[[include]]\nseeds = 1000000", "sweep.toml: expected at most 1,000,000 combinations, got 4,000,004"),
        (f"[[include]]\narchitectures = {{ name = 'n', {', '.join(f'p{i} = [1, 2]' for i in range(40))} }}",
         "sweep.toml: include[0].architectures: expected at most 1,000,000 combinations of parameters, got 10^12.0"),
    ],
)  # fmt: skip
def test_too_many_combinations_are_counted_before_they_are_made(sweep, text, message):
    assert refused(sweep, TWO_BY_TWO + text) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seeds = = 3", "not valid TOML: Invalid value (at line 1, column 9)"),
        (b"seeds = 1\nseeds = 2", "not valid TOML: Cannot overwrite a value (at"),
        (b"a = 1\nb = '\xff'", "in TOML (docs/sweeps.md describes it) in UTF-8, got other bytes in line 2"),
        (b"a" * 2**20 + b"b", "of at most 1 MiB, got a larger one"),
        (b"seeds = " + b"9" * 5_000, "not valid TOML: Exceeds the limit"),
        (b"seeds = " + b"[" * 50_000, "not valid TOML: lists or tables are nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_no_toml_is_refused_with_its_place(file, content, message):
    file.write_bytes(content)
    text = refused(make_sweep, file, {})
    assert text.startswith("sweep.toml: ")
    assert message in text


def test_files_that_are_not_there_or_no_files(file):
    assert refused(make_sweep, file, {}).endswith("got no file of that name")
    file.mkdir()
    assert refused(make_sweep, file, {}).endswith("got a folder")
    os.mkfifo(file / "sweep.toml")
    assert refused(make_sweep, file / "sweep.toml", {}).endswith("got no file of that name")


# The schema, and the parser beside it


def one_or_list(name):
    """Return the two schemas of `anyOf`: of a single value, and of an item of a list."""
    single, several = name["anyOf"]
    assert several["minItems"] == 1
    assert several["uniqueItems"]
    return single, several["items"]


def definition(name):
    return SCHEMA["$defs"][name]


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_has_the_keys_and_names_of_the_code():
    axes = [axis.key for axis in AXES]
    assert set(SCHEMA["properties"]) == {*axes, "include", "exclude", "run"}
    assert set(definition("rule")["properties"]) == set(axes)
    run = SCHEMA["properties"]["run"]["properties"]
    assert set(run) == {each.name for each in fields(Settings)}
    assert {key: tuple(run[key]["enum"]) for key in RUN_CHOICES} == dict(RUN_CHOICES)
    assert definition("precision")["enum"] == list(PRECISIONS)
    assert definition("backend")["enum"] == list(BACKENDS)
    recipe = definition("recipe_table")["properties"]
    assert set(recipe) == {"name", *KEYS} - {"groups"}
    assert recipe["name"]["anyOf"][0]["enum"] == list(SHIPPED)
    assert definition("recipe")["anyOf"][0]["pattern"].startswith(f"^({'|'.join(SHIPPED)}|")
    assert {key: tuple(one_or_list(recipe[key])[0]["enum"]) for key in CHOICES} == dict(CHOICES)


@pytest.mark.parametrize(("name", "units", "others"), [("duration", SECONDS, BYTES), ("size", BYTES, SECONDS)])
def test_the_schema_has_the_units_of_the_code(name, units, others):
    schema = Draft202012Validator(definition(name))
    assert [unit for unit in units if not schema.is_valid(f"1.5 {unit.lower()}")] == []
    assert [unit for unit in (*others, "", "x") if schema.is_valid(f"1{unit}")] == []


@pytest.mark.parametrize("key", RANGES)
def test_the_schema_has_the_ranges_of_the_code(key):
    for schema in one_or_list(definition("recipe_table")["properties"][key]):
        whole = isinstance(getattr(RECIPES["standard"], key), int)
        assert schema["type"] == ("integer" if whole else "number")
        for value in (-1, 0, 1, 2, *(() if whole else (-0.001, 0.001, 0.999, 1.001))):
            assert Draft202012Validator(schema).is_valid(value) == RANGES[key][0](value), value


def test_combinations_have_a_field_for_every_axis(sweep):
    (made,) = sweep("architectures = 'a'\ndatasets = 'x'").combinations
    assert {each.name for each in fields(made)} == {
        name for axis in AXES for _, choice in axis_values(axis) for name in axis.fields(choice)
    }


def axis_values(axis):
    from bench.sweeps.axes import read_axis
    from bench.sweeps.places import Place

    return read_axis(axis, Place("", axis.option), axis.default or "name")


def write(value):
    """Return a value as TOML, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{write(key)} = {write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(write, value))}]"
    return json.dumps(value, ensure_ascii=False)


# What a schema cannot say is not drawn: texts that cannot be printed, whole numbers written as 3.0, parameters after a
# colon that are no TOML, overrides that do not go together, numbers that are not finite. Whether rules have an effect
# is not for the schema to say either, and `read_document` does not look.
printable = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=6)
numbers = st.integers(-3, 3) | st.sampled_from([0.5, -0.5, 1.5, 2**63 - 1, 2**32])
scalars = printable | st.booleans() | numbers
junk = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(printable, inner, max_size=2))
names = st.sampled_from(["a", "b_2", "net-3", "é", "x:depth=2", "x:", "two words", "a,b", "", ":", "standard"])
APART = {"groups", "optimizer", "schedule", "average", *USED_BY}  # overrides that depend on each other, or are none


def lists_of(values):
    return values | st.lists(values, max_size=3)


def sometimes(values, chance=12):
    """Draw from these values, and now and then something else."""
    return st.integers(0, chance).flatmap(lambda number: values if number else junk)


def some_of(keys, most=3):
    """Draw a table with some of these keys."""
    names_ = st.lists(st.sampled_from(sorted(keys)), max_size=most, unique=True)
    return names_.flatmap(lambda chosen: st.fixed_dictionaries({key: keys[key] for key in chosen}))


def with_name(name, others):
    return st.builds(lambda name, others: {"name": name, **others}, name, others)


good_values = {int: st.integers(0, 3), float: st.sampled_from([0, 0.5, 1, 1.5, -0.5]), bool: st.booleans()}
overrides = {
    key: sometimes(lists_of(st.sampled_from([*CHOICES[key], "other"]) if key in CHOICES else good_values[type(value)]))
    for key, value in ((key, getattr(RECIPES["standard"], key)) for key in KEYS)
    if key not in APART
}
parameters = st.dictionaries(
    st.sampled_from(["depth", "width_2", "_x", "a-b", "2x", ""]), sometimes(lists_of(scalars)), max_size=2
)
plugins = sometimes(lists_of(sometimes(names | with_name(sometimes(names), parameters))))
recipe_names = st.sampled_from(["standard", "document", "own", "standard:", "standart"])
recipes = sometimes(lists_of(sometimes(recipe_names | with_name(sometimes(recipe_names), some_of(overrides)))))
axes = {
    "architectures": plugins,
    "datasets": plugins,
    "recipes": recipes,
    "precisions": sometimes(lists_of(st.sampled_from([*PRECISIONS, "float64"]))),
    "backends": sometimes(lists_of(st.sampled_from([*BACKENDS, "mxnet"]))),
    "devices": sometimes(lists_of(st.integers(0, 5))),
    "seeds": sometimes(lists_of(st.integers(0, 5))),
    "train_fractions": sometimes(lists_of(st.sampled_from([0, 0.1, 1, 1.5]))),
}
amounts = st.sampled_from(
    ["2h", "90 s", "0h", "1.5d", "8GB", "8 GiB", "1..5h", "h", "2h30", " 000.10M", "1kib", "1 m h"]
)
paths = st.sampled_from(["x", "/a/b", "", "../c"])
run = {
    "results": sometimes(paths),
    "data_dir": sometimes(paths),
    "plugins": sometimes(lists_of(paths)),
    "jobs": sometimes(st.integers(0, 5)),
    "timeout": sometimes(amounts),
    "memory_limit": sometimes(amounts),
    "disk_limit": sometimes(amounts),
    "checkpoint_every": sometimes(amounts),
    "ray_address": sometimes(paths),
    **{key: sometimes(st.sampled_from([*values, "other"])) for key, values in RUN_CHOICES.items()},
}
rules = sometimes(st.lists(sometimes(some_of(axes)), max_size=2))
documents = st.builds(
    lambda table, odd: {**table, **odd},
    some_of({**axes, "include": rules, "exclude": rules, "run": sometimes(some_of(run))}, most=4),
    st.just({}) | st.just({}) | st.just({}) | st.dictionaries(printable, junk, max_size=1),
)


def complaint_of(function, *arguments):
    """Return what is said against the arguments, if anything, and what the function returned."""
    try:
        return "", function(*arguments)
    except UsageError as error:
        return str(error), None


@many
@given(documents)
def test_the_parser_accepts_what_the_schema_accepts(tmp_path_factory, document):
    file = tmp_path_factory.getbasetemp() / "drawn.toml"
    file.write_text("".join(f"{write(key)} = {write(value)}\n" for key, value in document.items()), "utf-8")
    parsed = tomllib.loads(file.read_text("utf-8"))
    assert parsed == document
    complaint, _ = complaint_of(read_document, file)
    faults = [error.message for error in Draft202012Validator(SCHEMA).iter_errors(parsed)]
    if "once, got" in complaint:
        return  # `uniqueItems` sees a value again only in the same spelling
    assert bool(complaint) == bool(faults), (complaint, faults)


def check_sweep(file, **given_):
    """Make the sweep of a file, whatever it holds: either it works, or there is a message that names the file."""
    complaint, made = complaint_of(make_sweep, file, given_)
    if complaint:
        assert complaint.startswith((str(file), "recipe "))
        assert complaint.isprintable()
        return
    for each in made.combinations:
        for reference in (each.architecture, each.dataset):
            split_reference(reference)
        resolve_recipe(each.recipe, each.overrides)
    assert len(set(map(str, made.combinations))) == len(made.combinations)


@many
@given(documents)
def test_a_sweep_works_or_says_why_not(tmp_path_factory, document):
    file = tmp_path_factory.getbasetemp() / "made.toml"
    full = {"architectures": "a", "datasets": ["b", "c"], **document}
    file.write_text("".join(f"{write(key)} = {write(value)}\n" for key, value in full.items()), "utf-8")
    check_sweep(file)
    check_sweep(file, datasets=["b"], seeds=1)


words = ["include", "exclude", "run", "name", "depth", "timeout", *(axis.key for axis in AXES), *RECIPES, *PRECISIONS]
signs = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    " = ",
    ",",
    ".",
    ":",
    "\n",
    "#",
    '"',
    "'",
    '"""',
    "\\",
    "\\u00",
    "\r",
    "\x00",
]
values = [
    "true",
    "nan",
    "-inf",
    "1e999",
    "0x",
    "1_0",
    "9" * 20,
    "9" * 5_000,
    "2020-01-01",
    "25:61:61",
    "\ufeff",
    "[" * 2_000,
]
lines = ["[[exclude]]\n", "[[recipes]]\n", "architectures = 'a'\n", "datasets = 'x'\n", "seeds = 2\n"]
fragments = st.sampled_from([*words, *signs, *values, *lines])


@many
@given(st.lists(fragments | st.text(max_size=5), max_size=25).map("".join) | st.binary(max_size=200))
def test_nothing_but_a_usage_error_escapes(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    check_sweep(file, architectures=["a"], datasets=["x"])
    check_sweep(file)


# The documentation


@pytest.mark.skipif(not DOCUMENTATION.is_file(), reason="not in a checkout")
def test_the_example_of_the_documentation_is_a_sweep(sweep):
    text = DOCUMENTATION.read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    example = max(examples, key=len)
    made = sweep(example)
    (count,) = re.findall(r"These are ([\d,]+) trials", text)
    assert len(made.combinations) == int(count.replace(",", ""))
    assert Draft202012Validator(SCHEMA).is_valid(tomllib.loads(example))
    for snippet in examples:
        sweep(snippet, architectures=["a"], datasets=["x"])
    keys = {*(axis.key for axis in AXES), *(f"{each.name}" for each in fields(Settings)), "include", "exclude"}
    assert [key for key in keys if f"`{key}`" not in text and f"[[{key}]]" not in text] == []
