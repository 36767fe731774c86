"""Networks whose costs torchvision publishes, written out in Keras after their papers and its figures.

They are for counting, not for training: padding is even on all sides, since it decides sizes, but nothing is said of
initialisation, epsilons or dropout. Images are 224x224x3, classes 1,000.
"""

import functools

import keras
from keras import layers, ops

from bench.measurement.cost import count_cost

IMAGE, CLASSES = (224, 224, 3), 1000


class Tokens(layers.Layer):
    """A class token before the patches, and a learned position for each (Dosovitskiy et al. 2021)."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]))
        self.position = self.add_weight(shape=(1, shape[1] + 1, shape[-1]))

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1) + self.position


class Scale(layers.Layer):
    """A factor for each channel (ConvNeXt's layer scale), the weight on the left of the product."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],))

    def call(self, x):
        return self.gamma * x


class WindowAttention(layers.Layer):
    """Attention in windows of 7x7 with relative positions (Liu et al. 2021); windows join the batch."""

    def __init__(self, heads, shift):
        super().__init__()
        self.heads, self.shift = heads, shift

    def build(self, shape):
        self.qkv, self.out = layers.Dense(3 * shape[-1]), layers.Dense(shape[-1])
        self.qkv.build(shape)
        self.out.build(shape)
        self.table = self.add_weight(shape=(13 * 13, self.heads))
        rows, columns = [[7 * [i] for i in range(7)], [list(range(7)) for _ in range(7)]]
        flat = [(r, c) for i in range(7) for r, c in zip(rows[i], columns[i], strict=True)]
        self.index = [[(r - s + 6) * 13 + c - d + 6 for s, d in flat] for r, c in flat]

    def call(self, x):
        _, size, _, channels = x.shape
        windows = size // 7
        x = ops.roll(x, (-self.shift, -self.shift), axis=(1, 2))
        x = ops.reshape(x, (-1, windows, 7, windows, 7, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 49, channels))
        qkv = ops.reshape(self.qkv(x), (-1, 49, 3, self.heads, channels // self.heads))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)))
        bias = ops.transpose(ops.take(self.table, self.index, axis=0), (2, 0, 1))
        scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) + bias)
        x = self.out(ops.reshape(ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3)), (-1, 49, channels)))
        x = ops.reshape(x, (-1, windows, windows, 7, 7, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, size, size, channels))
        return ops.roll(x, (self.shift, self.shift), axis=(1, 2))


def conv(x, filters, kernel=3, strides=1, padding=None, **options):
    padding = kernel // 2 if padding is None else padding
    if padding:
        x = layers.ZeroPadding2D(padding)(x)
    return layers.Conv2D(filters, kernel, strides, **options)(x)


def conv_bn(x, filters, kernel=3, strides=1, activation="relu", **options):
    x = layers.BatchNormalization()(conv(x, filters, kernel, strides, use_bias=False, **options))
    return layers.Activation(activation)(x) if activation else x


def depthwise_bn(x, kernel, strides, activation):
    x = layers.ZeroPadding2D(kernel // 2)(x)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(kernel, strides, use_bias=False)(x))
    return layers.Activation(activation)(x) if activation else x


def squeeze_excite(x, width, activation="relu"):
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(width, 1, activation=activation)(y)
    return layers.Multiply()([x, layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(y)])


def stem_pool(x):
    return layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))


def pooled_classes(x):
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))


def network(body):
    """Make a function that builds a model of one that maps symbolic images to logits."""

    def build(**options):
        inputs = keras.Input(IMAGE)
        return keras.Model(inputs, body(inputs, **options))

    return build


@network
def alexnet(x):
    for filters, kernel, strides, padding, pool in (
        (64, 11, 4, 2, True),
        (192, 5, 1, 2, True),
        (384, 3, 1, 1, False),
        (256, 3, 1, 1, False),
        (256, 3, 1, 1, True),
    ):
        x = conv(x, filters, kernel, strides, padding, activation="relu")
        x = layers.MaxPooling2D(3, 2)(x) if pool else x
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(4096, activation="relu")(layers.Dropout(0.5)(x))
    return layers.Dense(CLASSES)(x)


@network
def vgg16(x):
    for filters, number in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(number):
            x = conv(x, filters, activation="relu")
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(4096, activation="relu")(x)
    return layers.Dense(CLASSES)(x)


