"""The document's formulas, evaluated directly, against the network as it is built."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from bench.plugins import discover, load_module


def cross_correlate(images, kernel, bias):
    """y[i, j, k] = b[k] + sum over m, n, c of w[m, n, c, k] x[i + m - 1, j + n - 1, c]: zero padding of one."""
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    result = np.zeros((count, height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            window = padded[:, i : i + 3, j : j + 3]
            result[:, i, j] = np.einsum("bmnc,mnck->bk", window, kernel) + bias
    return result


def max_pool(images):
    """y[i, j, k] = the greatest of x[2i + m, 2j + n, k] with m and n in {0, 1}."""
    corners = [images[:, m::2, n::2] for m in (0, 1) for n in (0, 1)]
    return np.max(corners, axis=0)


def test_convolution_and_pooling_of_the_built_network_follow_the_formulas():
    keras.utils.set_random_seed(0)
    model = load_module(discover("architecture").plugins["baseline_cnn"]).build((8, 8, 3), 10)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    x = images
    for layer in convolutions:
        x = max_pool(np.maximum(cross_correlate(x, *layer.get_weights()), 0))
    x = x.reshape(len(x), -1)
    (w1, b1), (w2, b2) = (layer.get_weights() for layer in dense)
    expected = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(model(images.astype(np.float32)), expected, rtol=1e-4, atol=1e-5)
