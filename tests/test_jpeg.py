"""Images stored as JPEG: index, views, pixels, training and errors, on made data in TFDS's imagenet2012 layout."""

import dataclasses
import gc
import importlib.util
import io
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from scipy import stats

from bench.api import Split
from bench.data import tfds
from bench.data.augmentation import Allowed
from bench.data.cache import DataSource, find, open_splits, prepare
from bench.data.images import gather
from bench.data.jpeg import LEAST_AREA, Views, centre_boxes, centre_views, draw_boxes, random_boxes
from bench.data.pipeline import TrainingData, batches
from bench.data.splits import Subset, everything
from bench.data.views import decode_views
from bench.errors import DataError
from bench.plugins import discover
from bench.recipes import resolve_recipe

TRAIN, VALIDATION, CLASSES, SHARDS = 1_000, 240, 10, 4
GROWTH_BYTES = 48 * 2**20  # that ten passes over the data may add to the process's memory: less than its views take
SHAPE = (48, 48, 3)


def load_script(name):
    """Import a file of `benchmarks/`, which is no package."""
    path = Path(__file__).resolve().parent.parent / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


jpegs = load_script("jpegs")


def quiet(*_):
    pass


def photo(seed=0, height=300, width=400):
    random = np.random.default_rng(seed)
    return np.clip(jpegs.draw_canvas(random)[:height, :width], 0, 255).astype(np.uint8)


def odd_images():
    """What ImageNet has among its RGB JPEGs, and what other sets have."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    encoded = {
        "cmyk": jpegs.encode(photo(1), "CMYK", quality=95),
        "png": jpegs.encode(photo(2), format="PNG"),
        "grey": jpegs.encode(photo(3), "L", quality=95),
        "turned": jpegs.encode(photo(4), quality=95, exif=exif),
        "progressive": jpegs.encode(photo(5), quality=95, progressive=True),
        "large": jpegs.encode(np.tile(photo(6), (5, 5, 1)), quality=80),
        "tiny": jpegs.encode(photo(7, 9, 7), quality=95),
    }
    return {name: jpegs.Example(f"{name}.JPEG", label, image) for label, (name, image) in enumerate(encoded.items())}


ODD = odd_images()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS data directory with a made `imagenet2012`."""
    folder = tmp_path_factory.mktemp("tfds")
    train = [*jpegs.examples(TRAIN - len(ODD), CLASSES), *ODD.values()]
    jpegs.write(folder, {"train": train, "validation": jpegs.examples(VALIDATION, CLASSES, seed=1)}, CLASSES, SHARDS)
    yield folder
    shutil.rmtree(folder)  # 100 MB that pytest would keep


@pytest.fixture(scope="session")
def splits(data_dir):
    return tfds.load_jpegs("imagenet2012", data_dir, quiet, SHAPE, test="validation")


@pytest.fixture(scope="session")
def images(splits):
    return splits.train.images


@pytest.fixture
def copied(data_dir, tmp_path):
    """A copy of the data that a test may damage: hard links, and real copies of what is written to."""
    target = tmp_path / "data" / "imagenet2012" / "5.1.0"
    target.mkdir(parents=True)
    for path in (data_dir / "imagenet2012" / "5.1.0").iterdir():
        os.link(path, target / path.name)

    def own(name):
        path = target / name
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        return path

    return own


@pytest.fixture
def source(data_dir, tmp_path):
    def make(data_dir=data_dir, size=SHAPE[0]):
        choice = discover("dataset").choose(f"imagenet2012:size={size}")
        return DataSource(choice, data_dir, tmp_path / "cache")

    return make


def shard(split, number=0):
    return f"imagenet2012-{split}.tfrecord-{number:05d}-of-{SHARDS:05d}"


def position(images, name):
    (found,) = [place for place in range(len(images)) if images[place] == ODD[name].image]
    return found


def pixels_of(images, views, shape, **options):
    (pixels,) = decode_views(images, [views], len(views), shape, **options)
    return pixels


def plain(images, count, seed=0):
    """Positions of ordinary JPEGs."""
    odd = {position(images, name) for name in ODD}
    chosen = np.random.default_rng(seed).permutation(len(images))
    return np.array([place for place in chosen if place not in odd][:count])