@network
def squeezenet1_1(x):
    x = conv(x, 64, 3, 2, 0, activation="relu")
    for squeeze in (16, 16, 32, 32, 48, 48, 64, 64):
        if x.shape[-1] in (64, 128, 256) and x.shape[-1] < 8 * squeeze:
            x = layers.MaxPooling2D(3, 2)(x)
        x = conv(x, squeeze, 1, activation="relu")
        x = layers.Concatenate()([conv(x, 4 * squeeze, kernel, activation="relu") for kernel in (1, 3)])
    return layers.GlobalAveragePooling2D()(conv(x, CLASSES, 1, activation="relu"))


@network
def resnet(x, numbers=(3, 4, 6, 3), bottleneck=True, groups=1, base_width=64):
    x = stem_pool(conv_bn(x, 64, 7, 2))
    for stage, number in enumerate(numbers):
        for block in range(number):
            strides = 2 if stage and not block else 1
            filters = 64 * 2**stage
            if bottleneck:
                width = filters * base_width // 64 * groups
                y = conv_bn(x, width, 1)
                y = conv_bn(y, width, 3, strides, groups=groups)
                y = conv_bn(y, 4 * filters, 1, activation=None)
            else:
                y = conv_bn(conv_bn(x, filters, 3, strides), filters, 3, activation=None)
            if x.shape != y.shape:
                x = conv_bn(x, y.shape[-1], 1, strides, activation=None)
            x = layers.ReLU()(layers.Add()([x, y]))
    return pooled_classes(x)


