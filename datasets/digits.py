"""Handwritten digits, 1,797 images of 8x8 grey pixels, embedded in scikit-learn: no download.

Real data (the test part of UCI's "Optical Recognition of Handwritten Digits"; Alpaydin and Kaynak 1998). Its pixels
have 17 grey levels, 0 to 16, stretched here to 0 to 255. A fifth, 360 images, is the test set: a stratified split that
never changes.
"""

import numpy as np

from bench.api import Dataset, Split, Splits

INFO = Dataset(
    homepage="https://archive.ics.uci.edu/dataset/80",
    license="CC BY 4.0",
)


def load() -> Splits:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    return Splits(
        train=Split(images[train], labels[train]),
        test=Split(images[test], labels[test]),
        class_names=tuple(str(name) for name in digits.target_names),
    )
