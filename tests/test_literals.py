import pytest

from bench.errors import UsageError
from bench.literals import format_reference, parse_pairs, replace_defaults, split_reference


def test_values_are_toml_literals():
    assert parse_pairs("a=1,b=2.5,c=true,d='x,y',e=[1,2]", "--set") == {
        "a": 1,
        "b": 2.5,
        "c": True,
        "d": "x,y",
        "e": [1, 2],
    }


@pytest.mark.parametrize("text", ["depth=", "depth=fifty sixty", "=3", "a=1 b=2", "'x' y"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"net: cannot read .* Expected KEY=VALUE.* such as depth=56"):
        split_reference(f"net:{text}")


@pytest.mark.parametrize(
    ("default", "value", "expected"),
    [
        (20, 2.5, "a whole number"),
        (20, True, "a whole number"),
        (1.0, "x", "a number"),
        (False, 1, "true or false"),
        ("x", 1, "a quoted string"),
        ((1, 2), 3, "a list"),
    ],
)
def test_a_value_of_another_type_than_the_default_is_refused(default, value, expected):
    with pytest.raises(UsageError, match=f"net: key must be {expected}, as its default .* is; got"):
        replace_defaults({"key": default}, {"key": value}, "net")


@pytest.mark.parametrize("value", ["inf", "nan", "2020-01-01", "{a=1}"])
def test_values_that_no_record_can_hold_are_refused(value):
    with pytest.raises(UsageError, match="net: key must be true, false, a finite number, a text, or a list of these"):
        replace_defaults({"key": None}, parse_pairs(f"key={value}", "net"), "net")


def test_items_of_lists_are_checked_too():
    with pytest.raises(UsageError, match="each item, must be a whole number"):
        replace_defaults({"key": (1, 2)}, {"key": [1, "x"]}, "net")


def test_whole_numbers_do_for_numbers_and_lists_for_tuples():
    changed = replace_defaults({"rate": 0.5, "sizes": (1, 2)}, {"rate": 1, "sizes": [3, 4, 5]}, "net")
    assert changed == {"rate": 1.0, "sizes": (3, 4, 5)}
    assert isinstance(changed["rate"], float)


def test_references_read_back():
    defaults = {"depth": 20, "name": "x", "flag": False, "sizes": [1]}
    changed = {"depth": 56, "name": "it's y z", "flag": True, "sizes": [2, 3]}
    name, parameters = split_reference(format_reference("net", changed, defaults))
    assert (name, parameters) == ("net", changed)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("keras:VGG16", ("keras", {"": "VGG16"})),
        ("keras:VGG16,weights=imagenet", ("keras", {"": "VGG16", "weights": "imagenet"})),
        ("tfds:cifar10_corrupted/fog_1,size=24", ("tfds", {"": "cifar10_corrupted/fog_1", "size": 24})),
        ("folder:~/my images", ("folder", {"": "~/my images"})),
        ("folder:'a,b=c',size=24", ("folder", {"": "a,b=c", "size": 24})),
        ("folder:./a=b", ("folder", {"": "./a=b"})),
        ("net:pool=max,flag=true,rate=inf", ("net", {"pool": "max", "flag": True, "rate": float("inf")})),
        ("net:pool='max'", ("net", {"pool": "max"})),
        ("net", ("net", {})),
    ],
)
def test_a_word_needs_no_quotes_and_the_first_value_no_key(text, found):
    assert split_reference(text) == found


@pytest.mark.parametrize("text", ["keras:VGG16", "keras:VGG16,weights='imagenet'", "folder:'my images',size=24"])
def test_a_reference_is_written_as_it_is_read(text):
    name, parameters = split_reference(text)
    assert format_reference(name, parameters, {}) == text
