"""A peer of peers.py: the same training as a plain script with tf.data and Keras `fit`, without bench.

It is written as a careful user writes it: the images decoded once, shuffled whole, batched, normalised in parallel and
prefetched; the network in plain Keras; several steps an execution. It trains `baseline_cnn` on CIFAR-10 in float32 with
SGD 0.001 and momentum 0.9, and counts accuracy, as bench does.

Images/s are steady ones: the clock starts after the first execution, which traces the network, and runs through each
epoch from its beginning to its end; filling the shuffle buffer anew is counted, 0.05 s an epoch. What lies between two
epochs is not. bench counts alike, from its first step on.

    python benchmarks/bare_keras.py --data-dir DIR --epochs 3
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from keras import layers

PADDING = 4  # pixels: the standard recipe's crop_padding 0.125 of 32
DEFAULT_STEPS_PER_EXECUTION = 16  # level with 1 on a CPU


class SteadyClock(keras.callbacks.Callback):
    """Times a `fit` from the end of its first execution on, epoch by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self.mark, self.uncounted_steps = 0.0, 0.0, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes them
        """Start the clock."""
        self.mark = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Start it anew after the first execution."""
        if not self.uncounted_steps:
            self.uncounted_steps = int(self.model.optimizer.iterations.numpy())  # waits for the device
            self.mark = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Stop it."""
        self.model.optimizer.iterations.numpy()
        self.seconds += time.perf_counter() - self.mark


def main() -> None:
    """Train, and print the speed."""
    arguments = parse_arguments()
    keras.utils.set_random_seed(0)
    images, labels = load(arguments)
    speed = train(make_dataset(images, labels, arguments), len(labels), arguments)
    memory = peak_memory_bytes()
    print(f"{speed:,.0f} images/s, peak memory {memory / 1e9:.2f} GB")
    if arguments.json:
        arguments.json.write_text(json.dumps({"images_per_second": speed, "peak_memory_bytes": memory}) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="TFDS data directory (default: TFDS's own)")
    parser.add_argument(
        "--arrays", type=Path, metavar="FILE.npz", help="keep the decoded images here, and read them if they are there"
    )
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N", help="default 128")
    parser.add_argument("--drop-remainder", action="store_true", help="leave out an epoch's last, smaller batch")
    parser.add_argument("--augment", action="store_true", help="crop and flip as bench's standard recipe does")
    parser.add_argument(
        "--steps-per-execution",
        type=int,
        default=DEFAULT_STEPS_PER_EXECUTION,
        metavar="N",
        help=f"default {DEFAULT_STEPS_PER_EXECUTION}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser.parse_args()


def load(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return the training images, uint8 N×H×W×C, and labels."""
    if arguments.arrays and arguments.arrays.exists():
        with np.load(arguments.arrays) as arrays:
            return arrays["images"], arrays["labels"]
    import tensorflow_datasets as tfds

    everything = tfds.load("cifar10", split="train", batch_size=-1, data_dir=arguments.data_dir, download=False)
    images, labels = everything["image"].numpy(), everything["label"].numpy()
    if arguments.arrays:
        np.savez(arguments.arrays, images=images, labels=labels)
    return images, labels


def make_dataset(images: np.ndarray, labels: np.ndarray, arguments: argparse.Namespace) -> tf.data.Dataset:
    """Return the input pipeline."""
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels))
    dataset = dataset.batch(arguments.batch_size, drop_remainder=arguments.drop_remainder)
    if arguments.augment:
        dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.map(normalize, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def normalize(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Map 0..255 to [-1, 1]."""
    return tf.cast(images, tf.float32) * (2 / 255) - 1, labels


def augment(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Shift each image of a batch by up to 4 pixels, with zeros moving in, and mirror half of them.

    A whole batch at a time, by gathering rows and columns: several times faster than a map over single images.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    padded = tf.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    top = tf.random.uniform((count, 1), 0, 2 * PADDING + 1, tf.int32)
    left = tf.random.uniform((count, 1), 0, 2 * PADDING + 1, tf.int32)
    flipped = tf.random.uniform((count, 1)) < 0.5
    columns = tf.where(flipped, tf.range(width - 1, -1, -1), tf.range(width)) + left
    shifted = tf.gather(padded, tf.range(height) + top, axis=1, batch_dims=1)
    return tf.gather(shifted, columns, axis=2, batch_dims=1), labels


def make_model() -> keras.Model:
    """Return the network of `baseline_cnn`; how it is initialised makes no difference to its speed."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


def train(dataset: tf.data.Dataset, count: int, arguments: argparse.Namespace) -> float:
    """Train, and return the steady images/s. Keras leaves XLA off on a CPU, where it would halve the speed."""
    model, clock = make_model(), SteadyClock()
    model.compile(
        optimizer=keras.optimizers.SGD(0.001, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=arguments.steps_per_execution,
    )
    model.fit(dataset, epochs=arguments.epochs, callbacks=[clock], shuffle=False, verbose=0)
    steps = len(dataset) * arguments.epochs
    if int(model.optimizer.iterations.numpy()) != steps:
        raise SystemExit(f"expected {steps} steps, Keras made {int(model.optimizer.iterations.numpy())}")
    if arguments.drop_remainder:
        count = len(dataset) * arguments.batch_size
    images = count * arguments.epochs - clock.uncounted_steps * arguments.batch_size
    return images / clock.seconds


def peak_memory_bytes() -> int:
    """Return the greatest resident set size of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
