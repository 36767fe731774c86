"""Whatever is typed: a message and an exit code, never a traceback. BENCH_TEST_EXAMPLES sets how often it is tried."""

import os
import time
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.cli.main import main

EXAMPLES = int(os.environ.get("BENCH_TEST_EXAMPLES", "150"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NASTY = [
    "",
    "-",
    "--",
    "=",
    ":",
    "a:b=c",
    "tiny_net:units=",
    "tiny_net:units=[1,{}]",
    "\x00",
    "\x1b[31m",
    "ü",
    "\ud800",
    "∞",
]
NASTY += [
    "../../etc/passwd",
    "tiny_net:" + "x" * 3_000 + "=1",
    "1e999",
    "-1",
    "0",
    "9" * 400,
    "NaN",
    "true",
    "%s",
    "[bold]",
]
words = st.one_of(
    st.sampled_from([*NASTY, "tiny_net", "tiny_net:units=4", "tiny_data", "digits", "standard", "document", "auto"]),
    st.sampled_from(["float32", "tensorflow", "jax", "torch", "full", "exclusive", "ray", "2h", "8GB", "1", "2", "3"]),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)
RUN = [
    "--arch",
    "--dataset",
    "--seeds",
    "--recipe",
    "--epochs",
    "--batch-size",
    "--learning-rate",
    "--set",
    "--precision",
]
RUN += [
    "--backend",
    "--devices",
    "--force",
    "--retry-failed",
    "--jobs",
    "--timing",
    "--timeout",
    "--memory-limit",
    "--quiet",
]
RUN += [
    "--disk-limit",
    "--checkpoint-every",
    "--engine",
    "--measure",
    "--logits",
    "--data-dir",
    "--plugins",
    "--nonsense",
]
OTHERS = [
    "--results",
    "--dataset",
    "--difference",
    "--json",
    "--watch",
    "--plugins",
    "--recipe",
    "--backend",
    "--precision",
]


class Impatient:
    """The module `time`, but that whoever sleeps is interrupted."""

    def __getattr__(self, name):
        return getattr(time, name)

    def sleep(self, seconds):
        raise KeyboardInterrupt


def lists_of(options):
    part = st.tuples(st.sampled_from(options), st.lists(words, max_size=3)).map(lambda pair: [pair[0], *pair[1]])
    return st.lists(st.one_of(part, words.map(lambda word: [word])), max_size=6).map(lambda parts: [*chain(*parts)])


@pytest.fixture
def quietly(monkeypatch, capfd, tmp_path, plugins):
    """Run the command line in a folder of its own, and hold it to exit codes and messages; returns the code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.cli.status.time", Impatient())  # else --watch would go on

    assert main(["prepare", "tiny_data", "--plugins", str(plugins), "--quiet"]) == 0

    def call(arguments):
        try:
            code = main(arguments)
        except SystemExit as error:  # argparse
            code = error.code
        out, err = capfd.readouterr()
        assert code in (0, 1, 2, 130), arguments
        assert "Traceback" not in out + err, arguments
        assert code in (0, 1) or err.strip(), arguments
        return code

    return call


@FUZZ
@given(arguments=lists_of(RUN), named=st.booleans())
def test_whatever_is_said_to_run(quietly, plugins, arguments, named):
    """Nothing is trained: a dry run plans and estimates; else the results folder cannot be made."""
    names = ["--arch", "tiny_net", "--dataset", "tiny_data", "--plugins", str(plugins)] if named else []
    dry = "ray" not in arguments  # which would start a cluster
    last = ["--dry-run", "--results", "results"] if dry else ["--results", "/dev/null/results"]
    assert quietly(["run", *names, *arguments, *last]) in (0, 2)


@FUZZ
@given(command=st.sampled_from(["report", "compare", "status", "list"]), arguments=lists_of(OTHERS))
def test_whatever_is_said_to_other_commands(quietly, command, arguments):
    assert quietly([command, *arguments]) in (0, 1, 2)


keys = st.sampled_from(
    ["architectures", "datasets", "recipes", "precisions", "backends", "devices", "seeds", "run", "x"]
)
values = st.recursive(
    st.one_of(
        words.map(lambda text: repr(text) if text.isprintable() and "'" not in text else "1"), st.integers().map(str)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(st.sampled_from(["name", "epochs", "units", "jobs", "timeout"]), inner), max_size=3).map(
            lambda pairs: f"{{{', '.join(f'{key} = {value}' for key, value in pairs)}}}"
        ),
    ),
    max_leaves=6,
)
documents = st.lists(
    st.one_of(
        st.tuples(keys, values).map(lambda pair: f"{pair[0]} = {pair[1]}"),
        st.sampled_from(
            ["[[exclude]]", "[[include]]", "[run]", "# x", 'architectures = "tiny_net"', 'datasets = "tiny_data"']
        ),
        st.text(max_size=20),
    ),
    max_size=8,
).map("\n".join)


@FUZZ
@given(text=documents, good=st.booleans())
def test_whatever_is_in_a_sweep_file(quietly, plugins, tmp_path, text, good):
    head = 'architectures = "tiny_net"\ndatasets = "tiny_data"\n' if good else ""
    (tmp_path / "sweep.toml").write_bytes((head + text).encode("utf-8", "surrogatepass"))
    assert quietly(["run", "sweep.toml", "--plugins", str(plugins), "--results", "/dev/null/results"]) == 2
    if "ray" not in text:
        quietly(["run", "sweep.toml", "--plugins", str(plugins), "--dry-run"])
