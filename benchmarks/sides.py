"""The sides that peers.py compares: `bench run` on each backend, and scripts that know nothing of bench.

Each side trains `baseline_cnn` in a process of its own, on the same images, at the same batch size, for about the same
number of steps. Scripts give the seconds of each call of their step; bench.measurement.windows makes steady images/s of
them, as `bench run` does of its own. (bare_keras.py times its epochs only, and gives their mean speed.)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bare import Answer
from common import data_dir_arguments, run_bench, run_python

from bench.measurement.windows import TimedBlock, steady
from bench.store import Store

SCRIPTS = Path(__file__).parent
SLOW_STEPS = 200  # of sides that would hold up a round; their speed is as steady as that of more steps
IMAGES = 50_000  # of CIFAR-10's training part


@dataclass(frozen=True)
class Side:
    """One way to train the network.

    Attributes:
        script: a file of this folder; `""` for bench.
        options: of the script or of `bench run`.
        precision: what products are computed in, `float32` or `bfloat16`.
        slow: whether it makes no more than SLOW_STEPS steps.
        extra: whether it runs only when it is asked for.

    """

    script: str
    options: tuple[str, ...] = ()
    precision: str = "float32"
    slow: bool = False
    extra: bool = False


def _bench(backend: str, precision: str = "float32", *overrides: str, extra: bool = False) -> Side:
    options = ("--backend", backend, "--precision", precision, "--set", "drop_remainder=true", *overrides)
    return Side("", options, precision.removeprefix("mixed_"), extra=extra)


def _torch(*options: str, precision: str = "float32", extra: bool = False) -> Side:
    return Side("bare_torch.py", (*options, "--precision", precision), precision, extra=extra)


def _tensorflow(precision: str, steps_per_call: int, *options: str, extra: bool = False) -> Side:
    options = ("--precision", precision, "--steps-per-call", str(steps_per_call), *options)
    return Side("bare_tensorflow.py", options, precision.removeprefix("mixed_"), extra=extra)


SIDES: Mapping[str, Side] = {  # in the order of a round: what is compared stands together
    "torch-usual": Side("usual_torch.py", slow=True),
    "keras-fit": Side("usual_keras.py"),
    "bench-float32": _bench("tensorflow"),
    "tensorflow-bare-float32": _tensorflow("float32", 8),
    "tensorflow-bare-float32-add": _tensorflow("float32", 8, "--plain-add", extra=True),
    "tensorflow-bare-float32-1": _tensorflow("float32", 1, extra=True),
    "tensorflow-bare-float32-30": _tensorflow("float32", 30, extra=True),
    "bench-bfloat16": _bench("tensorflow", "mixed_bfloat16"),
    "tensorflow-bare-bfloat16": _tensorflow("mixed_bfloat16", 8),
    "tensorflow-bare-bfloat16-add": _tensorflow("mixed_bfloat16", 8, "--plain-add", extra=True),
    "tensorflow-bare-bfloat16-1": _tensorflow("mixed_bfloat16", 1, extra=True),
    "tensorflow-bare-bfloat16-30": _tensorflow("mixed_bfloat16", 30, extra=True),
    "torch-tuned-bfloat16": _torch("--channels-last", precision="bfloat16"),
    "torch-compiled-bfloat16": _torch("--channels-last", "--compile", precision="bfloat16"),
    "torch-tuned-float32": _torch("--channels-last"),
    "torch-compiled-float32": _torch("--channels-last", "--compile", extra=True),
    "bench-torch": _bench("torch"),
    "torch-eager-nchw": _torch(),
    "bench-jax": _bench("jax"),
    "jax-bare": Side("bare_jax.py", slow=True),
    "jax-scan": Side("bare_jax.py", ("--steps-per-call", "8"), slow=True, extra=True),
    "keras-tuned": Side("bare_keras.py", extra=True),
    "bench-augmented": _bench("tensorflow", "float32", "crop_padding=0.125", "flip=true", extra=True),
    "keras-augmented": Side("bare_keras.py", ("--augment",), extra=True),
}


@dataclass(frozen=True)
class Measured:
    """One run of a side.

    Attributes:
        images_per_second: median over the windows of the training after its warm-up.
        mean_images_per_second: all images of these windows / their seconds, so that stalls count too.
        peak_memory_bytes: of the training's process.
        loss: the last steps' mean, from scripts.
        matmul_flops_per_second: of the script's library; None where it was not measured.

    """

    images_per_second: float
    mean_images_per_second: float
    peak_memory_bytes: int
    loss: float | None = None
    matmul_flops_per_second: float | None = None


def run_side(name: str, arguments: argparse.Namespace, folder: Path) -> Measured:
    """Run a side once in a process of its own. Its results go to `folder`, which must not exist yet."""
    folder.mkdir()
    side = SIDES[name]
    if side.script:
        return _measured(_run_script(side, arguments, folder / "answer.json"), arguments.batch_size)
    return _run_bench(side, arguments, folder)


def _run_bench(side: Side, arguments: argparse.Namespace, folder: Path) -> Measured:
    run_bench(
        *("run", "--arch", "baseline_cnn", "--dataset", "cifar10", "--recipe", "document", "--measure", "basic"),
        *("--batch-size", str(arguments.batch_size), "--epochs", str(arguments.epochs), *side.options),
        *("--results", str(folder), "--quiet", *data_dir_arguments(arguments.data_dir)),
    )
    (record,) = Store(folder).records()
    speed, mean = (record.metrics[f"train_images_per_second{suffix}"] for suffix in ("", "_mean"))
    return Measured(speed, mean, record.metrics["peak_memory_bytes"])


def _run_script(side: Side, arguments: argparse.Namespace, answer: Path) -> Answer:
    if side.script == "bare_keras.py":  # it counts in epochs
        length = ["--epochs", str(arguments.epochs), "--drop-remainder"]
    else:
        steps = arguments.epochs * (IMAGES // arguments.batch_size)
        length = ["--steps", str(min(steps, SLOW_STEPS) if side.slow else steps)]
    run_python(
        *(str(SCRIPTS / side.script), "--arrays", str(arguments.arrays), "--batch-size", str(arguments.batch_size)),
        *(*length, "--json", str(answer), *side.options),
    )
    return Answer(**json.loads(answer.read_text()))


def _measured(answer: Answer, batch_size: int) -> Measured:
    blocks = [TimedBlock(images // batch_size, images, seconds) for images, seconds in answer.calls]
    speed = steady(blocks)
    return Measured(
        images_per_second=speed.images_per_second or answer.images_per_second,
        mean_images_per_second=speed.mean_images_per_second or answer.images_per_second,
        peak_memory_bytes=answer.peak_memory_bytes,
        loss=answer.loss,
        matmul_flops_per_second=answer.matmul_flops_per_second,
    )
