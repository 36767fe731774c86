"""The network of airbench94, which reaches 94 % on CIFAR-10 in seconds on a GPU (Jordan 2024, section 3).

A 2x2 convolution whose kernel is computed from training images: it whitens their patches, and is not trained; its bias
is. Then three groups of two 3x3 convolutions, of 64, 256 and 256 filters, each with batch normalisation and GELU, and
max pooling after the first of a group. Their first filters start as the identity. Logits are divided by 9. Of
1,971,640 weights, 288 are the frozen kernel. As in KellerJordan/cifar10-airbench, batch normalisation has shifts and no
scales, an epsilon of 1e-12, and keeps 0.6 of its moving statistics; GELU is the exact one. The last pooling takes the
maximum of all positions, which are 3x3 at the published size. Keras's moving variance is the biased one, PyTorch's is
not.

The paper reports 94.01 % on CIFAR-10 (mean of 1,000 runs, with test-time augmentation) after 9.9 epochs: 3.83 s on an
A100. Its loss is the sum over a batch of 1,024, its rate 11.5 and its decay 0.0153 divided by
1,024 * (1 + 1 / (1 - 0.85)); of the mean loss these are a rate of 1.5 and an L2 of 0.0153 / 11.5. Its velocity does not
contain the rate, which here lags behind the schedule by some six steps of 476.
"""

import keras
import numpy as np
from keras import layers

from bench.api import Architecture
from bench.layers.basic import torch_dense
from bench.layers.residual import IdentityStart, gelu

INFO = Architecture(
    paper="https://arxiv.org/abs/2404.00498",
    min_size=9,
    trainable_params={
        "32x32x3/10": 1_971_352,
    },
    accuracy={"cifar10": 0.9401},
    recipe={
        "epochs": 9.9,
        "batch_size": 1024,
        "optimizer": "sgd",
        "learning_rate": 1.5,
        "momentum": 0.85,
        "nesterov": True,
        "l2": 0.0013304347826086957,
        "schedule": "triangular",
        "start_factor": 0.2,
        "warmup": 0.23,
        "end_factor": 0.07,
        "label_smoothing": 0.2,
        "average": "lookahead",
        "average_every": 5,
        "average_decay": 0.7737809375,
        "crop_padding": 0.0625,
        "crop_fill": "reflect",
        "flip": True,
        "flip_alternates": True,
        "test_time": "flip_shift",
        "groups": [
            {"match": "*/beta", "rate": 64.0, "decay": 0.015625},
            {"match": "whitening/bias", "decay": 1.0, "until_epoch": 3},
        ],
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    inputs = keras.Input(input_shape)
    whitening = layers.Conv2D(8 * input_shape[-1], 2, kernel_initializer=IdentityStart(), name="whitening")
    x = gelu(whitening(inputs))
    whitening.kernel.trainable = False
    for filters in (64, 256, 256):
        x = _norm_gelu(layers.MaxPooling2D(2)(_conv(x, filters)))
        x = _norm_gelu(_conv(x, filters))
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Rescaling(1 / 9)(torch_dense(x, num_classes, use_bias=False)))


def adapt(model, images):
    """Set the kernel that whitens 2x2 patches of the images: eigenvectors of their covariance, and the negatives."""
    covariance = np.mean([_gram(image) for image in images], axis=0)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    filters = (eigenvectors / np.sqrt(eigenvalues + 5e-4))[:, ::-1]
    kernel = model.get_layer("whitening").kernel
    kernel.assign(np.concatenate([filters, -filters], axis=1).reshape(kernel.shape))


def _gram(image):
    """Return the mean product of the values of a 2x2 patch, in the order of a kernel: row, column, channel."""
    views = np.lib.stride_tricks.sliding_window_view(image, (2, 2), axis=(0, 1))
    patches = np.moveaxis(views, 2, -1).reshape(-1, 4 * image.shape[-1]).astype(np.float64)
    return patches.T @ patches / len(patches)


def _conv(x, filters):
    return layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=IdentityStart())(x)


def _norm_gelu(x):
    return gelu(layers.BatchNormalization(momentum=0.6, epsilon=1e-12, scale=False)(x))
