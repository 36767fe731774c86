"""A peer of peers.py: `baseline_cnn` in a bare, jitted JAX loop, without Keras or bench.

Weights and momenta are donated, so that they are updated in place; images travel as uint8. A call is waited for
once the next one has been started, so that drawing a batch overlaps with the step before it. With `--steps-per-call`
above 1, one call scans over several steps.

    python benchmarks/bare_jax.py --arrays FILE.npz --steps-per-call 8
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

import bare
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SHAPES = ((3, 3, 3, 32), (3, 3, 32, 64), (64 * 8 * 8, 128), (128, bare.CLASSES))


def main() -> None:
    """Train, and print the speed."""
    arguments = parse_arguments()
    losses: list[Any] = []
    calls = bare.time_calls(train(bare.load(arguments.arrays), arguments, losses))
    matrix = jnp.asarray(np.random.default_rng(0).random((bare.SIZE, bare.SIZE), np.float32))
    product = jax.jit(jnp.matmul)
    matmul = bare.best_matmul(lambda: product(matrix, matrix).block_until_ready())
    bare.answer(arguments, calls, float(losses[-1].mean()), matmul)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = bare.make_parser(__doc__)
    parser.add_argument("--steps-per-call", type=int, default=1, metavar="N", help="default 1")
    return parser.parse_args()


def train(images: bare.Images, arguments: argparse.Namespace, losses: list[Any]) -> Iterator[int]:
    """Train, yielding the images of each call and noting its losses."""
    parameters = initial_parameters()
    momenta = jax.tree.map(jnp.zeros_like, parameters)
    indices = bare.batch_indices(len(images), arguments.batch_size, arguments.steps, arguments.steps_per_call)
    for rows in indices:
        parameters, momenta, loss = run_steps(parameters, momenta, images.pixels[rows], images.labels[rows])
        (losses[-1] if losses else loss).block_until_ready()
        losses.append(loss)
        yield rows.size
    jax.block_until_ready(parameters)


def initial_parameters() -> list[tuple[Any, Any]]:
    """Return kernel and bias of each layer."""
    random = np.random.default_rng(0)
    parameters = []
    for shape in SHAPES:
        bound = float(np.prod(shape[:-1])) ** -0.5
        kernel, bias = random.uniform(-bound, bound, shape), random.uniform(-bound, bound, shape[-1])
        parameters.append((jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)))
    return parameters


@partial(jax.jit, donate_argnums=(0, 1))
def run_steps(parameters: Any, momenta: Any, pixels: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Train on pixels uint8 (steps, batch, H, W, C) and labels (steps, batch); a single step needs no scan."""

    def step(state: tuple[Any, Any], batch: tuple[Any, Any]) -> tuple[tuple[Any, Any], Any]:
        parameters, momenta = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, *batch)
        momenta = jax.tree.map(lambda m, g: bare.MOMENTUM * m + g, momenta, gradients)
        parameters = jax.tree.map(lambda p, m: p - bare.LEARNING_RATE * m, parameters, momenta)
        return (parameters, momenta), loss

    if len(labels) == 1:
        (parameters, momenta), losses = step((parameters, momenta), (pixels[0], labels[0]))
    else:
        (parameters, momenta), losses = lax.scan(step, (parameters, momenta), (pixels, labels))
    return parameters, momenta, losses


def loss_of(parameters: Any, pixels: Any, labels: Any) -> Any:
    """Return the mean cross-entropy."""
    log_probabilities = jax.nn.log_softmax(logits_of(parameters, pixels))
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()


def logits_of(parameters: Any, pixels: Any) -> Any:
    """Return logits (batch, classes) of pixels uint8 (batch, H, W, C)."""
    x = pixels.astype(jnp.float32) * bare.SCALE + bare.OFFSET
    for kernel, bias in parameters[:2]:
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + bias)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(len(x), -1)
    (kernel, bias), (last_kernel, last_bias) = parameters[2:]
    return jax.nn.relu(x @ kernel + bias) @ last_kernel + last_bias


if __name__ == "__main__":
    main()
