"""Experiments that do harm to a sweep, and look at what is left: scripts for large counts, tests for small ones."""

import os

import pytest

LONG = pytest.mark.skipif(
    "BENCH_TEST_FAULTS" not in os.environ,
    reason="takes minutes, and its parts are tested elsewhere: BENCH_TEST_FAULTS=1 runs it",
)
