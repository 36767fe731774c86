"""The two halves of training speed: computing alone, on images already on the device, and making the images alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

from bench.backends.interface import Placed, Steps
from bench.data.pipeline import PREFETCHED_BLOCKS, TrainingData, prefetch

LEAST_SECONDS = 2.0
LEAST_BLOCKS = 5


def compute_images_per_second(steps: Steps, placed: Placed, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return images/s of training on one block again and again: no image is made or moved in the meantime.

    The weights change; whoever needs them as trained calls this last.
    """
    steps.train(placed).result()  # one more, to fill caches and compile what is not compiled yet
    start, blocks = clock(), 0
    waiting = None
    while blocks < LEAST_BLOCKS or clock() - start < LEAST_SECONDS:
        pending = steps.train(placed)
        if waiting is not None:
            waiting.result()
        waiting = pending
        blocks += 1
    assert waiting is not None
    waiting.result()
    return blocks * placed.block.count / (clock() - start)


def input_images_per_second(steps: Steps, data: TrainingData, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return images/s of drawing, augmenting and moving training images to the device, with nothing trained on them.

    Epoch after epoch, as training does it. The first two blocks are not counted: the thread has them ready.
    """
    blocks = (block for number in count() for block in data.epoch(number, steps.tuning.steps_per_block))
    placed = prefetch(map(steps.place, blocks))
    for _ in range(PREFETCHED_BLOCKS):
        next(placed)
    start, images, elapsed = clock(), 0, 0.0
    while elapsed < LEAST_SECONDS:
        images += next(placed).block.count
        elapsed = clock() - start
    return images / elapsed


def waiting_share(images_per_second: float | None, compute_images_per_second: float) -> float | None:
    """Return the share of training time that making and moving images costs: 0 where training is as fast as computing.

    On a CPU that is the time for which images and network compete; on a GPU, the time in which it waits. The training
    speed is the mean, which counts stalls at the start of epochs too.

    None for a training too short to have a speed.
    """
    return None if images_per_second is None else max(0.0, 1 - images_per_second / compute_images_per_second)