class TestIndex:
    def test_every_image_and_label_is_what_tfds_reads(self, data_dir, splits):
        import tensorflow_datasets

        builder = tensorflow_datasets.builder_from_directory(data_dir / "imagenet2012" / "5.1.0")
        decoders = {"image": tensorflow_datasets.decode.SkipDecoding()}
        in_order = tensorflow_datasets.ReadConfig(interleave_cycle_length=1)
        for split, name, count in ((splits.train, "train", TRAIN), (splits.test, "validation", VALIDATION)):
            theirs = builder.as_dataset(split=name, decoders=decoders, read_config=in_order).as_numpy_iterator()
            for number, example in enumerate(theirs):
                assert split.images[number] == example["image"]
                assert split.labels[number] == example["label"]
            assert number + 1 == len(split) == len(split.images) == count
        assert splits.class_names == tuple(builder.info.features["label"].names)

    def test_sizes_are_those_of_the_upright_images(self, images):
        places = [*range(0, TRAIN, 50), *(position(images, name) for name in ODD)]
        for place, size in zip(places, images.sizes(np.array(places)).tolist(), strict=True):
            with Image.open(io.BytesIO(images[place])) as image:
                turned = image.getexif().get(0x0112, 1) == 6
                assert size == [image.height, image.width][:: -1 if turned else 1]

    def test_the_fingerprint_is_of_the_content(self, copied, splits, tmp_path):
        def load():
            return tfds.load_jpegs("imagenet2012", tmp_path / "data", quiet, SHAPE, test="validation")

        assert load().fingerprint == splits.fingerprint
        path = copied(shard("train"))
        content = bytearray(path.read_bytes())
        content[-4:] = b"\1\2\3\4"  # the checksum of the file's last record
        path.write_bytes(content)
        assert load().fingerprint != splits.fingerprint

    def test_a_truncated_or_missing_file_is_found_without_reading_it(self, copied, tmp_path):
        path = copied(shard("train", 2))
        path.write_bytes(path.read_bytes()[:1_000_000])
        with pytest.raises(
            DataError, match=r"the train split should be 4 file\(s\) of [\d,]+ bytes in all, found 4 of"
        ):
            tfds.version("imagenet2012", tmp_path / "data")
        path.unlink()
        with pytest.raises(DataError, match=r"should be 4 file\(s\) .*, found 3 of .* The copy or download broke off"):
            tfds.version("imagenet2012", tmp_path / "data")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (b"", b"\xff" * 8, r"record 0 reaches beyond the file's end"),
            (b"image", b"other", r"record 0 is no example with an image and a label"),
            (b"\xff\xd8\xff", bytes(100), r"the image of record 0 cannot be read \(cannot identify"),
            (None, b"", r".*empty"),
        ],
    )
    def test_a_damaged_file_is_named_while_it_is_indexed(self, copied, tmp_path, old, new, message):
        path = copied(shard("validation", 1))
        content = path.read_bytes()
        start = 0 if old is None else content.index(old)
        path.write_bytes(b"" if old is None else content[:start] + new + content[start + len(new) :])
        with pytest.raises(DataError, match=rf"{path.name} is damaged: {message}"):
            tfds.load_jpegs("imagenet2012", tmp_path / "data", quiet, SHAPE, test="validation")

    def test_a_split_that_is_not_there_is_an_error(self, data_dir, tmp_path):
        with pytest.raises(DataError, match=r"has no split test\. Available: train, validation"):
            tfds.load_jpegs("imagenet2012", data_dir, quiet, SHAPE)
        with pytest.raises(DataError, match=r"Copy its prepared folder to .*imagenet2012"):
            tfds.load_jpegs("imagenet2012", tmp_path, quiet, SHAPE)


class TestCache:
    def test_the_cache_keeps_an_index_and_no_pixels(self, source):
        prepared = prepare(source(), quiet)
        assert prepared.info.counts == {"train": TRAIN, "test": VALIDATION}
        assert prepared.info.image_shape == SHAPE
        assert sum(path.stat().st_size for path in prepared.entry.iterdir()) < 100 * (TRAIN + VALIDATION)
        opened = open_splits(source(), prepared)
        fresh = source().load(quiet)
        np.testing.assert_array_equal(opened.train.images.index, fresh.train.images.index)
        np.testing.assert_array_equal(opened.test.labels, fresh.test.labels)
        assert opened.train.images[7] == fresh.train.images[7]

    def test_a_moved_data_directory_is_used_where_it_is(self, source, copied, tmp_path):
        prepared = prepare(source(), quiet)
        moved = source(data_dir=tmp_path / "data")
        assert find(moved) == prepared
        assert open_splits(moved, prepared).train.images.files[0].is_relative_to(tmp_path / "data")

    def test_a_file_that_changed_since_is_an_error(self, source, copied, tmp_path):
        prepared = prepare(source(), quiet)
        path = copied(shard("train", 3))
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(DataError, match=r"00003-of-00004 is not the file that was indexed: expected [\d,]+ bytes"):
            open_splits(source(data_dir=tmp_path / "data"), prepared)


