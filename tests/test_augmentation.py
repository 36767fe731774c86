"""Augmentation against references in plain NumPy; what is drawn, and that host and device agree to the bit."""

import hashlib
import os
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from bench.api import Dataset, Split
from bench.backends.interface import Normalization, Objective, Task, cross_entropy
from bench.backends.pictures import Pictures, drawn, mixed, mixed_cross_entropy
from bench.data.augmentation import Allowed, needs_host, weighted_views
from bench.data.draws import Moment
from bench.data.jpeg import draw_boxes
from bench.data.pipeline import TrainingData
from bench.data.randaugment import OPERATIONS, operations_for, rand_augment
from bench.data.splits import everything
from bench.errors import DataError
from bench.recipes.recipe import make_recipe

SHAPE = (8, 12, 3)
ANY = Allowed(flip=True)
PLAIN = {"epochs": 1.0, "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 16, "drop_remainder": False}
MOVING = {"shear_x", "shear_y", "translate_x", "translate_y"}
EVERYTHING = {
    "crop_padding": 0.25,
    "crop_fill": "reflect",
    "flip": True,
    "resized_crop": 0.3,
    "rand_augment": 2,
    "cutout": 0.5,
    "mixup": 0.2,
    "cutmix": 1.0,
}


def recipe(**keys):
    return make_recipe("tested", {**PLAIN, **keys}, "tested")


def pictures(count=100, shape=SHAPE):
    return np.random.default_rng(5).integers(0, 256, (count, *shape), np.uint8)


def training(images=None, *, allowed=ANY, seed=7, resident=False, mean=(0.25, 0.5, 0.75), **keys):
    images = pictures() if images is None else images
    split = Split(images, np.arange(len(images)))
    return TrainingData(everything(split), images.shape[1:], recipe(**keys), allowed, seed, resident, mean)


def epoch(number=0, images=None, together=4, **keys):
    """Return an epoch's images and the number of each one."""
    blocks = list(training(images, **keys).epoch(number, together))
    shape = blocks[0].inputs.shape[2:]
    return (
        np.concatenate([block.inputs.reshape(-1, *shape) for block in blocks]),
        np.concatenate([block.labels.ravel() for block in blocks]),
    )


def mixes(number=0, together=4, **keys):
    """Return an epoch's shares, boxes and partners."""
    blocks = list(training(**keys).epoch(number, together))
    arrays = zip(*(block.mix.arrays() for block in blocks), strict=True)
    return [np.concatenate([each.reshape(-1, *each.shape[2:]) for each in array]) for array in arrays]


def same_numbers(count, side=32):
    """Images of one value each: where each pixel comes from cannot be mistaken."""
    return np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None] * np.ones((1, side, side, 1), np.uint8)


class TestOldDraws:
    """Trainings of before still see the same images: digests of what was drawn when shifts and mirroring were all."""

    @pytest.mark.parametrize(
        ("keys", "digest"),
        [
            ({"crop_padding": 0.125, "flip": True}, "b092507386de11b8"),
            ({"flip": True}, "30861c7cdc0be523"),
            ({"crop_padding": 0.125}, "fe8f5cb98e3d36b4"),
        ],
    )
    def test_shifts_and_mirroring_are_drawn_as_ever(self, keys, digest):
        split = Split(pictures(), np.arange(100) % 4)
        found = hashlib.sha256()
        for block in TrainingData(everything(split), SHAPE, recipe(**keys), ANY, 7).epoch(3, 4):
            found.update(block.inputs.tobytes())
            found.update(block.labels.tobytes())
        assert found.hexdigest()[:16] == digest

    @pytest.mark.parametrize(("least", "digest"), [(0.08, "8bf25ef453860bbb"), (0.0, "262159cf37859273")])
    def test_parts_of_stored_images_are_drawn_as_ever(self, least, digest):
        sizes = np.random.default_rng(1).integers(20, 400, (50, 2))
        random = Moment(7, 3, 2).random(1)
        boxes = draw_boxes(SimpleNamespace(sizes=lambda _: sizes), np.arange(50), (32, 32, 3), random, least)
        flipped = random.random(50) < 0.5
        assert hashlib.sha256(boxes.tobytes() + flipped.tobytes()).hexdigest()[:16] == digest


