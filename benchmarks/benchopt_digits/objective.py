"""The benchopt benchmark that sweep_overhead.py compares bench with: networks on scikit-learn's digits.

It is run by sweep_overhead.py, which puts its own folder on PYTHONPATH, so that plain_trial.py can be imported.
"""

from benchopt import BaseObjective
from plain_trial import evaluate, make_model


class Objective(BaseObjective):
    """Accuracy on the test images, after one training of a fixed number of epochs."""

    name = "test accuracy"
    sampling_strategy = "run_once"

    def set_data(self, digits):
        """Keep the images."""
        self.digits = digits

    def get_objective(self):
        """Return what a solver is given."""
        return {"digits": self.digits}

    def evaluate_result(self, model):
        """Return the scores of a trained model; benchopt minimises `value`."""
        accuracy = evaluate(model, self.digits)
        return {"value": 1 - accuracy, "accuracy": accuracy}

    def get_one_result(self):
        """Return a result of the right form, for `benchopt test`."""
        model = make_model("baseline_cnn")
        model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return {"model": model}
