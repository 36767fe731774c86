"""How long `bench --help` and `bench list` take as whole processes, and whether they import TensorFlow.

Both answer at once or they are not asked. A bare interpreter (`python -c pass`) runs beside them, since its start is
part of theirs. Each command runs once uncounted, then all of them in turn.

Target: at most 0.4 s each, and `tensorflow` not imported.

    python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import statistics
import time

from common import make_parser, positive, print_machine, run_python, spread, target

TARGET_SECONDS = 0.4
BARE = "bare interpreter"
COMMANDS = {"bench --help": ["--help"], "bench list": ["list"]}
CHECK = """\
import contextlib, io, sys
from bench.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):  # which --help raises
    main({arguments!r})
print("tensorflow" in sys.modules)
"""


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    print_machine()
    for name, seconds in measure(arguments.runs).items():
        print(f"{name:<16} {spread(seconds, 3)} s, n = {len(seconds)}")
        if name in COMMANDS:
            print(f"  {target(f'at most {TARGET_SECONDS} s', statistics.median(seconds) <= TARGET_SECONDS)}")
            imported = imports_tensorflow(COMMANDS[name])
            print(f"  tensorflow imported: {'yes' if imported else 'no'}; {target('no', not imported)}")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=positive, default=15, metavar="N", help="runs of each command (default 15)")
    return parser.parse_args()


def measure(runs: int) -> dict[str, list[float]]:
    """Return the seconds of each command's runs."""
    commands = {BARE: ["-c", "pass"], **{name: ["-m", "bench", *words] for name, words in COMMANDS.items()}}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        run_python(*command)  # uncounted: compiles bytecode and fills the disk's cache
    for _ in range(runs):
        for name, command in commands.items():
            seconds[name].append(wall_seconds(command))
    return seconds


def wall_seconds(command: list[str]) -> float:
    """Run a command, and return how long it took."""
    start = time.perf_counter()
    run_python(*command)
    return time.perf_counter() - start


def imports_tensorflow(words: list[str]) -> bool:
    """Return whether `bench` with these arguments ends with TensorFlow imported, asked in a process of its own."""
    return run_python("-c", CHECK.format(arguments=words)).strip() == "True"


if __name__ == "__main__":
    main()