class TestDraws:
    def test_they_do_not_depend_on_how_steps_are_grouped(self):
        for one, other in ((1, 4), (1, 6)):
            for first, second in zip(
                (*epoch(3, together=one, **EVERYTHING), *mixes(3, one, **EVERYTHING)),
                (*epoch(3, together=other, **EVERYTHING), *mixes(3, other, **EVERYTHING)),
                strict=True,
            ):
                np.testing.assert_array_equal(first, second)

    def test_an_epoch_that_is_continued_goes_on_as_it_would_have(self):
        whole = list(training(**EVERYTHING).epoch(1, 1))[3:]
        rest = list(training(**EVERYTHING).epoch(1, 1, start=3))
        assert len(rest) == len(whole) == 4
        for one, other in zip(whole, rest, strict=True):
            np.testing.assert_array_equal(one.inputs, other.inputs)
            np.testing.assert_array_equal(one.mix.box, other.mix.box)

    @pytest.mark.parametrize("key", ["crop_padding", "flip", "resized_crop", "rand_augment", "cutout"])
    def test_seed_and_epoch_change_what_is_drawn(self, key):
        images = np.tile(pictures(1), (64, 1, 1, 1))
        seen = {
            epoch(number, images, seed=seed, **{key: EVERYTHING[key]})[0].tobytes()
            for number in (0, 1)
            for seed in (0, 1)
        }
        assert len(seen) == 4

    @pytest.mark.parametrize("key", ["crop_padding", "flip", "resized_crop", "rand_augment", "cutout"])
    def test_each_image_of_a_batch_has_its_own(self, key):
        images = np.tile(pictures(1), (16, 1, 1, 1))
        assert len({image.tobytes() for image in epoch(0, images, **{key: EVERYTHING[key]})[0]}) >= (
            2 if key == "flip" else 8
        )

    def test_one_augmentation_leaves_the_draws_of_others_alone(self):
        """Where a square was not blanked, the image is as it is without cutout; mixing changes no image of a block."""
        keys = {"crop_padding": 0.25, "flip": True, "rand_augment": 1}
        plain, _ = epoch(2, **keys)
        holed, _ = epoch(2, cutout=0.25, mixup=1.0, **keys)
        changed = (plain != holed).any(axis=-1).sum(axis=(1, 2))
        assert 0 < changed.max() <= 4

    def test_what_a_data_set_does_not_allow_is_not_drawn(self):
        everything_geometric = {key: EVERYTHING[key] for key in ("crop_padding", "flip", "resized_crop", "cutout")}
        images, order = epoch(1, allowed=Allowed(flip=False, crop=False), **everything_geometric)
        np.testing.assert_array_equal(images, pictures()[order])
        block = next(training(allowed=Allowed(crop=False), mixup=1.0, cutmix=1.0).epoch(0, 4))
        assert not block.mix.box.any()  # nothing but mixup
        assert next(training(allowed=Allowed(crop=False), cutmix=1.0).epoch(0, 4)).mix is None

    def test_digits_are_shifted_but_never_mirrored(self):
        """A ramp that rises to the right still does, however it was moved: mirrored it would fall."""
        ramp = np.tile(np.arange(10, 90, 10, dtype=np.uint8)[None, :, None], (64, 8, 1, 1))
        digits = Allowed.by(Dataset())
        for keys in ({"flip": True}, {"flip": True, "flip_alternates": True}):
            images, _ = epoch(1, ramp, allowed=digits, crop_padding=0.125, mean=(), **keys)
            assert (np.diff(images[:, 2, 1:-1, 0].astype(int)) > 0).all()
            assert len({image.tobytes() for image in images}) > 1
        assert Allowed.by(Dataset(horizontal_flip=True, crop=False, recolor=False)) == Allowed(True, False, False)

    def test_images_stay_on_the_host_where_only_it_can_augment_them(self):
        device = {"crop_padding": 0.1, "crop_fill": "reflect", "flip": True, "cutout": 0.2, "mixup": 1.0, "cutmix": 1.0}
        assert not needs_host(recipe(**device))
        assert needs_host(recipe(rand_augment=1))
        assert needs_host(recipe(resized_crop=0.5))

    @pytest.mark.parametrize("key", ["rand_augment", "resized_crop"])
    def test_images_that_pillow_does_not_know_are_refused(self, key):
        message = "rand_augment and resized_crop work on images of 1 or 3 channels, and these have 4. Switch them off"
        with pytest.raises(DataError, match=message):
            epoch(0, pictures(shape=(4, 4, 4)), mean=(), **{key: EVERYTHING[key]})


