"""The arguments of every command, with examples. Imports nothing that takes time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import bench
from bench.cli import commands
from bench.environment import BACKENDS, PRECISIONS
from bench.errors import UsageError
from bench.literals import parse_path
from bench.recipes import SHIPPED

EXAMPLES = {
    "bench": """\
examples:
  bench run --arch baseline_cnn --dataset digits
  bench run --arch baseline_cnn resnet_cifar:depth=56 --dataset cifar10 --seeds 3
  bench list
""",
    "run": """\
examples:
  bench run --arch baseline_cnn --dataset digits
  bench run --arch baseline_cnn --dataset cifar10 --data-dir ~/tensorflow_datasets
  bench run --arch baseline_cnn:width=2 resnet_cifar:depth=56 --dataset cifar10 fashion_mnist --seeds 3
  bench run --arch baseline_cnn --dataset cifar10 --recipe document
  bench run --arch my_net --dataset synthetic:size=64,classes=20 --plugins ~/my-plugins --epochs 2 --set flip=false
  bench run sweep.toml --dry-run
  bench run sweep.toml --jobs 2 --timeout 2h

A trial that has ended on this machine is not run again: the same command finishes a sweep that was cut off.
Exit code: 0 all well, 1 a trial failed, 2 wrong usage, 130 interrupted.
""",
    "report": """\
examples:
  bench report
  bench report --results results/reference
""",
    "status": """\
examples:
  bench status
  bench status --results /shared/results --watch
  bench status --json

Shows what every `bench run` at work on a results folder is at, from whichever terminal or machine sees that folder.
Exit code: 0, also where nothing is at work, and after Ctrl-C; 2 where the folder does not exist.
""",
    "compare": """\
examples:
  bench compare baseline_cnn baseline_cnn_bn
  bench compare baseline_cnn resnet_cifar:depth=56 --dataset cifar10 --difference 1
  bench compare baseline_cnn baseline_cnn_bn --results results/reference --json comparison.json

The architectures must have been trained in the same setting: data set, recipe, precision, backend, machine, versions.
""",
    "prepare": """\
examples:
  bench prepare cifar10 fashion_mnist
  bench prepare cifar10 --data-dir ~/tensorflow_datasets
""",
    "check": """\
examples:
  bench check resnet_cifar
  bench check my_net --plugins ~/my-plugins
  bench check architectures/my_net.py datasets/my_images.py
  bench check my_net:width=64 --backend jax

Runs the contract that the project's own tests run: sizes, channels, classes, precision, seeds, gradients, saving.
Exit code: 0 all well, 1 something is to be mended, 2 wrong usage.
""",
    "new": """\
examples:
  bench new architecture my_net
  bench new dataset my_images --plugins ~/my-plugins

Writes architectures/NAME.py or datasets/NAME.py, which works as it is; nothing that is there is overwritten.
""",
    "list": """\
examples:
  bench list
  bench list architectures --plugins ~/my-plugins
""",
    "doctor": """\
examples:
  bench doctor
  bench doctor --data-dir ~/tensorflow_datasets
