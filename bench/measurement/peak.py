"""The device's matrix-product peak, measured, not read from a data sheet: the yardstick of a training's speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LEAST_SECONDS = 1.0
LEAST_SAMPLES, PRODUCTS = 5, 5
SIZES = (256, 512, 1_024, 2_048, 4_096, 8_192)  # up to one whose product takes long enough
LONG_ENOUGH = 0.005  # seconds
TRAINING_PASSES = 3  # forward, and backward to inputs and to weights, each as many products (Kaplan et al. 2020, 2.1)
DTYPES = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def matmul_peak_flops(precision: str, compile_function: Callable[[Callable[..., Any]], Callable[..., Any]]) -> float:
    """Return FLOP/s of the fastest of several products of square matrices, in the precision's compute dtype.

    Two FLOPs a multiply-add. Uses Keras's backend on its device; the best product counts, since a peak is what the
    device can do.

    Args:
        precision: float32, mixed_bfloat16 or mixed_float16.
        compile_function: the backend's own way to compile a function.

    """
    from keras import ops

    product = compile_function(ops.matmul)
    for size in SIZES:
        matrices = _matrices(size, DTYPES[precision])
        _seconds(product, matrices, 1)  # the first one compiles
        if _seconds(product, matrices, 1) >= LONG_ENOUGH:
            break
    seconds: list[float] = []
    while len(seconds) < LEAST_SAMPLES or sum(seconds) < LEAST_SECONDS:
        seconds.append(_seconds(product, matrices, PRODUCTS))  # several, since waiting for the last takes time too
    return PRODUCTS * 2.0 * size**3 / min(seconds)


def _matrices(size: int, dtype: str) -> tuple[Any, Any]:
    from keras import ops, random

    left, right = (ops.cast(random.normal((size, size), seed=seed), dtype) for seed in (1, 2))
    return left, right


def _seconds(product: Callable[..., Any], matrices: tuple[Any, Any], times: int) -> float:
    """Return how long so many products take, until a number of the last is on the host."""
    from keras import ops

    start = time.perf_counter()
    for _ in range(times):
        last = product(*matrices)
    ops.convert_to_numpy(ops.cast(last[0, 0], "float32"))
    return time.perf_counter() - start


def utilisation(images_per_second: Any, macs: Any, peak_flops: Any) -> Any:
    """Return the share of the peak that training reached, as a fraction; of numbers, or of columns of them.

    A training step on an image is counted as three forward passes, each of two FLOPs a multiply-add. The first layer
    needs no gradient of its input, so this counts slightly too much; a convolution that needs fewer products than its
    definition (Winograd's) may exceed the peak.
    """
    return images_per_second * TRAINING_PASSES * 2 * macs / peak_flops
