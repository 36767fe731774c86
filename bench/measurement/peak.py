"""The device's matrix-product peak, measured, not read from a data sheet: the yardstick of a training's speed."""

from __future__ import annotations

import time
from typing import Any

LEAST_SECONDS = 1.0
LEAST_SAMPLES, PRODUCTS = 5, 5
CPU_SIZE, GPU_SIZE = 2_048, 8_192
TRAINING_PASSES = 3  # forward, and backward to inputs and to weights, each as many products (Kaplan et al. 2020, 2.1)
DTYPES = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def matmul_peak_flops(precision: str, on_gpu: bool) -> float:
    """Return FLOP/s of the fastest of several products of square matrices, in the precision's compute dtype.

    Two FLOPs a multiply-add. Uses Keras's backend on its device; the best product counts, since a peak is what the
    device can do.
    """
    from keras import ops, random

    size, dtype = GPU_SIZE if on_gpu else CPU_SIZE, DTYPES[precision]
    left, right = (ops.cast(random.normal((size, size), seed=seed), dtype) for seed in (1, 2))
    product = _compiled_product()
    seconds: list[float] = []
    _wait(product(left, right))
    while len(seconds) < LEAST_SAMPLES or sum(seconds) < LEAST_SECONDS:
        start = time.perf_counter()
        for _ in range(PRODUCTS):  # several, since waiting for the last one takes time too
            last = product(left, right)
        _wait(last)
        seconds.append(time.perf_counter() - start)
    return PRODUCTS * 2.0 * size**3 / min(seconds)


def utilisation(images_per_second: float, macs: float, peak_flops: float) -> float:
    """Return the share of the peak that training reached, as a fraction.

    A training step on an image is counted as three forward passes, each of two FLOPs a multiply-add. The first layer
    needs no gradient of its input, so this counts slightly too much; a convolution that needs fewer products than its
    definition (Winograd's) may exceed the peak.
    """
    return images_per_second * TRAINING_PASSES * 2 * macs / peak_flops


def _compiled_product() -> Any:
    """Return the product as the backend runs it inside a network: compiled where it compiles."""
    import keras
    from keras import ops

    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(ops.matmul)
    return ops.matmul


def _wait(value: Any) -> None:
    """Bring one number to the host, so that the product has ended."""
    from keras import ops

    ops.convert_to_numpy(ops.cast(value[0, 0], "float32"))
