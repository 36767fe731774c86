"""The sides that input_pipeline.py compares: each yields batches of random resized crops of the same stored JPEGs.

The peers decode, crop, resize and mirror with Pillow, as torchvision's RandomResizedCrop and RandomHorizontalFlip do on
Pillow images (torchvision itself is not needed), and all sides give uint8. They read the images by bench's index.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.api import Split
from bench.data import tfds
from bench.data.augmentation import Allowed
from bench.data.jpeg import JpegImages
from bench.data.pipeline import TrainingData, prefetch
from bench.data.splits import Subset
from bench.recipes import resolve_recipe

AREA, RATIO, ATTEMPTS = (0.08, 1.0), (3 / 4, 4 / 3), 10
TORCH_PREFETCH = 4  # batches each worker makes ahead; its default of 2 was not faster
GRAIN_BUFFER = 4  # batches each worker makes ahead


@dataclass(frozen=True)
class Task:
    """What each side does.

    Attributes:
        data_dir: holds `imagenet2012` as TFDS stores it.
        size: height and width of the crops in pixels.
        batch_size: images in a batch.
        batches: how many there are to be; the data is passed over as often as that takes.
        workers: processes or threads of the peers.

    """

    data_dir: Path
    size: int
    batch_size: int
    batches: int
    workers: int

    @property
    def split(self) -> Split:
        """The training images."""
        shape = (self.size, self.size, 3)
        return tfds.load_jpegs("imagenet2012", self.data_dir, lambda *_: None, shape, test="validation").train


class Crops:
    """The images with their labels, cropped by Pillow each time they are asked for; as long as the task is."""

    def __init__(self, task: Task, draft: bool = False) -> None:
        self.split, self.size, self.draft = task.split, task.size, draft
        self.length = task.batches * task.batch_size

    def __len__(self) -> int:
        return self.length

    def crop(self, position: int, random: np.random.Generator) -> tuple[Image.Image, int]:
        """Return one image and its label."""
        position %= len(self.split)
        encoded = self.split.images[position]
        cropped = random_resized_crop(encoded, self.size, random, draft=self.draft)
        mirrored = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else cropped
        return mirrored, int(self.split.labels[position])


def random_resized_crop(encoded: bytes, size: int, random: np.random.Generator, draft: bool) -> Image.Image:
    """Decode an image and return a random part of it, resized with antialiasing as torchvision does.

    With `draft`, libjpeg decodes at a fraction of the size where the part is at least twice as large as wanted.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        left, top, width, height = random_part(*image.size, random)
        before = image.size
        if draft:
            image.draft("RGB", (before[0] * size // width, before[1] * size // height))
        across, down = image.size[0] / before[0], image.size[1] / before[1]
        part = image.convert("RGB").crop(
            (round(left * across), round(top * down), round((left + width) * across), round((top + height) * down))
        )
    return part.resize((size, size), Image.Resampling.BILINEAR)


def random_part(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, width and height of a random part (Szegedy et al. 2015; torchvision's RandomResizedCrop)."""
    for _ in range(ATTEMPTS):
        area = width * height * random.uniform(*AREA)
        ratio = math.exp(random.uniform(*map(math.log, RATIO)))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = random.integers(width - across + 1), random.integers(height - down + 1)
            return int(left), int(top), across, down
    side = min(width, height)  # all images here are nearly square
    return (width - side) // 2, (height - side) // 2, side, side


def bench_batches(task: Task) -> Iterator[np.ndarray]:
    """Yield bench's own batches, made as in a training: block by block, in a thread that works ahead."""
    from bench.training import steps_per_block

    shape = (task.size, task.size, 3)
    split, recipe = task.split, resolve_recipe("standard", {"batch_size": task.batch_size})
    assert isinstance(split.images, JpegImages)
    repeated = np.arange(task.batches * task.batch_size) % len(split)  # one epoch, however few images there are
    data = TrainingData(Subset(split, repeated), shape, recipe, Allowed(flip=True), seed=0)
    for block in prefetch(data.epoch(0, steps_per_block(recipe, shape, task.batches, on_gpu=False))):
        yield from block.inputs


def torch_batches(task: Task, draft: bool = False) -> Iterator[Any]:
    """Yield batches of PyTorch's DataLoader: uint8 (batch, 3, H, W), as torchvision's PILToTensor makes them."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Tensors(Dataset):
        """The crops as tensors."""

        def __init__(self) -> None:
            self.crops = Crops(task, draft)

        def __len__(self) -> int:
            return len(self.crops)

        def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
            image, label = self.crops.crop(position, np.random.default_rng(position))
            return torch.from_numpy(np.array(image)).permute(2, 0, 1), label

    loader = DataLoader(
        Tensors(),
        task.batch_size,
        shuffle=True,
        num_workers=task.workers,
        persistent_workers=True,
        prefetch_factor=TORCH_PREFETCH,
    )
    for images, _ in loader:
        yield images


def grain_batches(task: Task, processes: bool) -> Iterator[np.ndarray]:
    """Yield batches of Grain's MapDataset, made by worker processes, or by threads."""
    import grain
    from absl import flags

    flags.FLAGS(sys.argv[:1])  # Grain's worker processes read its flags
    crops = Crops(task)

    class Cropped(grain.transforms.RandomMap):
        """Crops one image."""

        def random_map(self, position: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
            image, label = crops.crop(position, rng)
            return np.array(image), label

    elements = grain.MapDataset.range(len(crops)).seed(0).shuffle().random_map(Cropped()).batch(task.batch_size)
    if processes:
        made = elements.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=GRAIN_BUFFER))
        made = made.mp_prefetch(grain.MultiprocessingOptions(task.workers, per_worker_buffer_size=GRAIN_BUFFER))
    else:
        made = elements.to_iter_dataset(grain.ReadOptions(task.workers, task.workers * GRAIN_BUFFER))
    for images, _ in made:
        yield images


SIDES: Mapping[str, Callable[[Task], Iterator[Any]]] = {
    "bench": bench_batches,
    "torch": torch_batches,
    "grain": lambda task: grain_batches(task, processes=True),
    "torch-draft": lambda task: torch_batches(task, draft=True),
    "grain-threads": lambda task: grain_batches(task, processes=False),
}
