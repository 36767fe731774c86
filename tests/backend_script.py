"""Run as a process on one backend: builds each architecture with given weights, and writes what it computes.

    KERAS_BACKEND=jax python -m tests.backend_script FOLDER

Where FOLDER/weights.npz does not exist, the weights are drawn and written there.
"""

import sys
from pathlib import Path

import keras
import numpy as np

from bench.data.augmentation import Allowed
from bench.data.pipeline import TrainingData
from bench.data.splits import everything
from bench.plugins import discover, load_module
from bench.recipes import resolve_recipe
from tests.stepping import make_steps
from tests.test_backends import COMPARED, EXACT, SHAPE, images_for, training_images


def main(folder):
    weights = folder / "weights.npz"
    given = dict(np.load(weights)) if weights.exists() else {}
    made, results = {}, {}
    plugins = discover("architecture").plugins
    for name, changes in COMPARED.items():
        plugin = plugins[name]
        keras.utils.set_random_seed(0)
        side = max(SHAPE[0], plugin.info.min_size)
        model = load_module(plugin).build((side, side, 3), 10, **{**plugin.parameters, **plugin.info.quick, **changes})
        if given:
            model.set_weights([given[f"{name}/{index}"] for index in range(len(model.weights))])
        made |= {f"{name}/{index}": value for index, value in enumerate(model.get_weights())}
        recipe = resolve_recipe("standard", EXACT)
        steps, _, _ = make_steps(model, recipe, total_steps=6)
        results[f"{name}/logits"] = steps.predict(images_for(side))
        data = TrainingData(everything(training_images(side)), (side, side, 3), recipe, Allowed(flip=True), 0)
        blocks = list(data.epoch(0, 3))
        results[f"{name}/losses"] = np.concatenate([steps.train(steps.place(block)).result()[0] for block in blocks])
    if not given:
        np.savez(weights, **made)
    np.savez(folder / f"{keras.backend.backend()}.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
