"""Keras `fit`; the parameters make the sweep's grid."""

from benchopt import BaseSolver
from plain_trial import ARCHITECTURES, train


class Solver(BaseSolver):
    """One training."""

    name = "keras"
    parameters = {  # noqa: RUF012 - benchopt reads it from the class
        "architecture": list(ARCHITECTURES),
        "seed": [0],
        "epochs": [5],
        "batch_size": [32],
    }

    def set_objective(self, digits):
        """Keep the images."""
        self.digits = digits

    def run(self, _):
        """Train."""
        self.model = train(self.digits, self.architecture, self.seed, self.epochs, self.batch_size)

    def get_result(self):
        """Return what the objective scores."""
        return {"model": self.model}
