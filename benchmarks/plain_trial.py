"""A peer of sweep_overhead.py: one trial of its grid as a plain Keras script, without bench.

It trains `baseline_cnn` or `baseline_cnn_bn` on scikit-learn's digits with SGD 0.001 and momentum 0.9, scores the test
images, and writes what it found as JSON. The benchopt benchmark in benchopt_digits/ uses the functions here, so that
both do the same.

    python benchmarks/plain_trial.py --architecture baseline_cnn_bn --seed 3
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

ARCHITECTURES = ("baseline_cnn", "baseline_cnn_bn")
TEST_IMAGES = 360
TEST_BATCH = 256


@dataclass(frozen=True)
class Digits:
    """Training and test images, float32 (images, 8, 8, 1) in [-1, 1], with labels int64 (images,)."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


def main() -> None:
    """Train, evaluate, and write the result."""
    arguments = parse_arguments()
    digits = load_digits()
    model = train(digits, arguments.architecture, arguments.seed, arguments.epochs, arguments.batch_size)
    found = {"architecture": arguments.architecture, "seed": arguments.seed, "accuracy": evaluate(model, digits)}
    print(json.dumps(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=ARCHITECTURES, default=ARCHITECTURES[0], help="default baseline_cnn")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="default 5")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="default 32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here too")
    return parser.parse_args()


def load_digits() -> Digits:
    """Return the images, divided as bench's data set `digits` divides them."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    images = (digits.images[..., np.newaxis] / 8 - 1).astype(np.float32)
    train, test, labels, test_labels = train_test_split(
        images, digits.target, test_size=TEST_IMAGES, stratify=digits.target, random_state=0
    )
    return Digits(train, labels, test, test_labels)


def make_model(architecture: str) -> keras.Model:
    """Return the network, initialised as PyTorch and bench's plugin have it."""
    normalized = architecture == "baseline_cnn_bn"
    inputs = x = keras.Input((8, 8, 1))
    for filters in (32, 64):
        options = initializers(9 * x.shape[-1])
        x = layers.Conv2D(filters, 3, padding="same", use_bias=not normalized, **options)(x)
        x = layers.MaxPooling2D(2)(activate(x, normalized))
    x = layers.Flatten()(x)
    x = activate(layers.Dense(128, use_bias=not normalized, **initializers(x.shape[-1]))(x), normalized)
    return keras.Model(inputs, layers.Dense(10, **initializers(128))(x))


def initializers(fan_in: int) -> dict[str, keras.Initializer]:
    """Return a layer's initialisers: kernel and bias uniform in ±1/√fan_in."""
    bound = fan_in**-0.5
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        "bias_initializer": keras.initializers.RandomUniform(-bound, bound),
    }


def activate(x: keras.KerasTensor, normalized: bool) -> keras.KerasTensor:
    """Apply ReLU, after batch normalisation if wanted."""
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x) if normalized else x)


def train(digits: Digits, architecture: str, seed: int, epochs: int, batch_size: int) -> keras.Model:
    """Return the trained model."""
    keras.utils.set_random_seed(seed)
    model = make_model(architecture)
    model.compile(
        optimizer=keras.optimizers.SGD(0.001, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(digits.images, digits.labels, batch_size=batch_size, epochs=epochs, verbose=0)
    return model


def evaluate(model: keras.Model, digits: Digits) -> float:
    """Return the accuracy on the test images."""
    _, accuracy = model.evaluate(digits.test_images, digits.test_labels, batch_size=TEST_BATCH, verbose=0)
    return float(accuracy)


if __name__ == "__main__":
    main()
