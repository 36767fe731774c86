"""Any network of keras.applications, from scratch or pretrained: `keras:MobileNetV2`, `keras:VGG16,weights=imagenet`.

The network comes without its top; after it follow global average pooling, dropout if wanted, and a dense layer named
`head`. So what is between the last convolution and the classes in some papers is left out: VGG's two dense layers of
4,096 units, MobileNetV3's last 1x1 convolution. Blocks, initialisation and batch norms are those of keras.applications.

The model takes pixels and does each network's own preprocessing; grey images are repeated to three channels. `size` is
what the shorter side of the images is resized to. Left at 0, it is the size that the network was trained at if it is
pretrained; from scratch, images stay as they are unless they are smaller than the network takes, which is 32 pixels for
most.

`weights` is `imagenet`, or the path of a file saved from the same network without its top. The pretrained network is
then called in inference mode, so that its batch norms keep their statistics; all its weights can be trained. `alpha` is
the width of MobileNets. docs/pretrained.md tells where the weights come from, and how to use them offline.
"""

import inspect
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import keras
from filelock import FileLock
from keras import applications, layers

from bench.api import Architecture
from bench.data.network import unreachable
from bench.errors import DataError, unknown_name
from bench.layers.applications import InferenceMode, in_colour, preprocessed, resized

INFO = Architecture(
    paper="https://keras.io/api/applications/",
    min_size=8,
    argument="name",
    normalization="pixels",
    quick={"name": "MobileNet", "alpha": 0.25},
    trainable_params={  # of torchvision without its dense layers, with one of 10 classes
        "32x32x3/10:name='MobileNetV2',alpha=1.0": 2_236_682,
        "32x32x3/10:name='DenseNet121',alpha=1.0": 6_964_106,
        "32x32x3/10:name='EfficientNetB0',alpha=1.0": 4_020_358,
        "32x32x3/10:name='VGG16',alpha=1.0": 14_719_818,
    },
)

LEAST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}  # pixels; 32 for all others
TRAINED_AT = {
    **{"InceptionResNetV2": 299, "InceptionV3": 299, "Xception": 299, "NASNetLarge": 331},
    **{"EfficientNetB1": 240, "EfficientNetB2": 260, "EfficientNetB3": 300, "EfficientNetB4": 380},
    **{"EfficientNetB5": 456, "EfficientNetB6": 528, "EfficientNetB7": 600},
    **{"EfficientNetV2B1": 240, "EfficientNetV2B2": 260, "EfficientNetV2B3": 300},
    **{"EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480},
}  # pixels; 224 for all others


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    name: str = "",
    weights: str = "",
    size: int = 0,
    alpha: float = 1.0,
    dropout: float = 0.0,
) -> keras.Model:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be from 0 to below 1, got {dropout}.")
    application = _application(name)
    inputs = keras.Input(input_shape)
    x = resized(in_colour(inputs), _side(name, input_shape, weights, size))
    x = preprocessed(x, getattr(applications, application.__module__.rpartition(".")[2]).preprocess_input)
    backbone = _backbone(application, tuple(x.shape[1:]), weights, _width(application, alpha))
    x = InferenceMode(backbone)(x) if weights else backbone(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="head")(x))


def _application(name):
    known = {key: value for key, value in vars(applications).items() if inspect.isfunction(value)}
    if name not in known:
        raise unknown_name("network of keras.applications", name, known)
    return known[name]


def _side(name, input_shape, weights, size):
    least = LEAST.get(name, 32)
    if size and size < least:
        raise ValueError(f"size must be at least {least} pixels for {name}, got {size}; 0 leaves it to the network.")
    return size or (TRAINED_AT.get(name, 224) if weights else max(least, min(input_shape[:2])))


def _width(application, alpha):
    if alpha == 1.0:
        return {}
    if "alpha" not in inspect.signature(application).parameters or alpha <= 0:
        raise ValueError(f"alpha, the width, must be above 0, and 1.0 for all but MobileNets; got {alpha}.")
    return {"alpha": alpha}


def _backbone(application, shape, weights, options):
    options = {"include_top": False, "pooling": "avg", "input_shape": shape, **options}
    if not weights:
        return application(weights=None, **options)
    if weights == "imagenet":
        with _careful_downloads():
            return application(weights="imagenet", **options)
    path, name = Path(weights).expanduser(), application.__name__
    if not path.is_file():
        raise ValueError(f"weights must be imagenet or the path of a file, and there is no file {str(path)!r}.")
    if name.startswith("EfficientNetB") and not path.name.endswith(".weights.h5"):
        raise ValueError(
            f"{path}: for Keras's own files of {name} the network differs by a scaling of its input, which it has with "
            "weights=imagenet alone. Put the file into ~/.keras/models and say that; or give one that ends in "
            ".weights.h5, saved from this network."
        )
    try:
        return application(weights=str(path), **options)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} does not hold the weights of {name}(include_top=False) with these parameters: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error


@contextmanager
def _careful_downloads():
    """Have Keras fetch a file only where its host answers, and one process alone at a time."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    files = sys.modules[keras.utils.get_file.__module__]
    fetch = files.get_file

    def get_file(fname, origin, *, cache_subdir="models", **options):
        path = home / cache_subdir / fname
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            reason = "" if path.exists() else unreachable(origin)
            try:
                if not reason:
                    return fetch(fname, origin, cache_dir=str(home), cache_subdir=cache_subdir, **options)
            except Exception as error:  # Keras raises Exception itself
                reason = str(error)
        raise DataError(
            f"the weights are not at {path}, and {origin} cannot be downloaded: {reason}. Download that file where "
            "there is a network, put it there (KERAS_HOME names another folder than ~/.keras), and run this again with "
            "--retry-failed; or leave `weights` away to train from scratch."
        )

    with mock.patch.object(files, "get_file", get_file):
        yield
