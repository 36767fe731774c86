"""Pre-activation ResNet for CIFAR, of depth 9n+2 with bottlenecks (He et al. 2016, "Identity mappings").

Batch normalisation and ReLU stand before each convolution, so that what is added up is never cut off. As in the
authors' code (KaimingHe/resnet-1k-layers), the stride is in the first 1x1 convolution, and where channels change (16 to
64, 64 to 128, 128 to 256) the shortcut is a 1x1 convolution of the normalised input.

The paper reports (median of 5 runs) 94.54 % on CIFAR-10 and 75.67 % on CIFAR-100 for depth 164 (1.7 M parameters), and
95.08 % and 77.29 % for 1001 (10.2 M), with the recipe of the first ResNets: SGD 0.1 divided by 10 at 32k and 48k of 64k
steps, batch 128, L2 1e-4, pad-4 crop and flip; the decay is of all weights, as in the authors' code. Its first 400
steps are at 0.01; here the rate rises from there. It subtracts each pixel's mean; here channels are standardised.
"""

import keras

from bench.api import Architecture
from bench.layers.residual import classify, conv, norm_relu, preactivated, stages

INFO = Architecture(
    paper="https://arxiv.org/abs/1603.05027",
    min_size=8,
    trainable_params={
        "32x32x3/10": 1_703_258,
        "32x32x3/100": 1_726_388,
    },
    accuracy={"cifar10": 0.9454, "cifar100": 0.7567},
    recipe={
        "epochs": 164.1025641025641,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "l2": 1e-4,
        "schedule": "multistep",
        "milestones": [0.5, 0.75],
        "warmup": 0.00625,
        "start_factor": 0.1,
        "crop_padding": 0.125,
        "flip": True,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"depth": 11},
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, depth: int = 164) -> keras.Model:
    if depth < 11 or depth % 9 != 2:
        raise ValueError(f"depth must be 9n+2 with n of at least 1 (11, 20, 29, 110, 164, 1001), got {depth}")
    inputs = keras.Input(input_shape)
    x = stages(conv(inputs, 16, 3), _bottleneck, [16, 32, 64], [depth // 9] * 3)
    return keras.Model(inputs, classify(norm_relu(x), num_classes))


def _bottleneck(x, filters, strides):
    return preactivated(x, [(filters, 1), (filters, 3), (4 * filters, 1)], strides)
