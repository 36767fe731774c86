"""A training that was cut off ends as one that was not: one interruption of each kind."""

import pytest

from tests.faults import LONG
from tests.faults.continued import CUTS, check_continued, uninterrupted
from tests.faults.sandbox import Sandbox


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return uninterrupted(Sandbox(tmp_path_factory.mktemp("uninterrupted")))


@LONG
@pytest.mark.parametrize("cut", CUTS)
def test_a_continued_training_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path, expected, cut):
    assert check_continued(Sandbox(tmp_path), cut, expected, after=0.3)