class TestReflection:
    def test_a_shift_is_a_crop_of_the_reflected_image(self):
        images, order = epoch(0, crop_padding=0.25, crop_fill="reflect")
        shifts = set()
        for before, after in zip(pictures()[order], images, strict=True):
            padded = np.pad(before, ((2, 2), (3, 3), (0, 0)), mode="reflect")
            places = [(i, j) for i in range(5) for j in range(7)]
            found = [(i, j) for i, j in places if np.array_equal(padded[i : i + 8, j : j + 12], after)]
            assert len(found) == 1
            shifts.add(found[0])
        assert len(shifts) > 25  # of 35

    def test_it_goes_no_further_than_the_image(self):
        for shape in ((1, 3, 1), (2, 2, 1)):
            images, _ = epoch(0, pictures(50, shape) | 1, crop_padding=0.9, crop_fill="reflect", mean=())
            assert images.min() > 0


class TestAlternatingFlip:
    def mirrored(self, number, seed=7):
        images, order = epoch(number, seed=seed, flip=True, flip_alternates=True)
        plain = pictures()[order]
        flipped = (images == plain[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (flipped ^ (images == plain).all(axis=(1, 2, 3))).all()
        return flipped[np.argsort(order)]

    def test_the_first_epoch_is_random_and_each_one_the_opposite_of_the_one_before(self):
        first = self.mirrored(0)
        assert 30 < first.sum() < 70
        for number in (1, 2, 3, 4):
            np.testing.assert_array_equal(self.mirrored(number), first ^ bool(number % 2))
        assert (self.mirrored(0, seed=8) != first).any()


class TestCutout:
    def test_a_square_anywhere_is_the_mean_pixel_as_far_as_it_lies_within(self):
        plain = np.zeros((2_000, 8, 12, 3), np.uint8)
        images, _ = epoch(0, plain, cutout=0.5, mean=(0.2, 0.5, 0.8))
        inside = (images != 0).all(axis=-1)
        assert set(map(tuple, images[inside])) == {(51, 128, 204)}
        rows, columns = inside.any(axis=2), inside.any(axis=1)
        np.testing.assert_array_equal(inside, rows[:, :, None] & columns[:, None, :])  # rectangles
        for side, covered in ((8, rows), (12, columns)):
            first, last = covered.argmax(axis=1), side - covered[:, ::-1].argmax(axis=1)
            assert (covered.sum(axis=1) == last - first).all()
            edge = (first == 0) | (last == side)
            assert (last - first)[~edge].tolist() == [4] * (~edge).sum()
            assert set(last - first) == {2, 3, 4}  # the centre is a pixel of the image
            centres = np.where(first == 0, last - 2, first + 2)
            assert stats.chisquare(np.bincount(centres, minlength=side)).pvalue > 0.001

    def test_a_standardised_image_is_about_zero_there(self):
        images = pictures(64, (16, 16, 3))
        mean, std = (images / 255).mean(axis=(0, 1, 2)), (images / 255).std(axis=(0, 1, 2))
        data = training(images, cutout=1.0, mean=tuple(mean), batch_size=64)
        holed = next(data.epoch(0, 1)).inputs[0]
        normal = (holed / 255 - mean) / std
        assert np.isclose(normal, 0, atol=0.5 / 255 / std.min() + 1e-6).all(axis=(1, 2, 3)).any()


class TestResizedCrop:
    def test_it_is_a_part_of_the_image_resized_bilinearly(self):
        """Of an image that is linear in both directions a part is linear, too: its slopes tell its size and place."""
        down, right = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
        image = np.stack([down * 8, right * 8, 0 * down], axis=-1).astype(np.uint8)
        images, _ = epoch(0, np.tile(image, (500, 1, 1, 1)), resized_crop=0.25)
        sides, corners = [], []
        for values in (images[:, 4:-4, :, 0].mean(axis=2), images[:, :, 4:-4, 1].mean(axis=1)):
            slope = np.polyfit(np.arange(24), values.T, 1)
            sides.append(slope[0] / 8 * 32)
            corners.append((slope[1] - 4 * slope[0]) / 8 + 0.5 - 0.5 * slope[0] / 8)
        (height, width), (top, left) = sides, corners
        area, ratio = height * width / 32**2, width / height
        assert 0.22 < area.min() < 0.32
        assert 0.9 < area.max() < 1.05
        assert 0.7 < ratio.min() < 0.8
        assert 1.25 < ratio.max() < 1.43
        assert min(top.min(), left.min()) > -0.6
        assert max((top + height).max(), (left + width).max()) < 32.6

    def test_its_pixels_are_those_of_bilinear_interpolation(self):
        image = pictures(1, (9, 12, 1))
        for made in epoch(0, np.tile(image, (30, 1, 1, 1)), resized_crop=0.3, mean=())[0]:
            assert min(self.differences(image[0, :, :, 0], made[:, :, 0])) <= 1

    def differences(self, image, made):
        """Yield how far the pixels are from each part of the image resized."""
        rows, columns = (
            {(a, n): weights(a, n, side) for n in range(3, side + 1) for a in range(side + 1 - n)} for side in (9, 12)
        )
        for down in rows.values():
            half = down @ image
            for across in columns.values():
                yield np.abs(half @ across.T - made).max()

    def test_the_whole_of_a_square_image_is_the_image(self):
        images = pictures(20, (16, 16, 3))
        made, order = epoch(0, images, resized_crop=1.0)
        np.testing.assert_array_equal(made, images[order])


def weights(first, count, size):
    """Weights of bilinear interpolation from `count` pixels, from `first` on, to `size`, with centres at halves."""
    centre = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    matrix = np.zeros((size, size))
    matrix[:, first : first + count] = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(count)))
    return matrix


