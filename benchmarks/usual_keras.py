"""A peer of peers.py: `baseline_cnn` with Keras `fit` on arrays, on TensorFlow, as most Keras scripts are written.

The images are normalised once, to float32; everything else is Keras's default. Epochs are timed by their steps; what
lies between two epochs is not counted.

    python benchmarks/usual_keras.py --arrays FILE.npz
"""

from __future__ import annotations

import os
import time
from typing import Any

import bare

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
from bare_keras import make_model


class StepClock(keras.callbacks.Callback):
    """Notes the seconds of each step but the first, its input included."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size, self.mark = batch_size, 0.0
        self.calls: list[tuple[int, float]] = []
        self.compiled = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes them
        """Start the clock."""
        self.mark = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Note the step, which on a CPU has been computed."""
        now = time.perf_counter()
        if self.compiled:
            self.calls.append((self.batch_size, now - self.mark))
        self.compiled, self.mark = True, now


def main() -> None:
    """Train, and print the speed."""
    arguments = bare.make_parser(__doc__).parse_args()
    keras.utils.set_random_seed(0)
    clock = StepClock(arguments.batch_size)
    loss = fit(bare.load(arguments.arrays), arguments.steps, clock)
    bare.answer(arguments, clock.calls, loss)


def fit(images: bare.Images, steps: int, clock: StepClock) -> float:
    """Train for that many steps in epochs of equal length, and return the last epoch's mean loss."""
    epochs = -(-steps // (len(images) // clock.batch_size))
    if steps % epochs:
        raise SystemExit(f"{steps} steps cannot be divided into {epochs} equal epochs")
    count = steps // epochs * clock.batch_size
    pixels = images.pixels[:count].astype(np.float32) * bare.SCALE + bare.OFFSET
    model = make_model()
    model.compile(
        optimizer=keras.optimizers.SGD(bare.LEARNING_RATE, momentum=bare.MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    options = {"batch_size": clock.batch_size, "epochs": epochs, "callbacks": [clock], "verbose": 0}
    return float(model.fit(pixels, images.labels[:count], **options).history["loss"][-1])


if __name__ == "__main__":
    main()
