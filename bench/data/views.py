"""Pixels of views of stored JPEGs: read, decoded, cropped, resized and mirrored by a `tf.data` pipeline.

Only the box is decoded. A box of at least the wanted size is shrunk by averaging areas, any other is resized
bilinearly. libjpeg decodes at 1/2, 1/4 or 1/8 of the size where even that leaves a box twice as large as wanted. The
pipeline keeps the order, and pixels depend on the views alone. TensorFlow is imported when the first image is asked
for, whatever the trial's backend is.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.api import ImageShape
from bench.data.decoding import upright
from bench.data.jpeg import JpegImages, Views, centre_views
from bench.errors import BackendError, DataError

SCALES = (1, 2, 4, 8)  # by which libjpeg can divide height and width while it decodes
SPARE = 2  # how many times as large as wanted a scaled box is at least: its edges move by up to a pixel of that scale
CHUNK = 32  # images that enter the pipeline together
PREFETCHED_CHUNKS, PREFETCHED_BATCHES = 2, 2
AHEAD = 4  # images in work a thread: the next ones are begun while one that takes long holds up the order


def decode_views(
    images: JpegImages, views: Iterable[Views], batch_size: int, shape: ImageShape, threads: int | None = None
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the pixels of each batch of views, in order: uint8 (batch, *shape), not to be written to.

    A few batches at most are held at a time.

    Args:
        images: where the views are to be seen.
        views: batches of `batch_size`; only the last may be smaller. They are drawn in another thread, ahead.
        batch_size: views in a batch.
        shape: height, width and channels that each view is brought to.
        threads: that decode; one a processor core unless told.

    Raises:
        BackendError: TensorFlow cannot be imported.
        DataError: an image cannot be read or decoded; names its file and record.

    """
    tf = _tensorflow()
    entered: deque[Views] = deque()  # and not come out yet
    problems: list[Exception] = []

    def chunks() -> Iterator[tuple[Any, ...]]:
        try:
            for batch in views:
                entered.append(batch)
                for part in batch.parts(CHUNK):
                    yield _inputs(images, part, shape)
        except Exception as error:  # is raised below: TensorFlow would make another kind of it, and log it at length
            problems.append(error)

    try:
        for pixels in _pipeline(chunks, batch_size, shape, threads or _cores()).as_numpy_iterator():
            if len(pixels) < len(entered[0]):
                break  # a problem has cut the views off
            entered.popleft()
            yield pixels
    except tf.errors.OpError as error:
        raise _find_damaged(images, entered[0], shape) from error
    if problems:
        raise problems[0]


