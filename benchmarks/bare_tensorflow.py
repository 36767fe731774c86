"""A peer of peers.py and wall_time.py: `baseline_cnn` in a bare, tuned TensorFlow loop, without Keras or bench.

One call of a compiled function makes several steps; images travel as uint8; the update is TensorFlow's fused momentum
kernel; XLA is off, which on a CPU is twice as fast. `mixed_bfloat16` keeps float32 weights and computes in bfloat16, as
Keras's policy of that name does. Keras is not imported, since its import would count where whole processes are timed.

    python benchmarks/bare_tensorflow.py --arrays FILE.npz --precision mixed_bfloat16
    python benchmarks/bare_tensorflow.py --arrays FILE.npz --steps 3900 --test
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import Any

import bare
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

SHAPES = ((3, 3, 3, 32), (3, 3, 32, 64), (64 * 8 * 8, 128), (128, bare.CLASSES))
STEPS_PER_CALL = 8  # within the noise of 1 and 32 on a 2-core CPU; `peers.py --all` compares them
TEST_BATCH = 256


def main() -> None:
    """Train, and print the speed."""
    arguments = parse_arguments()
    training = Training(arguments)
    calls = bare.time_calls(training.calls())
    if arguments.test:
        print(f"test accuracy {training.accuracy(bare.load(arguments.arrays, 'test')):.4f}")
        matmul = None
    else:
        matmul = best_matmul(training.dtype)
    bare.answer(arguments, calls, training.loss, matmul)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = bare.make_parser(__doc__)
    parser.add_argument("--precision", choices=["float32", "mixed_bfloat16"], default="float32", help="default float32")
    parser.add_argument(
        "--steps-per-call", type=int, default=STEPS_PER_CALL, metavar="N", help=f"default {STEPS_PER_CALL}"
    )
    parser.add_argument(
        "--plain-add", action="store_true", help="add biases as any two tensors, not by TensorFlow's `bias_add`"
    )
    parser.add_argument(
        "--test", action="store_true", help="score the test images at the end, and measure no matrix product"
    )
    return parser.parse_args()


class Training:
    """Weights, momenta and compiled functions."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.loss = arguments, float("nan")
        self.dtype = tf.bfloat16 if arguments.precision == "mixed_bfloat16" else tf.float32
        self.layers = [make_layer(shape, seed) for seed, shape in enumerate(SHAPES)]
        self.weights = [variable for layer in self.layers for variable in layer]
        self.momenta = [tf.Variable(tf.zeros_like(variable)) for variable in self.weights]
        self.add = tf.add if arguments.plain_add else tf.nn.bias_add
        self.train, self.infer = tf.function(self._train), tf.function(self._logits)

    def calls(self) -> Iterator[int]:
        """Train, yielding the images of each call."""
        arguments, images = self.arguments, bare.load(self.arguments.arrays)
        indices = bare.batch_indices(len(images), arguments.batch_size, arguments.steps, arguments.steps_per_call)
        for rows in indices:
            self.loss = float(self.train(images.pixels[rows], images.labels[rows]))
            yield rows.size

    def accuracy(self, images: bare.Images) -> float:
        """Return the share of the images that are classified correctly."""
        right = 0
        for start in range(0, len(images), TEST_BATCH):
            logits = self.infer(images.pixels[start : start + TEST_BATCH]).numpy()
            right += int((logits.argmax(axis=1) == images.labels[start : start + TEST_BATCH]).sum())
        return right / len(images)

    def _train(self, pixels: Any, labels: Any) -> Any:
        losses = 0.0
        for index in tf.range(tf.shape(labels)[0]):
            losses += self._step(pixels[index], labels[index])
        return losses / tf.cast(tf.shape(labels)[0], tf.float32)

    def _step(self, pixels: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = self._logits(pixels)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        for weight, momentum, gradient in zip(
            self.weights, self.momenta, tape.gradient(loss, self.weights), strict=True
        ):
            tf.raw_ops.ResourceApplyMomentum(
                var=weight.handle, accum=momentum.handle, lr=bare.LEARNING_RATE, grad=gradient, momentum=bare.MOMENTUM
            )
        return loss

    def _logits(self, pixels: Any) -> Any:
        x = tf.cast(tf.cast(pixels, tf.float32) * bare.SCALE + bare.OFFSET, self.dtype)
        layers = [(tf.cast(kernel, self.dtype), tf.cast(bias, self.dtype)) for kernel, bias in self.layers]
        for kernel, bias in layers[:2]:
            x = tf.nn.relu(self.add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias))
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tf.reshape(x, (-1, SHAPES[2][0]))
        (kernel, bias), (last_kernel, last_bias) = layers[2:]
        x = tf.nn.relu(self.add(tf.matmul(x, kernel), bias))
        return tf.cast(self.add(tf.matmul(x, last_kernel), last_bias), tf.float32)


def make_layer(shape: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    """Return kernel and bias, uniform in ±1/√fan_in."""
    bound = float(np.prod(shape[:-1])) ** -0.5
    uniform = np.random.default_rng(seed).uniform
    return tuple(tf.Variable(uniform(-bound, bound, size).astype(np.float32)) for size in (shape, shape[-1:]))


def best_matmul(dtype: Any) -> float:
    """Return the FLOP/s of the fastest matrix product."""
    matrix = tf.cast(tf.random.uniform((bare.SIZE, bare.SIZE)), dtype)
    return bare.best_matmul(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)[0]).numpy())


if __name__ == "__main__":
    main()
