"""The compiled training and inference steps on TensorFlow.

One call runs several training steps, so that Python's overhead is paid once for all of them. Images travel as uint8
and are normalised inside the compiled step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bench.api import ImageShape
from bench.data.pipeline import Block

NEVER_DECAYED = {"bias", "gamma", "beta"}


@dataclass(frozen=True)
class Normalization:
    """Maps uint8 pixels to float32: `pixels * scale + offset`, each a number a channel."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]


@dataclass(frozen=True)
class Objective:
    """What training minimises: smoothed cross-entropy, plus l2/2 times the squared norm of kernels and matrices."""

    label_smoothing: float
    l2: float


@dataclass(frozen=True)
class CompiledSteps:
    """The compiled functions of one model.

    Attributes:
        train: takes images uint8 (steps, batch, H, W, C) and labels int32 (steps, batch); returns each step's mean
            cross-entropy, float32 (steps,), and its number of correct predictions, int32 (steps,).
        infer: takes images uint8 (batch, H, W, C), returns logits float32 (batch, classes).

    """

    train: Callable[[Any, Any], tuple[Any, Any]]
    infer: Callable[[Any], Any]

    def run(self, block: Block) -> tuple[npt.NDArray[np.float32], int]:
        """Train on a block. Returns each step's loss and the number of correct predictions, once computed."""
        losses, correct = self.train(block.images, block.labels)
        return losses.numpy(), int(correct.numpy().sum())

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return logits float32 (batch, classes), on the host."""
        return np.asarray(self.infer(images).numpy())


def compile_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    shape: ImageShape,
    normalization: Normalization,
    objective: Objective,
    *,
    jit_compile: bool,
) -> CompiledSteps:
    """Return the training and inference functions of a model; they are traced on their first call."""
    scale, offset = tf.constant(normalization.scale), tf.constant(normalization.offset)
    variables = model.trainable_variables
    penalized = decayed_variables(model) if objective.l2 else []
    optimizer.build(variables)

    def logits_of(images: Any, training: bool) -> Any:
        return tf.cast(model(tf.cast(images, tf.float32) * scale + offset, training=training), tf.float32)

    @tf.function(jit_compile=jit_compile)  # type: ignore[untyped-decorator]
    def step(images: Any, labels: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = logits_of(images, training=True)
            loss = cross_entropy(logits, labels, objective.label_smoothing)
            total = (
                loss
                + sum(tf.cast(each, tf.float32) for each in model.losses)
                + sum(objective.l2 * tf.nn.l2_loss(variable) for variable in penalized)
            )
            scaled = optimizer.scale_loss(total)
        optimizer.apply(tape.gradient(scaled, variables), variables)
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return loss, tf.reduce_sum(tf.cast(predicted == labels, tf.int32))

    images_spec = tf.TensorSpec((None, None, *shape), tf.uint8)

    @tf.function(input_signature=(images_spec, tf.TensorSpec((None, None), tf.int32)))  # type: ignore[untyped-decorator]
    def train(images: Any, labels: Any) -> tuple[Any, Any]:
        steps = tf.shape(images)[0]
        losses, correct = tf.TensorArray(tf.float32, steps), tf.TensorArray(tf.int32, steps)
        for index in tf.range(steps):
            loss, right = step(images[index], labels[index])
            losses, correct = losses.write(index, loss), correct.write(index, right)
        return losses.stack(), correct.stack()

    @tf.function(input_signature=(tf.TensorSpec((None, *shape), tf.uint8),), jit_compile=jit_compile)  # type: ignore[untyped-decorator]
    def infer(images: Any) -> Any:
        return logits_of(images, training=False)

    return CompiledSteps(train, infer)


def cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """Return the mean cross-entropy of float32 logits (batch, classes) with labels int32 (batch,).

    With smoothing s, the target is (1-s) on the label plus s/classes everywhere (Szegedy et al. 2016, section 7).
    """
    hard = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if not smoothing:
        return tf.reduce_mean(hard)
    uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
    return tf.reduce_mean((1 - smoothing) * hard + smoothing * uniform)


def decayed_variables(model: keras.Model) -> list[Any]:
    """Return the trainable kernels and matrices, which are decayed; biases and normalisation scales are not.

    Names count beside shapes, since an attention layer's biases are matrices.
    """
    return [
        variable
        for variable in model.trainable_variables
        if len(variable.shape) >= 2 and variable.name not in NEVER_DECAYED
    ]
