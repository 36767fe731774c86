"""Makes photo-like JPEGs of about 500x375 pixels, and writes them as TensorFlow Datasets writes `imagenet2012`.

The pictures are smooth random fields of several scales with discs and noise: of the size, detail and file size (40 to
110 kB) of ImageNet's photographs, so that decoding them costs the same. For the benchmarks and the tests.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

NAME, VERSION = "imagenet2012", "5.1.0"
CANVAS = (480, 640)  # height and width of what the pictures are cut from
CANVASES = 64  # so many differ; the rest are other parts of them, of other quality
SIDES = ((320, 430), (440, 560))  # least and greatest height and width, before some are turned upright
QUALITIES = (86, 97)
FIELDS = ((4, 55.0), (12, 35.0), (40, 22.0), (120, 10.0))  # cells across the width, standard deviation in grey levels
NOISE = 5.0


@dataclass(frozen=True)
class Example:
    """One image as the data set stores it."""

    file_name: str
    label: int
    image: bytes


def examples(count: int, classes: int, seed: int = 0) -> Iterator[Example]:
    """Yield JPEGs of varying size. The class is a tint, the same for all seeds, so that a network can learn it."""
    random = np.random.default_rng(seed)
    tints = np.random.default_rng(classes).uniform(-40, 40, (classes, 3))
    labels = np.arange(min(count, max(CANVASES, classes))) % classes
    canvases = [np.clip(draw_canvas(random) + tints[label], 0, 255).astype(np.uint8) for label in labels]
    for number in range(count):
        chosen, quality = number % len(canvases), int(random.integers(*QUALITIES))
        image = encode(cut(canvases[chosen], random), quality=quality)
        yield Example(f"n{labels[chosen]:08d}_{seed}_{number}.JPEG", int(labels[chosen]), image)


def draw_canvas(random: np.random.Generator) -> np.ndarray:
    """Return one large picture: float32, height by width by 3, about 0 to 255."""
    height, width = CANVAS
    picture = np.full((height, width, 3), 128, np.float32)
    for cells, amplitude in FIELDS:
        coarse = random.normal(0, amplitude, (3, cells * height // width + 1, cells + 1)).astype(np.float32)
        smooth = [
            np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC)) for field in coarse
        ]
        picture += np.stack(smooth, axis=-1)
    rows, columns = np.ogrid[:height, :width]
    for _ in range(6):
        row, column, radius = random.integers(height), random.integers(width), random.integers(20, 90)
        inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        picture[inside] = 0.5 * picture[inside] + random.uniform(0, 128, 3)
    picture += random.normal(0, NOISE, (height, width, 1))
    return picture.astype(np.float32)


def cut(canvas: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a part of the canvas of random size and place; half of them mirrored, a quarter upright."""
    height, width = (int(random.integers(*sides)) for sides in SIDES)
    top, left = random.integers(CANVAS[0] - height + 1), random.integers(CANVAS[1] - width + 1)
    part = canvas[top : top + height, left : left + width]
    part = part[:, ::-1] if random.random() < 0.5 else part
    return np.ascontiguousarray(part.transpose(1, 0, 2) if random.random() < 0.25 else part)


def encode(pixels: np.ndarray, mode: str | None = None, **options: object) -> bytes:
    """Return the image's bytes: JPEG unless `format` says otherwise, converted to Pillow's `mode` first."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, **{"format": "JPEG", **options})
    return buffer.getvalue()


def write(data_dir: Path, splits: Mapping[str, Iterable[Example]], classes: int, shards: int = 4) -> Path:
    """Write the examples as TFDS itself would, and return the folder. Imports TensorFlow."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class Imagenet2012(tfds.core.GeneratorBasedBuilder):
            """The features of TFDS's own builder, with fewer classes."""

            name = NAME
            VERSION = tfds.core.Version(VERSION)

            def _info(self):
                names = [f"n{label:08d}" for label in range(classes)]
                features = {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=names),
                    "file_name": tfds.features.Text(),
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=("image", "label"),
                    homepage="https://image-net.org/",
                )

            def _split_generators(self, _):
                return {name: self._generate_examples(split) for name, split in splits.items()}

            def _generate_examples(self, split):
                for each in split:
                    yield each.file_name, {**vars(each), "image": io.BytesIO(each.image)}

    builder = Imagenet2012(data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=shards))
    return Path(builder.data_dir)