@network
def densenet121(x):
    x = stem_pool(conv_bn(x, 64, 7, 2))
    for stage, number in enumerate((6, 12, 24, 16)):
        if stage:
            x = conv(layers.ReLU()(layers.BatchNormalization()(x)), x.shape[-1] // 2, 1, use_bias=False)
            x = layers.AveragePooling2D(2)(x)
        for _ in range(number):
            y = conv_bn(layers.ReLU()(layers.BatchNormalization()(x)), 128, 1)
            x = layers.Concatenate()([x, conv(y, 32, 3, use_bias=False)])
    return pooled_classes(layers.ReLU()(layers.BatchNormalization()(x)))


def inverted_residual(x, expansion, filters, kernel, strides, activation, squeeze):
    y, width = x, x.shape[-1] * expansion
    if expansion > 1:
        y = conv_bn(y, width, 1, activation=activation)
    y = depthwise_bn(y, kernel, strides, activation)
    if squeeze:
        y = squeeze_excite(y, x.shape[-1] // 4, activation)
    y = conv_bn(y, filters, 1, activation=None)
    return layers.Add()([x, y]) if x.shape == y.shape else y


@network
def mobilenet_v2(x):
    x = conv_bn(x, 32, 3, 2, "relu6")
    for expansion, filters, number, strides in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for block in range(number):
            x = inverted_residual(x, expansion, filters, 3, 1 if block else strides, "relu6", squeeze=False)
    return pooled_classes(conv_bn(x, 1280, 1, activation="relu6"))


@network
def efficientnet_b0(x):
    x = conv_bn(x, 32, 3, 2, "silu")
    for expansion, kernel, strides, filters, number in (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ):
        for block in range(number):
            x = inverted_residual(x, expansion, filters, kernel, 1 if block else strides, "silu", squeeze=True)
    return pooled_classes(conv_bn(x, 1280, 1, activation="silu"))


@network
def shufflenet_v2_x1_0(x):
    x = stem_pool(conv_bn(x, 24, 3, 2))
    for filters, number in ((116, 4), (232, 8), (464, 4)):
        half = filters // 2
        for block in range(number):
            strides = 1 if block else 2
            if block:
                kept, x = ops.split(x, 2, axis=-1)
            else:
                kept = conv_bn(depthwise_bn(x, 3, 2, None), half, 1)
            x = conv_bn(depthwise_bn(conv_bn(x, half, 1), 3, strides, None), half, 1)
            x = ops.stack([kept, x], axis=-1)
            x = ops.reshape(x, (-1, *x.shape[1:3], filters))
    return pooled_classes(conv_bn(x, 1024, 1))


@network
def regnet_y_400mf(x):
    x = conv_bn(x, 32, 3, 2)
    for filters, number in ((48, 1), (104, 3), (208, 6), (440, 6)):
        for block in range(number):
            strides = 1 if block else 2
            y = conv_bn(x, filters, 1)
            y = conv_bn(y, filters, 3, strides, groups=filters // 8)
            y = conv_bn(squeeze_excite(y, round(x.shape[-1] / 4)), filters, 1, activation=None)
            x = x if block else conv_bn(x, filters, 1, strides, activation=None)
            x = layers.ReLU()(layers.Add()([x, y]))
    return pooled_classes(x)


def transformer_mlp(x):
    y = layers.Dense(4 * x.shape[-1], activation="gelu")(layers.LayerNormalization()(x))
    return layers.Add()([x, layers.Dense(x.shape[-1])(y)])


@network
def vit_b_16(x):
    x = Tokens()(layers.Reshape((196, 768))(conv(x, 768, 16, 16, 0)))
    for _ in range(12):
        y = layers.LayerNormalization()(x)
        x = transformer_mlp(layers.Add()([x, layers.MultiHeadAttention(12, 64)(y, y)]))
    return layers.Dense(CLASSES)(layers.LayerNormalization()(x)[:, 0])


@network
def swin_t(x):
    x = layers.LayerNormalization()(conv(x, 96, 4, 4, 0))
    for stage, number in enumerate((2, 2, 6, 2)):
        if stage:
            x = layers.Concatenate()([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)])
            x = layers.Dense(x.shape[-1] // 2, use_bias=False)(layers.LayerNormalization()(x))
        for block in range(number):
            shift = 3 if block % 2 and x.shape[1] > 7 else 0
            x = layers.Add()([x, WindowAttention(3 * 2**stage, shift)(layers.LayerNormalization()(x))])
            x = transformer_mlp(x)
    return pooled_classes(layers.LayerNormalization()(x))


@network
def convnext_tiny(x):
    x = layers.LayerNormalization()(conv(x, 96, 4, 4, 0))
    for stage, number in enumerate((3, 3, 9, 3)):
        filters = 96 * 2**stage
        if stage:
            x = conv(layers.LayerNormalization()(x), filters, 2, 2, 0)
        for _ in range(number):
            y = layers.DepthwiseConv2D(7, padding="same")(x)
            y = layers.Dense(4 * filters, activation="gelu")(layers.LayerNormalization()(y))
            x = layers.Add()([x, Scale()(layers.Dense(filters)(y))])
    return layers.Dense(CLASSES)(layers.LayerNormalization()(layers.GlobalAveragePooling2D()(x)))


# Parameters and "GFLOPS" (10⁹ multiply-adds) that torchvision 0.29 gives with its weights, as `num_params` and `_ops`.
PUBLISHED = {
    "alexnet": (alexnet, {}, 61_100_840, 0.714),
    "vgg16": (vgg16, {}, 138_357_544, 15.47),
    "squeezenet1_1": (squeezenet1_1, {}, 1_235_496, 0.349),
    "resnet18": (resnet, {"numbers": (2, 2, 2, 2), "bottleneck": False}, 11_689_512, 1.814),
    "resnet50": (resnet, {}, 25_557_032, 4.089),
    "resnext50_32x4d": (resnet, {"groups": 32, "base_width": 4}, 25_028_904, 4.23),
    "wide_resnet50_2": (resnet, {"base_width": 128}, 68_883_240, 11.398),
    "densenet121": (densenet121, {}, 7_978_856, 2.834),
    "mobilenet_v2": (mobilenet_v2, {}, 3_504_872, 0.301),
    "efficientnet_b0": (efficientnet_b0, {}, 5_288_548, 0.386),
    "shufflenet_v2_x1_0": (shufflenet_v2_x1_0, {}, 2_278_604, 0.145),
    "regnet_y_400mf": (regnet_y_400mf, {}, 4_344_144, 0.402),
    "vit_b_16": (vit_b_16, {}, 86_567_656, 17.564),
    "swin_t": (swin_t, {}, 28_288_354, 4.491),
    "convnext_tiny": (convnext_tiny, {}, 28_589_128, 4.456),
}


@functools.cache
def published(name):
    """Count the cost of a network in the table."""
    build, options, *_ = PUBLISHED[name]
    with keras.StatelessScope(initialize_variables=False):  # shapes are enough: weights are never made
        cost = count_cost(build(**options))
    keras.backend.clear_session()  # else the next scope makes them
    return cost
