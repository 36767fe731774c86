"""Scikit-learn's digits."""

from benchopt import BaseDataset
from plain_trial import load_digits


class Dataset(BaseDataset):
    """The images, divided into training and test part."""

    name = "digits"

    def get_data(self):
        """Return what the objective is given."""
        return {"digits": load_digits()}
