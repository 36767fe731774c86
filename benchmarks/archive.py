"""How long reading and tabulating thousands of records takes, and how much memory: what `bench report` does.

Records are made up in a temporary folder: as many fields and bytes as real ones that were measured in full have, 20
architectures on 5 data sets with as many recipes as it takes, 5 seeds each. Then `bench report` runs as a whole; a
fresh process does the same part by part, without the start of Python; another reads the records of all these trials by
their names, as planning does. Peak memory is each process's own.

Targets for 10,000 records, on a quiet machine: at most 10 s and 1 GB for the report, at most 5 s for planning's check.

    python benchmarks/archive.py [--records 100000]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from common import add_output, make_parser, positive, print_machine, run_python, target, write_json

from bench.environment import Device, describe
from bench.recipes import RECIPES
from bench.records import Status, TrialRecord
from bench.spec import PluginSpec, TrialSpec

TARGET_SECONDS, TARGET_CHECK_SECONDS, TARGET_BYTES = 10, 5, 10**9
ARCHITECTURES, DATASETS, SEEDS = 20, 5, 5
BATCHES = [2**power for power in range(12)]


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.check_only)))
        return
    print_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        size = make_records(folder, arguments.records)
        print(
            f"{arguments.records:,} records of {size:,} bytes made in {time.perf_counter() - start:.1f} s", flush=True
        )
        figures = {
            "bench report": run_report(folder),
            "check": json.loads(run_python(__file__, "--measure", name, "--check-only")),
            "report": json.loads(run_python(__file__, "--measure", name)),
        }
    show(figures)
    if arguments.json:
        write_json(arguments.json, {"records": arguments.records, **figures})


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--records", type=positive, default=10_000, metavar="N", help="how many (default 10,000)")
    parser.add_argument("--measure", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--check-only", action="store_true", help=argparse.SUPPRESS)
    add_output(parser)
    return parser.parse_args()


def show(figures: dict[str, dict[str, float]]) -> None:
    """Print the figures of both processes."""
    for name, limit in (("bench report", TARGET_SECONDS), ("report", TARGET_SECONDS), ("check", TARGET_CHECK_SECONDS)):
        facts = dict(figures[name])
        memory, total = facts.pop("peak_memory_bytes"), facts.pop("seconds")
        parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in facts.items())
        print(f"{name}: {total:.2f} s, {memory / 1e6:,.0f} MB{f' ({parts})' if parts else ''}")
        print(f"  {target(f'at most {limit} s', total <= limit)}; {target('1 GB', memory <= TARGET_BYTES)}")


def run_report(folder: Path) -> dict[str, float]:
    """Run the command as a user does; its peak memory is that of the greatest child so far, so this runs first."""
    start = time.perf_counter()
    run_python("-m", "bench", "report", "--results", str(folder))
    return {"seconds": time.perf_counter() - start, "peak_memory_bytes": peak_memory(resource.RUSAGE_CHILDREN)}


def peak_memory(whose: int) -> int:
    """Return a peak of resident memory in bytes."""
    return resource.getrusage(whose).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(folder: Path, check_only: bool) -> dict[str, float]:
    """Return the seconds of each part, in this process, and its peak memory."""
    start = time.perf_counter()
    from bench.archive import read_records

    seconds = {}

    def lap(name: str) -> None:
        seconds[name] = time.perf_counter() - start - sum(seconds.values())

    lap("import")
    archive = read_records(folder, (path.name for path in (folder / "trials").iterdir()) if check_only else None)
    lap("reading")
    if archive.problems:
        raise SystemExit(archive.problems[0])
    if not check_only:
        report(folder, archive.records, lap)
    return {
        **seconds,
        "seconds": time.perf_counter() - start,
        "peak_memory_bytes": peak_memory(resource.RUSAGE_SELF),
    }


def report(folder: Path, records: tuple[TrialRecord, ...], lap) -> None:
    """Make the tables, write all files, and print what `bench report` prints, to standard error."""
    from rich.console import Console

    from bench.cli import console
    from bench.report.files import write_report

    console.make_console = lambda: Console(stderr=True, width=160)
    lap("import of pandas")
    table = write_report(folder, records)
    lap("tables and files")
    console.print_leaderboard(table, folder)
    lap("printing")


def make_records(folder: Path, number: int) -> int:
    """Write so many records, and return the size of one."""
    environment = describe(Device("CPU", "a processor"), "tensorflow")
    draw = random.Random(0)  # noqa: S311 - no secret
    size = 0
    for index in range(number):
        spec = make_spec(index)
        attempt = f"20260101T{index:06d}.000000Z-{index:04x}"
        record = TrialRecord(
            trial_id=spec.trial_id,
            attempt=attempt,
            status=Status.OK,
            spec=spec,
            environment=environment,
            started_at="2026-01-01T00:00:00+00:00",
            seconds=100 * draw.random(),
            metrics=make_metrics(draw),
            phases={name: draw.random() for name in PHASES},
            resolved=RESOLVED,
        )
        path = folder / "trials" / spec.trial_id / attempt / "record.json"
        path.parent.mkdir(parents=True)
        size = path.write_text(json.dumps(record.to_json(), indent=1) + "\n")
    return size


def make_spec(index: int) -> TrialSpec:
    """Return the index-th trial: seeds count fastest, recipes slowest."""
    rest, seed = divmod(index, SEEDS)
    rest, architecture = divmod(rest, ARCHITECTURES)
    recipe, dataset = divmod(rest, DATASETS)
    return TrialSpec(
        architecture=plugin(f"architecture{architecture}"),
        dataset=plugin(f"data{dataset}"),
        data_fingerprint="d" * 64,
        recipe=dataclasses.replace(RECIPES["standard"], epochs=recipe + 1),
        precision="float32",
        backend="tensorflow",
        seed=seed,
    )


def plugin(name: str) -> PluginSpec:
    """Return a plugin with a parameter."""
    return PluginSpec(name=name, label=f"{name}:width=2", parameters={"width": 2, "depth": 20}, source_hash="a" * 64)


def make_metrics(draw: random.Random) -> dict[str, object]:
    """Return figures like those of a trial that was measured in full."""
    numbers = {name: 1_000 * draw.random() for name in NUMBERS}
    batches = [{"batch_size": size, **{name: 1_000 * draw.random() for name in BATCH}} for size in BATCHES]
    return {
        "test_accuracy": draw.random(),
        "test_per_class_accuracy": [draw.random() for _ in range(10)],
        **numbers,
        "parameters": draw.randrange(10**7),
        "macs": draw.randrange(10**9),
        "peak_memory_bytes": draw.randrange(10**9),
        "timing_notes": [],
        "profile_notes": [],
        "cost_notes": [],
        "energy_scope": None,
        "train_settled": True,
        "inference_batches": batches,
    }


PHASES = ("data", "build", "first_step", "warmup", "training", "validation", "evaluation", "profile")
BATCH = ("images_per_second", "q1", "q3", "first_call_seconds", "warmup_calls", "calls")
NUMBERS = (
    *("test_top5_accuracy", "test_nll", "test_ece", "validation_accuracy", "train_images_per_second"),
    *("train_images_per_second_q1", "train_images_per_second_q3", "train_images_per_second_low"),
    *("train_images_per_second_high", "train_images_per_second_mean", "train_windows", "load_average"),
    *("other_cpu_share", "steal_share", "trainable_parameters", "flops", "activations", "product_activations"),
    *("compute_images_per_second", "input_images_per_second", "input_wait_share", "latency_p50_ms", "latency_p95_ms"),
    *("latency_p99_ms", "latency_first_call_ms", "latency_calls", "inference_images_per_second", "model_file_bytes"),
)
RESOLVED = {
    "device": "CPU",
    "device_name": "a processor",
    "precision": "float32",
    "jit_compile": False,
    "steps_per_block": 8,
    "epochs": 10,
    "steps": 3510,
    "training_images": 45_000,
    "threads": 2,
    "channel_mean": [0.49139968987818966, 0.4821584196261869, 0.4465309242282978],
    "channel_std": [0.2470322365288295, 0.24348513219690635, 0.2615878455677862],
    "tf32": False,
    "matmul_peak_flops": 2e11,
}


if __name__ == "__main__":
    main()