class TestBoxes:
    def test_random_boxes_follow_the_published_distribution(self):
        sizes = np.full((20_000, 2), 1_000)
        top, left, height, width = random_boxes(sizes, np.random.default_rng(0)).T
        share, ratio = height * width / 1e6, width / height
        assert (min(top.min(), left.min()) >= 0) & (max((top + height).max(), (left + width).max()) <= 1_000)
        assert 0.079 < share.min() < 0.09
        assert 3 / 4 - 0.01 < ratio.min() < ratio.max() < 4 / 3 + 0.01
        small = share < 0.5  # a larger box is drawn again where its longer side does not fit
        assert stats.kstest(share[small], stats.uniform(0.08, 0.42).cdf).pvalue > 0.001
        assert stats.kstest(np.log(ratio[small]), stats.uniform(-np.log(4 / 3), 2 * np.log(4 / 3)).cdf).pvalue > 0.001
        free = (top[small] + 0.5) / (1_001 - height[small])
        assert stats.kstest(free, stats.uniform(0, 1).cdf).pvalue > 0.001

    def test_an_image_that_no_box_fits_gives_as_much_of_its_centre_as_the_ratios_allow(self):
        sizes = np.array([[30, 3_000], [3_000, 30], [1, 1]])
        assert random_boxes(sizes, np.random.default_rng(0)).tolist() == [
            [0, 1_480, 30, 40],
            [1_480, 0, 40, 30],
            [0, 0, 1, 1],
        ]

    def test_the_centre_is_what_a_resize_to_256_and_a_cut_of_224_leave(self):
        sizes = np.array([[256, 256], [512, 1_024], [300, 200], [1, 5]])
        assert centre_boxes(sizes, (224, 224, 3)).tolist() == [
            [16, 16, 224, 224],
            [32, 288, 448, 448],
            [62, 12, 175, 175],
            [0, 2, 1, 1],
        ]
        assert centre_boxes(np.array([[100, 100]]), (32, 64, 3)).tolist() == [[28, 6, 44, 88]]


def averaging(before, after):
    """Weights of area averaging along one side."""
    edges, pixel = np.linspace(0, before, after + 1), np.arange(before)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.maximum(0, covered) * after / before


def interpolating(before, after):
    """Weights of bilinear interpolation along one side, with pixels' centres at halves."""
    centre = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    return np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(before)))