def moved(image, rows, columns):
    """Take the pixels at these (fractional) places, the nearest ones; black beyond the edges."""
    rows, columns = np.floor(rows).astype(int), np.floor(columns).astype(int)
    height, width, _ = image.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside[..., None], image[rows.clip(0, height - 1), columns.clip(0, width - 1)], 0)


def blended(base, image, factor):
    return np.clip(base + factor * (image.astype(float) - base), 0, 255)


def grey(image):
    return image @ np.array([0.299, 0.587, 0.114]) if image.shape[2] == 3 else image[..., 0].astype(float)


def smooth(image):
    padded, (height, width, _) = image.astype(float), image.shape
    around = sum(
        (5 if (i, j) == (1, 1) else 1) * padded[i : i + height - 2, j : j + width - 2]
        for i in range(3)
        for j in range(3)
    )
    result = padded.copy()
    result[1:-1, 1:-1] = np.rint(around / 13)
    return result


def spread(image):
    low, high = image.min(axis=(0, 1), keepdims=True), image.max(axis=(0, 1), keepdims=True)
    return (image.astype(float) - low) * 255 / (high - low)


def equalized(image):
    """Histogram equalisation: a level's new value is the share of pixels below it, the highest level's set aside."""
    result = np.empty(image.shape)
    for channel in range(image.shape[2]):
        counts = np.bincount(image[..., channel].ravel(), minlength=256)
        step = (counts.sum() - counts[counts.nonzero()[0][-1]]) // 255
        below = np.concatenate([[0], np.cumsum(counts)[:-1]])
        table = np.clip((step // 2 + below) // step, 0, 255) if step else np.arange(256)
        result[..., channel] = table[image[..., channel]]
    return result


def expected(name, image, strength):
    """What an operation makes of an image (H, W, C), in NumPy."""
    height, width, _ = image.shape
    down, right = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    angle = np.radians(30 * strength)
    dy, dx = down - height / 2, right - width / 2
    mean = int(grey(image).round().mean() + 0.5)
    makers = {
        "identity": lambda: image,
        "rotate": lambda: moved(
            image,
            np.sin(angle) * dx + np.cos(angle) * dy + height / 2,
            np.cos(angle) * dx - np.sin(angle) * dy + width / 2,
        ),
        "shear_x": lambda: moved(image, down, right + 0.3 * strength * down),
        "shear_y": lambda: moved(image, down + 0.3 * strength * right, right),
        "translate_x": lambda: moved(image, down, right + int(150 / 331 * strength * width)),
        "translate_y": lambda: moved(image, down + int(150 / 331 * strength * height), right),
        "autocontrast": lambda: spread(image),
        "equalize": lambda: equalized(image),
        "solarize": lambda: np.where(image < round(256 * (1 - abs(strength))), image, 255 - image),
        "posterize": lambda: image - image % 2 ** round(4 * abs(strength)),
        "color": lambda: blended(grey(image).round()[..., None], image, 1 + 0.9 * strength),
        "contrast": lambda: blended(mean, image, 1 + 0.9 * strength),
        "brightness": lambda: blended(0, image, 1 + 0.9 * strength),
        "sharpness": lambda: blended(smooth(image), image, 1 + 0.9 * strength),
    }
    return makers[name]()


class TestRandAugment:
    @pytest.mark.parametrize("strength", [-1.0, -0.4, 0.0, 0.7, 1.0])
    @pytest.mark.parametrize("shape", [(20, 28, 3), (28, 28, 1)])
    @pytest.mark.parametrize("name", sorted(OPERATIONS))
    def test_each_operation_is_that_of_the_paper(self, name, shape, strength):
        if shape[2] == 1 and name == "color":
            assert "color" not in operations_for(1, move=True, recolor=True)
            return
        images = (30 + pictures(4, shape) * 0.7).astype(np.uint8)
        made = images.copy()
        rand_augment(made, (name,), np.zeros((4, 1), int), np.full((4, 1), strength))
        for before, after in zip(images, made, strict=True):
            difference = np.abs(expected(name, before, strength) - after)
            assert np.mean(difference > 1.5) < 0.005  # a pixel midway between two may be either of them
        if strength == 0 and name not in ("autocontrast", "equalize"):
            np.testing.assert_array_equal(made, images)

    def test_the_strongest_that_the_paper_has(self):
        white = np.full((1, 331, 331, 3), 250, np.uint8)
        for name, black in (
            ("translate_x", 150 / 331),
            ("translate_y", 150 / 331),
            ("shear_x", 0.15),
            ("shear_y", 0.15),
        ):
            for strength in (-1.0, 1.0):
                made = white.copy()
                rand_augment(made, (name,), np.zeros((1, 1), int), np.full((1, 1), strength))
                assert (made == 0).mean() == pytest.approx(black, abs=0.005)

    def test_operations_come_one_after_another(self):
        image = pictures(1, (16, 16, 3))
        names, strengths = ("posterize", "translate_x", "solarize"), np.array([[0.5, 0.5, 0.5]])
        made = image.copy()
        rand_augment(made, names, np.array([[2, 0, 1]]), strengths)
        step_by_step = image[0]
        for name in ("solarize", "posterize", "translate_x"):
            step_by_step = expected(name, step_by_step, 0.5)
        np.testing.assert_array_equal(made[0], step_by_step)

    def test_operations_and_signs_are_drawn_evenly(self):
        """Of a colour that every operation changes in its own way, a magnitude tells which one an image got."""
        image = np.zeros((1, 32, 32, 3), np.uint8)
        image[0, 8:24, 4:20] = 60, 90, 200
        image[0, 12:16, 8:12] = 130, 20, 40
        kinds = {}
        for name in OPERATIONS:
            for strength in (-0.9, 0.9):
                made = image.copy()
                rand_augment(made, (name,), np.zeros((1, 1), int), np.full((1, 1), strength))
                kinds.setdefault(made.tobytes(), []).append(name)
        seen, _ = epoch(0, np.tile(image, (5_600, 1, 1, 1)), rand_augment=1, rand_magnitude=0.9)
        counts = dict.fromkeys(kinds, 0)
        for each in seen:
            counts[each.tobytes()] += 1  # nothing else is made
        share = [len(kinds[kind]) for kind in counts]
        assert sum(share) == 28
        assert stats.chisquare(list(counts.values()), np.array(share) * 200).pvalue > 0.001

    @pytest.mark.parametrize(
        ("channels", "allowed", "missing"),
        [
            (3, Allowed(), set()),
            (1, Allowed(), {"color"}),
            (3, Allowed(recolor=False), set(OPERATIONS) - {"identity", "rotate", *MOVING}),
            (3, Allowed(crop=False), MOVING),
            (1, Allowed(crop=False, recolor=False), set(OPERATIONS) - {"identity", "rotate"}),
        ],
    )
    def test_only_what_keeps_the_label_is_drawn(self, channels, allowed, missing):
        assert len(OPERATIONS) == 14
        given = training(pictures(4, (8, 8, channels)), allowed=allowed, rand_augment=2, mean=()).how.operations
        assert set(OPERATIONS) - set(given) == missing


class TestMixing:
    def test_mixup_draws_a_share_for_each_image_and_a_partner_from_its_batch(self):
        partner, share, box = mixes(images=same_numbers(200), mean=(), batch_size=50, mixup=0.4)
        for start in range(0, 200, 50):
            assert sorted(partner[start : start + 50]) == list(range(50))
        assert not box.any()
        assert stats.kstest(share, stats.beta(0.4, 0.4).cdf).pvalue > 0.001

    def test_cutmix_shares_what_its_box_leaves(self):
        plain = np.zeros((4_000, 32, 24, 1), np.uint8)
        _, share, box = mixes(images=plain, mean=(), batch_size=50, cutmix=1.0)
        top, left, bottom, right = box.T
        assert min(top.min(), left.min()) == 0
        assert (bottom.max(), right.max()) == (32, 24)
        np.testing.assert_allclose(share, 1 - (bottom - top) * (right - left) / (32 * 24), rtol=1e-6)
        within = (top > 0) & (left > 0) & (bottom < 32) & (right < 24)
        height, width = (bottom - top)[within], (right - left)[within]
        assert np.abs(height / 32 - width / 24).max() < 2 / 24  # in the image's proportions, of even sides
        assert (bottom - top).max() > 28
        random = np.random.default_rng(0)
        for ours, theirs in zip(box.T, np.array([self.published(32, 24, random) for _ in share]).T, strict=True):
            assert stats.ks_2samp(ours, theirs).pvalue > 0.001

    def published(self, height, width, random):
        """Draw a box as the published code of CutMix does, one image at a time."""
        ratio = np.sqrt(1 - random.beta(1, 1))
        rows, columns = int(height * ratio), int(width * ratio)
        y, x = random.integers(height), random.integers(width)
        return (
            np.clip(y - rows // 2, 0, height),
            np.clip(x - columns // 2, 0, width),
            np.clip(y + rows // 2, 0, height),
            np.clip(x + columns // 2, 0, width),
        )

    def test_with_both_each_batch_has_one_of_them(self):
        _, share, box = mixes(images=np.zeros((6_400, 8, 8, 1), np.uint8), mean=(), mixup=1.0, cutmix=1.0)
        cut = box.any(axis=1).reshape(-1, 16).mean(axis=1)
        assert set(cut > 0) == {True, False}
        assert (cut[cut > 0] > 0.5).all()  # a small box may be empty
        assert stats.binomtest(int((cut > 0).sum()), 400).pvalue > 0.001
        assert len(np.unique(share)) > 3_000

    def test_seed_epoch_and_step_decide(self):
        keys = {"mixup": 1.0, "cutmix": 1.0}
        first = mixes(**keys)[1]
        np.testing.assert_array_equal(first, mixes(**keys, resident=True)[1])
        assert not np.array_equal(first, mixes(1, **keys)[1])
        assert not np.array_equal(first, mixes(**keys, seed=1)[1])

    @pytest.mark.parametrize("keys", [{"mixup": 1.0}, {"cutmix": 1.0}])
    @pytest.mark.parametrize("resident", [True, False])
    def test_the_step_mixes_normalised_images_as_numpy_does(self, keys, resident):
        data = training(flip=True, crop_padding=0.25, cutout=0.25, resident=resident, **keys)
        scale, offset = (0.01, 0.02, 0.03), (-1.0, 0.0, 1.0)
        task = Task(SHAPE, Normalization(scale, offset), Objective(), data.residents())
        block = next(data.epoch(0, 4))
        plain = next(training(flip=True, crop_padding=0.25, cutout=0.25).epoch(0, 4)).inputs
        for step, (partner, share, box) in enumerate(zip(*block.mix.arrays(), strict=True)):
            arrays = block.inputs.arrays() if resident else ()
            inputs = tuple(tensor(each[step]) for each in arrays) if resident else tensor(block.inputs[step])
            images = tensor(data.subset.split.images) if resident else None
            made = numpy(Pictures(task)(images, inputs, tuple(map(tensor, (partner, share, box)))))
            normal = plain[step] * np.array(scale) + np.array(offset)
            for index, image in enumerate(made):
                other = normal[partner[index]]
                if "mixup" in keys:
                    due = share[index] * normal[index] + (1 - share[index]) * other
                else:
                    top, left, bottom, right = box[index]
                    due = normal[index].copy()
                    due[top:bottom, left:right] = other[top:bottom, left:right]
                np.testing.assert_allclose(image, due, atol=2e-6)

    def test_outside_of_the_box_a_cut_image_is_itself_to_the_bit(self):
        images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
        box = np.array([[1, 1, 3, 3], [0, 0, 0, 4]], np.int32)
        arrays = np.array([1, 0], np.int32), np.array([0.75, 1.0], np.float32), box
        made = numpy(mixed(tensor(images), *map(tensor, arrays)))
        due = images.copy()
        due[0, 1:3, 1:3] = images[1, 1:3, 1:3]
        np.testing.assert_array_equal(made, due)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_the_loss_is_that_of_the_mixed_target(self, smoothing):
        random = np.random.default_rng(0)
        logits = random.normal(size=(20, 7)).astype(np.float32)
        labels, others, share = np.arange(20) % 7, random.permutation(20) % 7, random.random(20).astype(np.float32)
        target = np.full((20, 7), smoothing / 7)
        target[np.arange(20), labels] += (1 - smoothing) * share
        target[np.arange(20), others] += (1 - smoothing) * (1 - share)
        due = -(target * log_softmax(logits.astype(np.float64), axis=1)).sum(axis=1).mean()
        arrays = logits, labels.astype(np.int32), others.astype(np.int32), share
        assert float(mixed_cross_entropy(*map(tensor, arrays), smoothing)) == pytest.approx(due, rel=1e-5)
        alone = mixed_cross_entropy(*map(tensor, (*arrays[:3], np.ones(20, np.float32))), smoothing)
        assert float(alone) == pytest.approx(float(cross_entropy(*map(tensor, arrays[:2]), smoothing)), rel=1e-6)


def tensor(array):
    return keras.ops.convert_to_tensor(array)


def numpy(value):
    return keras.ops.convert_to_numpy(value)


@pytest.mark.parametrize("shape", [(8, 12, 3), (9, 7, 1)])
@pytest.mark.parametrize(
    "keys",
    [
        {"crop_padding": 0.3, "flip": True},
        {"crop_padding": 0.3, "flip": True, "crop_fill": "reflect"},
        {"crop_padding": 0.95, "crop_fill": "reflect", "cutout": 0.4},
        {"flip": True, "flip_alternates": True, "cutout": 0.25},
        {"cutout": 1.0},
    ],
)
def test_the_device_makes_the_hosts_images_to_the_bit(keys, shape):
    images, mean = pictures(60, shape), (0.2, 0.5, 0.8)[: shape[2]]
    host, device = (training(images, mean=mean, resident=resident, **keys) for resident in (False, True))
    resident, changed = device.residents(), False
    assert host.residents() is None
    for made, drawing in zip(host.epoch(1, 2), device.epoch(1, 2), strict=True):
        np.testing.assert_array_equal(made.labels, drawing.labels)
        for step, due in enumerate(made.inputs):
            draw = [tensor(each[step]) for each in drawing.inputs.arrays()]
            np.testing.assert_array_equal(numpy(drawn(tensor(resident.images), draw, resident.how)), due)
            changed |= bool((due != images[made.labels[step]]).any())
    assert changed


class TestTestTime:
    def views(self, test_time, allowed=ANY, images=None):
        return list(weighted_views(pictures(5) if images is None else images, test_time, allowed))

    def reference(self, images):
        """The views of infer_mirror_translate in the published airbench94, with their weights."""
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        height, width = images.shape[1:3]
        shifted = [padded[:, :height, :width], padded[:, 2 : height + 2, 2 : width + 2]]
        halves = [(0.5, images), *((0.5 * 0.5, each) for each in shifted)]
        return [(weight / 2, view) for weight, each in halves for view in (each, each[:, :, ::-1])]

    def test_flip_shift_is_the_published_set_of_views(self):
        for (weight, view), (due_weight, due) in zip(
            self.views("flip_shift"), self.reference(pictures(5)), strict=True
        ):
            assert weight == due_weight
            np.testing.assert_array_equal(view, due)

    def test_flip_is_the_image_and_its_mirror_image(self):
        (one, image), (other, mirrored) = self.views("flip")
        assert (one, other) == (0.5, 0.5)
        np.testing.assert_array_equal(image, pictures(5))
        np.testing.assert_array_equal(mirrored, pictures(5)[:, :, ::-1])

    def test_none_is_the_image_alone(self):
        ((weight, image),) = self.views("none")
        assert weight == 1
        np.testing.assert_array_equal(image, pictures(5))

    @pytest.mark.parametrize(
        ("allowed", "test_time", "expected_weights"),
        [
            (Allowed(flip=False), "flip", [1.0]),
            (Allowed(flip=False), "flip_shift", [0.5, 0.25, 0.25]),
            (Allowed(flip=True, crop=False), "flip_shift", [0.5, 0.5]),
            (Allowed(flip=False, crop=False), "flip_shift", [1.0]),
        ],
    )
    def test_views_that_a_data_set_does_not_allow_are_left_out(self, allowed, test_time, expected_weights):
        views = self.views(test_time, allowed)
        assert [weight for weight, _ in views] == expected_weights
        mirror = pictures(5)[:, :, ::-1]
        assert any(np.array_equal(view, mirror) for _, view in views) == allowed.flip