def centre_batches(
    images: JpegImages, positions: npt.NDArray[np.integer], batch_size: int, shape: ImageShape
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the centre of each image, as evaluation sees it, in order; the last batch may be smaller.

    Raises:
        BackendError, DataError: as `decode_views`.

    """
    parts = (positions[start : start + batch_size] for start in range(0, len(positions), batch_size))
    views = (centre_views(images, part, shape) for part in parts)
    for pixels in decode_views(images, views, batch_size, shape):
        yield pixels.copy()


def _pipeline(chunks: Callable[[], Iterator[Any]], batch_size: int, shape: ImageShape, threads: int) -> Any:
    tf = _tensorflow()
    inputs = (tf.string, (None,)), (tf.int32, (None, 4)), (tf.int32, (None,)), (tf.bool, (None,)), (tf.bool, (None,))
    signature = tuple(tf.TensorSpec(shape_of, kind) for kind, shape_of in inputs)
    elements = tf.data.Dataset.from_generator(chunks, output_signature=signature).prefetch(PREFETCHED_CHUNKS).unbatch()
    pixels = elements.map(_make_decoder(shape), num_parallel_calls=AHEAD * threads, deterministic=True)
    options = tf.data.Options()
    options.autotune.enabled = False  # what is in flight is bounded by the numbers here
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return pixels.batch(batch_size).prefetch(PREFETCHED_BATCHES).with_options(options)


def _inputs(images: JpegImages, views: Views, shape: ImageShape) -> tuple[Any, ...]:
    """Return what the decoder takes of each view: bytes, box at its scale, source, whether it shrinks, is mirrored."""
    top_left, size = views.boxes[:, :2], views.boxes[:, 2:]
    times = (size // np.array(shape[:2])).min(axis=1)  # how many times the wanted size goes into the box
    plain = images.index["plain"][views.positions]
    source = np.maximum(np.searchsorted(SCALES, times // SPARE, side="right") - 1, 0)
    scale = np.where(plain, np.array(SCALES)[source], 1)[:, None]
    first, last = top_left // scale, -(-(top_left + size) // scale)
    boxes = np.concatenate([first, last - first], axis=1).astype(np.int32)
    source = np.where(plain, source, len(SCALES)).astype(np.int32)
    encoded = [
        images[position] if source[number] < len(SCALES) else _cut(images, position, boxes[number], shape[2])
        for number, position in enumerate(views.positions.tolist())
    ]
    return encoded, boxes, source, times >= 1, views.flipped


def _cut(images: JpegImages, position: int, box: npt.NDArray[np.int32], channels: int) -> bytes:
    """Return a box's pixels as they are, for what the pipeline's decoder does not know (PNG, CMYK, turned by EXIF)."""
    top, left, height, width = box.tolist()
    try:
        return upright(images[position], channels).crop((left, top, left + width, top + height)).tobytes()
    except OSError as error:
        raise images.damaged(position, str(error)) from error


@cache
def _make_decoder(shape: ImageShape) -> Any:
    """Return the TensorFlow function from one view's inputs to its pixels."""
    tf = _tensorflow()
    height, width, channels = shape

    def decode(encoded: Any, box: Any, scale: int) -> Any:
        return tf.io.decode_and_crop_jpeg(encoded, box, channels, ratio=scale, dct_method="INTEGER_ACCURATE")

    def as_is(encoded: Any, box: Any) -> Any:
        return tf.reshape(tf.io.decode_raw(encoded, tf.uint8), (box[2], box[3], channels))

    def view(encoded: Any, box: Any, source: Any, shrinks: Any, flipped: Any) -> Any:
        sources = [partial(decode, encoded, box, scale) for scale in SCALES] + [partial(as_is, encoded, box)]
        image = tf.switch_case(source, sources)[tf.newaxis]
        resized = tf.cond(
            shrinks,
            lambda: tf.raw_ops.ResizeArea(images=image, size=(height, width)),
            lambda: tf.raw_ops.ResizeBilinear(images=image, size=(height, width), half_pixel_centers=True),
        )
        pixels = tf.cast(resized[0] + 0.5, tf.uint8)  # rounds: there is nothing below 0
        mirrored = tf.cond(flipped, lambda: tf.reverse(pixels, [1]), lambda: pixels)
        return tf.ensure_shape(mirrored, shape)

    return tf.function(view, autograph=False)


def _find_damaged(images: JpegImages, views: Views, shape: ImageShape) -> DataError:
    """Return the error that names the first of these images that cannot be decoded."""
    tf = _tensorflow()
    for view in views.parts(1):
        encoded, *rest = _inputs(images, view, shape)
        try:
            _make_decoder(shape)(encoded[0], *(tf.constant(values[0]) for values in rest))
        except tf.errors.OpError:
            return images.damaged(int(view.positions[0]), f"its {len(encoded[0]):,} bytes are no whole JPEG")
    return DataError(f"a batch of images from {images.files[0].parent} cannot be decoded, but each of them can alone.")


@cache
def _tensorflow() -> Any:
    """Import TensorFlow; in a trial of another backend, its GPUs are hidden from it first: it would take their memory.

    Raises:
        BackendError: it cannot be imported.

    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise BackendError(
            f"data sets that are stored as JPEG are decoded by TensorFlow, whatever the backend is, and it cannot be "
            f"imported ({error}). Install it: pip install tensorflow"
        ) from error
    keras = sys.modules.get("keras")
    if keras is None or keras.config.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
    return tf


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