""",
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; the parsed `command` is the function to call."""
    parser = _describe(argparse.ArgumentParser(prog="bench", allow_abbrev=False), "bench", bench.__doc__ or "")
    parser.add_argument("--version", action="version", version=f"bench {bench.__version__}")
    commands_ = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def add(name: str, help_: str, function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands_.add_parser(name, help=help_, allow_abbrev=False)
        command.set_defaults(command=function)
        return _describe(command, name, help_)

    _add_run(add("run", "train and evaluate architectures on data sets, and report", commands.run))
    report = add("report", "make the tables anew from the records", commands.report)
    _add_results(report)
    _add_status(add("status", "show what runs, what has failed, and how much time is left", commands.status))
    _add_compare(add("compare", "say which architecture is more accurate, if the records tell", commands.compare))
    prepare = add("prepare", "download and cache data sets", commands.prepare)
    prepare.add_argument(
        "datasets", nargs="+", metavar="NAME[:KEY=VALUE,...]", help="data sets; `bench list` names them"
    )
    _add_folders(prepare)
    prepare.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_check(add("check", "check architectures and data sets of your own, and say what to mend", commands.check))
    _add_new(add("new", "write an architecture or a data set to begin with", commands.new))
    list_ = add("list", "show the architectures and data sets there are", commands.list_plugins)
    list_.add_argument("kind", nargs="?", choices=["architectures", "datasets"], help="only these")
    _add_plugins(list_)
    _add_folders(add("doctor", "show what this machine offers", commands.doctor))
    return parser


def _describe(parser: argparse.ArgumentParser, name: str, text: str) -> argparse.ArgumentParser:
    parser.description = text.partition("\n")[0]
    parser.epilog = EXAMPLES[name]
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", nargs="?", type=_path, metavar="SWEEP.toml", help="a file that describes the trials")
    names = {"nargs": "+", "action": "extend", "metavar": "NAME[:KEY=VALUE,...]"}
    parser.add_argument("--arch", help="architectures, with parameters as TOML values", **names)  # type: ignore[arg-type]
    parser.add_argument("--dataset", help="data sets, likewise", **names)  # type: ignore[arg-type]
    parser.add_argument("--seeds", type=int, metavar="N", help="run seeds 0 to N-1 (default 1)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the trials, what is done, and what the rest takes"
    )
    recipe = parser.add_argument_group("how to train")
    recipe.add_argument(
        "--recipe",
        help=f"recipes: {', '.join(SHIPPED)} (the first is default) or a TOML file of your own, with overrides",
        **names,  # type: ignore[arg-type]
    )
    recipe.add_argument("--epochs", type=float, metavar="N", help="just so many passes over the training images")
    recipe.add_argument(
        "--budget", metavar="epochs=N|flops=X", help="what each training may cost; the schedule is fitted to it"
    )
    recipe.add_argument("--batch-size", type=int, metavar="N", help="images a step")
    recipe.add_argument("--learning-rate", type=float, metavar="X", help="the highest learning rate")
    recipe.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override anything else of the recipe",
    )
    recipe.add_argument("--precision", nargs="+", choices=PRECISIONS, help="default: what suits the device")
    recipe.add_argument("--backend", nargs="+", choices=list(BACKENDS), help="default tensorflow")
    recipe.add_argument(
        "--devices",
        nargs="+",
        type=int,
        metavar="N",
        help="devices that a trial shares its batches out over (default 1)",
    )
    recipe.add_argument(
        "--train-fraction",
        nargs="+",
        type=float,
        metavar="X",
        help="use only that part of the training images, stratified; a smaller part lies within a larger (default 1)",
    )
    recipe.add_argument(
        "--tune",
        nargs="+",
        action="extend",
        metavar="KEY",
        help="search these keys of the recipe (learning_rate, weight_decay, l2) for each architecture, by validation",
    )
    recipe.add_argument("--tune-trials", type=int, metavar="N", help="values that are tried of them (default 8)")
    parser.add_argument(
        "--evaluate-also",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="further data sets to evaluate each trained model on, such as cifar10_corrupted",
    )
    again = parser.add_argument_group("what is run again")
    again.add_argument("--force", action="store_true", help="run trials that have ended on this machine once more")
    again.add_argument("--retry-failed", action="store_true", help="run those of them that failed once more")
    _add_limits(parser.add_argument_group("where trials run, and what each may take"))
    parser.add_argument(
        "--measure",
        choices=["basic", "full"],
        help="full (default): latency, batch sizes, and the halves of training speed too, once for each architecture",
    )
    parser.add_argument(
        "--logits",
        choices=["float32", "float16"],
        help="how predictions are stored (default float32)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_results(parser)
    _add_folders(parser)
    parser.set_defaults(results=None)  # a sweep file may name it


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--jobs", type=int, metavar="N", help="trials side by side (default: one for each GPU, else 1)")
    group.add_argument(
        "--timing", choices=["shared", "exclusive"], help="exclusive: the trials that are measured in full run alone"
    )
    group.add_argument("--timeout", metavar="TIME", help="end a trial that takes longer, such as 90s, 45m or 2h")
    group.add_argument("--memory-limit", metavar="SIZE", help="end a trial that takes more memory, such as 8GB")
    group.add_argument(
        "--disk-limit", metavar="SIZE", help="end a trial that writes or prints more into its folder (default 4GB)"
    )
    group.add_argument("--checkpoint-every", metavar="TIME", help="save the state of a training so often (default 5m)")
    group.add_argument("--engine", choices=["local", "ray"], help="local (default), or a Ray cluster")
    group.add_argument("--ray-address", metavar="ADDRESS", help="of the cluster; without it Ray starts on this machine")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("architectures", nargs="+", metavar="ARCH", help="two or more, as the leaderboard names them")
    parser.add_argument(
        "--dataset", nargs="+", action="extend", metavar="NAME", help="only these data sets (default: all)"
    )
    parser.add_argument(
        "--difference",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="the smallest difference that matters, in percentage points: how many seeds would show it (default 0.5)",
    )
    parser.add_argument("--recipe", metavar="NAME", help="only this recipe, as the leaderboard names it")
    parser.add_argument("--precision", metavar="NAME", help="only this precision")
    parser.add_argument("--backend", metavar="NAME", help="only this backend")
    parser.add_argument("--json", type=_path, metavar="FILE", help="also write the comparisons to this file, as JSON")
    _add_results(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="+", metavar="NAME|FILE", help="plugins, with parameters after a colon, or their files"
    )
    parser.add_argument("--backend", choices=list(BACKENDS), default="tensorflow", help="default tensorflow")
    _add_folders(parser)


def _add_new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=["architecture", "dataset"], help="what to write")
    parser.add_argument("name", metavar="NAME", help="its name: lower-case letters, digits and underscores")
    parser.add_argument(
        "--plugins",
        type=_path,
        default=Path(),
        metavar="DIR",
        help="the folder that holds, or will hold, architectures/ or datasets/ (default: this one)",
    )


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="go on showing it until nothing is at work, or Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print it as JSON, on one line each time")
    _add_results(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=_path, default=Path("results"), metavar="DIR", help="default: results")


def _add_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugins",
        type=_path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of your own that holds architectures/ or datasets/; may be repeated",
    )


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=_path,
        metavar="DIR",
        help="TFDS data directory (default: TFDS_DATA_DIR or ~/tensorflow_datasets)",
    )
    _add_plugins(parser)


def _path(text: str) -> Path:
    try:
        return parse_path(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