def resized(pixels, shape):
    """Resize in float64 by matrices: areas where both sides shrink or stay, else bilinear."""
    weights = averaging if min(pixels.shape[0] // shape[0], pixels.shape[1] // shape[1]) >= 1 else interpolating
    rows, columns = weights(pixels.shape[0], shape[0]), weights(pixels.shape[1], shape[1])
    return np.einsum("ya,abc,xb->yxc", rows, pixels.astype(np.float64), columns, optimize=True)


def reference(encoded, box, shape):
    """Decode with Pillow, at 1/2, 1/4 or 1/8 where that leaves a box of twice the shape; cut, and resize."""
    top, left, height, width = box
    times = min(height // shape[0], width // shape[1])
    scale = max(each for each in (1, 2, 4, 8) if each <= max(1, times // 2))
    with Image.open(io.BytesIO(encoded)) as image:
        if scale > 1:
            image.draft("RGB", (image.width // scale, image.height // scale))
        decoded = np.asarray(image.convert("RGB"))
    part = decoded[top // scale : -(-(top + height) // scale), left // scale : -(-(left + width) // scale)]
    return np.floor(resized(part, shape) + 0.5)


def draw_views(images, positions, shape, random, flip=True):
    """Draw views as training does."""
    boxes = draw_boxes(images, positions, shape, random, LEAST_AREA)
    return Views(positions, boxes, random.random(len(positions)) < (0.5 if flip else 0))


class TestPixels:
    @pytest.mark.parametrize("shape", [(224, 224, 3), (96, 128, 3), (64, 64, 3), (24, 32, 3)])
    def test_views_agree_with_decoding_cutting_and_resizing_one_after_another(self, images, shape):
        views = draw_views(images, plain(images, 40), shape, np.random.default_rng(1))
        pixels = pixels_of(images, views, shape)
        assert 0 < views.flipped.sum() < len(views)
        for made, place, box, flipped in zip(pixels, views.positions, views.boxes, views.flipped, strict=True):
            expected = reference(images[int(place)], box.tolist(), shape)
            difference = np.abs(made - (expected[:, ::-1] if flipped else expected))
            assert difference.mean() < 0.05
            # libjpeg smooths colour over neighbouring pixels, and those outside of the box were not decoded
            assert difference[4:-4, 4:-4].max() <= 2

    def test_shrinking_does_not_alias(self, images):
        """Pillow's own antialiased resize is a slightly softer filter; point-sampled bilinear is three times as far."""
        views = draw_views(images, plain(images, 60), (224, 224, 3), np.random.default_rng(2), flip=False)
        difference = []
        for made, place, (top, left, height, width) in zip(
            pixels_of(images, views, (224, 224, 3)), views.positions, views.boxes.tolist(), strict=True
        ):
            with Image.open(io.BytesIO(images[int(place)])) as image:
                cut = image.convert("RGB").crop((left, top, left + width, top + height))
            theirs = np.asarray(cut.resize((224, 224), Image.Resampling.BILINEAR), np.float64)
            difference.append(np.abs(made - theirs).mean())
        assert np.mean(difference) < 0.6

    @pytest.mark.parametrize("name", ["cmyk", "png", "grey", "turned", "progressive", "large", "tiny"])
    @pytest.mark.parametrize("shape", [(96, 96, 3), (96, 96, 1)])
    def test_any_kind_of_image_is_decoded_as_pillow_does(self, images, name, shape):
        place = position(images, name)
        views = centre_views(images, np.array([place]), shape)
        with Image.open(io.BytesIO(images[place])) as image:
            upright = image.transpose(Image.Transpose.ROTATE_270) if name == "turned" else image
            top, left, height, width = views.boxes[0].tolist()
            cut = upright.convert("L" if shape[2] == 1 else "RGB").crop((left, top, left + width, top + height))
        expected = resized(np.asarray(cut).reshape(height, width, -1), shape)
        # libjpeg has decoded the large one at 1/4, and a slightly larger part of it; its grey is not quite Pillow's
        assert np.abs(pixels_of(images, views, shape)[0] - expected).mean() < (2 if name == "large" else 1.5)

    def test_pixels_depend_on_neither_threads_nor_neighbours(self, images):
        places = np.concatenate([plain(images, 70), [position(images, name) for name in ODD]])
        views = draw_views(images, places, SHAPE, np.random.default_rng(3))
        together = pixels_of(images, views, SHAPE, threads=1)
        np.testing.assert_array_equal(together, pixels_of(images, views, SHAPE, threads=5))
        one_by_one = np.concatenate(list(decode_views(images, views.parts(1), 1, SHAPE)))
        np.testing.assert_array_equal(together, one_by_one)

    def test_evaluation_sees_the_centre_of_every_image_once_in_order(self, splits):
        subset = Subset(splits.test, np.arange(0, VALIDATION, 3))
        seen = list(batches(subset, SHAPE, 32))
        assert [len(batch) for batch in seen] == [32, 32, 16]
        for place, made in zip(subset.indices, np.concatenate(seen), strict=True):
            encoded = splits.test.images[int(place)]
            (box,) = centre_boxes(splits.test.images.sizes(np.array([place])), SHAPE).tolist()
            assert np.abs(made - reference(encoded, box, SHAPE)).mean() < 0.1
        np.testing.assert_array_equal(gather(splits.test.images, subset.indices[:40], SHAPE), np.concatenate(seen)[:40])


def pass_over(data, epochs):
    """Pass over the data, and return the memory that this process holds then, in bytes."""
    for number in epochs:
        for _ in data.epoch(number, 4):
            pass
    gc.collect()
    return psutil.Process().memory_info().rss


class TestTraining:
    def data(self, splits, seed=0, indices=None, flip=True, **overrides):
        changed = {"batch_size": 64, "drop_remainder": False, **overrides}
        subset = Subset(splits.train, np.arange(300) if indices is None else indices)
        return TrainingData(subset, SHAPE, resolve_recipe("standard", changed), Allowed(flip=flip), seed)

    def flat(self, blocks):
        blocks = list(blocks)
        images = np.concatenate([block.inputs.reshape(-1, *SHAPE) for block in blocks])
        return images, np.concatenate([block.labels.ravel() for block in blocks])

    def test_an_epoch_has_every_image_once_in_the_order_of_any_other_data(self, splits):
        data = self.data(splits, crop_padding=0.0, flip=False)
        seen, labels = self.flat(data.epoch(2, 3))
        numbers = np.arange(TRAIN, dtype=np.uint32).view(np.uint8).reshape(TRAIN, 1, 1, 4)
        others = TrainingData(
            Subset(Split(numbers, splits.train.labels), data.subset.indices),
            (1, 1, 4),
            data.recipe,
            Allowed(),
            data.seed,
        )
        order = np.concatenate([block.inputs.reshape(-1, 4) for block in others.epoch(2, 3)]).view(np.uint32)[:, 0]
        assert sorted(order) == list(range(300)) != order.tolist()
        np.testing.assert_array_equal(labels, splits.train.labels[order])
        np.testing.assert_array_equal(seen, gather(splits.train.images, order, SHAPE))

    def test_batches_do_not_depend_on_how_steps_are_grouped(self, splits):
        one = self.flat(self.data(splits).epoch(1, 1))
        for again in (self.data(splits).epoch(1, 3, first_block=1), self.data(splits).epoch(1, 32)):
            for made, expected in zip(self.flat(again), one, strict=True):
                np.testing.assert_array_equal(made, expected)
        for other in (self.data(splits).epoch(2, 1), self.data(splits, seed=1).epoch(1, 1)):
            assert not np.array_equal(self.flat(other)[0], one[0])

    def test_blocks_have_the_shapes_of_any_other_data(self, splits):
        blocks = list(self.data(splits, batch_size=50, drop_remainder=True).epoch(0, 2, first_block=1))
        assert [block.labels.shape for block in blocks] == [(1, 50), (2, 50), (2, 50), (1, 50)]
        assert all(block.inputs.shape == (*block.labels.shape, *SHAPE) for block in blocks)
        assert {(block.inputs.dtype.name, block.labels.dtype.name) for block in blocks} == {("uint8", "int32")}
        last = list(self.data(splits, batch_size=250).epoch(0, 2))[-1]
        assert last.inputs.shape == (1, 50, *SHAPE)

    def test_images_are_mirrored_only_where_labels_allow_it(self, splits):
        indices = np.full(100, 5)
        centre = gather(splits.train.images, indices[:1], SHAPE)[0]
        for allowed, expected in ((True, 2), (False, 1)):
            data = self.data(splits, indices=indices, flip=allowed, crop_padding=0.0)
            seen = {image.tobytes() for image in self.flat(data.epoch(0, 2))[0]}
            assert len(seen) == expected
            assert seen <= {centre.tobytes(), centre[:, ::-1].tobytes()}

    def test_a_random_crops_least_area_is_that_of_parts(self, splits):
        """With `crop_padding` alone it is 8 %."""
        usual, labels = self.flat(self.data(splits, crop_padding=0.125).epoch(0, 2))
        for keys in ({"crop_padding": 0.0, "resized_crop": 0.08}, {"crop_padding": 0.5}):
            np.testing.assert_array_equal(self.flat(self.data(splits, **keys).epoch(0, 2))[0], usual)
        large, _ = self.flat(self.data(splits, resized_crop=0.9).epoch(0, 2))
        assert not np.array_equal(large, usual)
        centred, same = self.flat(self.data(splits, crop_padding=0.0).epoch(0, 2))
        np.testing.assert_array_equal(labels, same)
        assert not np.array_equal(centred, large)

    def test_decoded_images_are_augmented_as_arrays_are(self, splits):
        """The same draws on the same pixels, once as stored images and once as an array of them."""
        keys = {"crop_padding": 0.0, "rand_augment": 2, "cutout": 0.25, "flip_alternates": True, "mixup": 1.0}
        stored = self.data(splits, **keys)
        decoded = Split(gather(splits.train.images, stored.subset.indices, SHAPE), splits.train.labels[:300])
        array = dataclasses.replace(stored, subset=everything(decoded))
        plain, _ = self.flat(self.data(splits, crop_padding=0.0, flip=False).epoch(1, 2))
        assert not np.array_equal(self.flat(stored.epoch(1, 2))[0], plain)
        for one, other in zip(stored.epoch(1, 2), array.epoch(1, 2), strict=True):
            np.testing.assert_array_equal(one.inputs, other.inputs)
            np.testing.assert_array_equal(one.mix.share, other.mix.share)

    def test_each_epoch_crops_anew(self, splits):
        data = self.data(splits, indices=np.full(50, 5), flip=False)
        views = np.concatenate([self.flat(data.epoch(number, 1))[0] for number in (0, 1)])
        assert len({image.tobytes() for image in views}) == 100

    def test_an_epoch_that_is_left_early_leaves_nothing_running(self, splits):
        blocks = self.data(splits, indices=np.arange(TRAIN)).epoch(0, 1)
        next(blocks)
        blocks.close()
        assert len(self.flat(self.data(splits).epoch(0, 2))[1]) == 300

    def test_memory_stays_bounded_however_often_the_data_is_passed_over(self, splits):
        data = self.data(splits, indices=np.arange(TRAIN))
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # nothing else grows in it
            before, after = (fresh.submit(pass_over, data, epochs).result() for epochs in (range(2), range(2, 12)))
        assert after - before < GROWTH_BYTES


class TestErrors:
    def opened(self, tmp_path):
        return tfds.load_jpegs("imagenet2012", tmp_path / "data", quiet, SHAPE, test="validation").test

    def test_a_damaged_image_is_named(self, copied, tmp_path):
        path = copied(shard("validation", 2))
        split = self.opened(tmp_path)
        place = int(np.flatnonzero(split.images.index["file"] == 2)[9])
        offset = int(split.images.index["offset"][place])
        content = bytearray(path.read_bytes())
        content[offset + 2 : offset + 500] = bytes(498)
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{path}, record 9: the image cannot be read \(its [\d,]+ bytes are no "):
            list(batches(everything(split), SHAPE, 32))

    def test_an_image_whose_end_is_missing_is_named(self, copied, tmp_path):
        path = copied(shard("validation", 2))
        split = self.opened(tmp_path)
        place = int(np.flatnonzero(split.images.index["file"] == 2)[9])
        split.images.index["length"][place] //= 2
        with pytest.raises(DataError, match=rf"{path}, record 9: the image cannot be read \(its [\d,]+ bytes are no "):
            list(batches(everything(split), SHAPE, 32))

    def test_a_file_that_shrinks_or_goes_away_is_named(self, copied, tmp_path):
        path = copied(shard("validation", 3))
        split = self.opened(tmp_path)
        _, second, *_ = split.images.index["offset"][split.images.index["file"] == 3].tolist()
        path.write_bytes(path.read_bytes()[: second + 100])
        with pytest.raises(DataError, match=rf"{path}, record 1: the image cannot be read \(the file has become "):
            list(batches(everything(split), SHAPE, 32))
        path.unlink()
        with pytest.raises(DataError, match=rf"{path}, record 0: the image cannot be read \(.*No such file"):
            list(batches(everything(split), SHAPE, 32))

    def test_without_tensorflow_the_message_says_what_needs_it(self, data_dir):
        script = f"""
import sys
from pathlib import Path
from bench.data import tfds
from bench.data.images import gather
from bench.errors import BackendError
sys.modules["tensorflow"] = None
images = tfds.load_jpegs("imagenet2012", Path({str(data_dir)!r}), print, (8, 8, 3), test="validation").test.images
try:
    gather(images, [0], (8, 8, 3))
except BackendError as error:
    print(error)
"""
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "are decoded by TensorFlow, whatever the backend is, and it cannot be imported" in ended.stdout, ended


class TestCommandLine:
    def test_a_trial_trains_and_is_scored(self, bench, plugins, data_dir, tmp_path, records):
        code, out, err = bench(
            *("run", "--arch", "tiny_net:units=32", "--dataset", "imagenet2012:size=32", "--data-dir", data_dir),
            *("--plugins", plugins, "--epochs", 4, "--batch-size", 32, "--results", tmp_path / "results"),
        )
        assert code == 0, out + err
        (record,) = records()
        assert record.status == "ok"
        assert record.resolved["test_images"] == VALIDATION
        assert record.resolved["training_images"] + record.resolved["validation_images"] == TRAIN
        assert record.metrics["test_accuracy"] > 2 / CLASSES  # a tint a class; guessing gives half of that

    def test_data_that_is_not_there_is_one_message(self, bench, tmp_path):
        code, _, err = bench(
            *("run", "--arch", "baseline_cnn", "--dataset", "imagenet2012", "--data-dir", tmp_path),
            *("--results", tmp_path / "results"),
        )
        assert code == 2
        assert "data set imagenet2012 is not on disk" in err
        assert f"Copy its prepared folder to {tmp_path / 'imagenet2012'}" in " ".join(err.split())
