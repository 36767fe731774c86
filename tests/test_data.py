import io
import json
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.api import Split, Splits
from bench.data import cache, network, tfds
from bench.data.augmentation import Allowed
from bench.data.cache import DataSource, find, open_splits, prepare
from bench.data.images import check_splits, decode, gather
from bench.data.pipeline import TrainingData, batches, prefetch
from bench.data.splits import divide, everything, held_out
from bench.errors import DataError, PluginError
from bench.plugins import discover
from bench.recipes import resolve_recipe

FLIPPED = Allowed(flip=True)


def quiet(*_):
    pass


@pytest.fixture
def source(plugins, tmp_path):
    """Return a function that makes a `DataSource` of a data set by its reference."""

    def make(reference="tiny_data", data_dir=tmp_path, cache_dir=tmp_path / "cache"):
        return DataSource(discover("dataset", [plugins]).choose(reference), data_dir, cache_dir)

    return make


def small_splits(count=40, classes=4, validation=None):
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    split = Split(images, np.arange(count, dtype=np.int64) % classes)
    return Splits(train=split, test=split, validation=validation, class_names=tuple("abcd"[:classes]))


class TestCache:
    def test_a_prepared_data_set_is_found_and_memory_mapped(self, source):
        assert find(source()) is None
        prepared = prepare(source(), quiet)
        assert find(source()) == prepared
        splits = open_splits(source(), prepared)
        info = prepared.info
        assert isinstance(splits.train.images, np.memmap)
        assert info.counts == {"train": 64, "test": 20}
        assert (info.image_shape, info.class_names, info.cached) == ((8, 8, 1), ("a", "b", "c", "d"), True)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_a_full_disk_is_no_fault_of_the_plugin(self, source, plugins):
        path = plugins / "datasets" / "tiny_data.py"
        fills = "    open('/dev/full', 'wb', 0).write(b'x')\n\n    def draw("
        path.write_text(path.read_text().replace("    def draw(", fills))
        with pytest.raises(DataError, match=r"tiny_data needs more room: No space left on device\. Free some, or set"):
            prepare(source(), quiet)

    def test_other_parameters_are_another_entry(self, source):
        first, second = prepare(source(), quiet), prepare(source("tiny_data:number=32"), quiet)
        assert (first.info.counts["train"], second.info.counts["train"]) == (64, 32)
        assert first.info.fingerprint != second.info.fingerprint
        assert find(source()) == first

    def test_a_changed_plugin_is_prepared_anew(self, source, plugins):
        prepare(source(), quiet)
        path = plugins / "datasets" / "tiny_data.py"
        path.write_text(path.read_text().replace("* 60", "* 50"))
        assert find(source()) is None

    def test_a_source_of_another_version_or_size_is_prepared_anew(self, plugins, source, tmp_path):
        (plugins / "datasets" / "versioned.py").write_text(
            (plugins / "datasets" / "tiny_data.py").read_text()
            + "\n\ndef version(*, data_dir):\n    return (data_dir / 'version').read_text()\n"
        )
        (tmp_path / "version").write_text("1")
        prepare(source("versioned"), quiet)
        assert find(source("versioned")) is not None
        (tmp_path / "version").write_text("2")
        assert find(source("versioned")) is None
        prepare(source("versioned"), quiet)
        assert find(source("versioned")) is not None

    def test_what_a_killed_process_left_half_done_does_not_count(self, source):
        entry = source().entry("")
        half = entry.with_name(f".{entry.name}.tmp")
        half.mkdir(parents=True)
        (half / "train_images.npy").write_bytes(b"half")
        assert find(source()) is None
        assert open_splits(source(), prepare(source(), quiet)).train.images.shape == (64, 8, 8, 1)
        assert not half.exists()

    def test_two_processes_may_prepare_the_same_at_once(self, plugins, tmp_path):
        path = plugins / "datasets" / "tiny_data.py"
        count = tmp_path / "loads"
        path.write_text(
            path.read_text().replace(
                "    def draw", f"    import time; open({str(count)!r}, 'a').write('x'); time.sleep(1)\n    def draw", 1
            )
        )
        script = f"""
from pathlib import Path
from bench.data.cache import DataSource, prepare
from bench.plugins import discover
choice = discover("dataset", [Path({str(plugins)!r})]).choose("tiny_data")
print(prepare(DataSource(choice, Path("."), Path({str(tmp_path / "shared")!r})), lambda *_: None).info.fingerprint)
"""
        started = [
            subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        printed = [process.communicate(timeout=60)[0] for process in started]
        assert printed[0] == printed[1] != ""
        assert count.read_text() == "x"  # the second one waited, and found it done

    def test_generated_data_is_described_but_not_stored(self, source):
        reference = "synthetic:number=40,size=8"
        prepared = prepare(source(reference), quiet)
        assert not prepared.info.cached
        assert [path.name for path in source(reference).entry("").iterdir()] == ["info.json"]
        assert open_splits(source(reference), prepared).train.images.shape == (40, 8, 8, 3)

    @pytest.mark.parametrize("text", [None, "", "{", "{}"])
    def test_a_damaged_entry_is_prepared_anew(self, source, text):
        info = prepare(source(), quiet).entry / "info.json"
        info.unlink() if text is None else info.write_text(text)
        assert find(source()) is None
        assert open_splits(source(), prepare(source(), quiet)).train.images.shape == (64, 8, 8, 1)

    def test_a_source_that_stays_absent_after_loading_is_an_error(self, source, plugins, monkeypatch):
        monkeypatch.setattr(network, "unreachable", lambda url: "")
        path = plugins / "datasets" / "tiny_data.py"
        path.write_text(path.read_text() + "\n\ndef version():\n    return None\n")
        with pytest.raises(DataError, match="was loaded, and yet its source says that it is not on disk"):
            prepare(source(), quiet)

    def test_generated_data_that_comes_out_differently_is_refused(self, source, plugins):
        path = plugins / "datasets" / "tiny_data.py"
        path.write_text(
            path.read_text()
            .replace("horizontal_flip=True", "cache=False")
            .replace("default_rng(seed)", "default_rng()")
        )
        prepared = prepare(source(), quiet)
        with pytest.raises(DataError, match="tiny_data gives other images than when it was prepared"):
            open_splits(source(), prepared)

    def test_data_without_a_version_is_told_apart_by_its_folder(self, source, plugins, tmp_path):
        path = plugins / "datasets" / "tiny_data.py"
        path.write_text(path.read_text().replace("size: int = 8)", "size: int = 8, data_dir)"))
        prepare(source(), quiet)
        assert find(source(data_dir=tmp_path / "elsewhere")) is None

    def test_an_unwritable_cache_is_one_clear_message(self, source, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"the data cache .* cannot be written: .* BENCH_CACHE_DIR"):
            prepare(source(cache_dir=tmp_path / "file"), quiet)

    def test_a_load_that_raises_names_the_file(self, source, plugins):
        path = plugins / "datasets" / "tiny_data.py"
        path.write_text(path.read_text().replace("    def draw", "    1 / 0\n    def draw", 1))
        with pytest.raises(PluginError, match=r"tiny_data\.py: `load` raised ZeroDivisionError"):
            prepare(source(), quiet)


class TestInterface:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"images": np.zeros((40, 4, 4, 1))}, "images must be uint8 N×H×W×C, got float64"),
            ({"images": np.zeros((40, 4, 4), np.uint8)}, "images must be uint8 N×H×W×C"),
            ({"images": np.zeros((39, 4, 4, 1), np.uint8)}, "one label an image, got 40 for 39"),
            ({"labels": np.full(40, 4)}, "labels must be 0 to 3, got 4 to 4"),
            ({"labels": np.zeros(40)}, "labels must be a one-dimensional integer array"),
            ({"images": [b"jpeg"] * 40}, "encoded images need a fingerprint, and an image_shape"),
        ],
    )
    def test_what_a_plugin_hands_over_is_checked(self, change, message):
        good = small_splits()
        split = Split(**{"images": good.train.images, "labels": good.train.labels, **change})
        splits = Splits(train=split, test=good.test, class_names=good.class_names)
        with pytest.raises(PluginError, match=message):
            check_splits(splits, "data")

    def test_a_split_must_be_one(self):
        good = small_splits()
        pair = (good.train.images, good.train.labels)
        with pytest.raises(PluginError, match=r"split train: expected bench\.api\.Split, got tuple"):
            check_splits(Splits(train=pair, test=good.test, class_names=good.class_names), "data")
        with pytest.raises(PluginError, match="class_names must be strings"):
            check_splits(Splits(train=good.train, test=good.test, class_names=(1, 2, 3, 4)), "data")

    def test_splits_of_different_shapes_are_refused(self):
        good = small_splits()
        odd = Split(np.zeros((4, 5, 5, 1), np.uint8), np.arange(4))
        with pytest.raises(PluginError, match=r"split test: images are \(5, 5, 1\), expected \(4, 4, 1\)"):
            check_splits(Splits(train=good.train, test=odd, class_names=good.class_names), "data")

    @pytest.mark.parametrize(
        ("value", "message"), [(None, "got NoneType"), (small_splits(classes=1), "two class_names")]
    )
    def test_anything_but_splits_is_refused(self, value, message):
        with pytest.raises(PluginError, match=message):
            check_splits(value, "data")


class TestEncodedImages:
    def encode(self, pixels, **options):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, **{"format": "PNG", **options})
        return buffer.getvalue()

    def test_an_image_of_the_right_size_is_decoded_exactly(self):
        pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
        np.testing.assert_array_equal(decode(self.encode(pixels), (6, 6, 3)), pixels)
        encoded = [self.encode(pixels), self.encode(pixels[::-1])]
        np.testing.assert_array_equal(gather(encoded, np.array([1, 0]), (6, 6, 3)), [pixels[::-1], pixels])

    def test_the_shorter_side_fits_and_the_centre_is_cut_out(self):
        pixels = np.zeros((4, 12, 1), np.uint8)
        pixels[:, 4:8] = 200
        assert decode(self.encode(pixels[..., 0]), (4, 4, 1)).min() == 200

    def test_bytes_that_are_no_image_are_an_error(self):
        with pytest.raises(DataError, match="an image of 7 bytes cannot be decoded"):
            decode(b"garbage", (4, 4, 3))


class TestSplits:
    def test_validation_is_stratified_seeded_and_apart(self):
        splits = small_splits(count=400)
        train, validation = divide(splits, 0.1, seed=0)
        assert len(validation) == held_out({"train": 400}, 0.1) == 40
        assert not set(train.indices) & set(validation.indices)
        assert set(train.indices) | set(validation.indices) == set(range(400))
        assert np.bincount(splits.train.labels[validation.indices]).tolist() == [10] * 4
        again, other = divide(splits, 0.1, seed=0)[1], divide(splits, 0.1, seed=1)[1]
        assert again.indices.tolist() == validation.indices.tolist() != other.indices.tolist()

    def test_the_sources_own_validation_split_is_used(self):
        own = small_splits(count=8).train
        train, validation = divide(small_splits(validation=own), 0.1, seed=0)
        assert (len(train), validation.split) == (40, own)
        assert held_out({"train": 40, "validation": 8}, 0.1) == 0

    def test_without_validation_everything_is_trained_on(self):
        train, validation = divide(small_splits(validation=small_splits(count=8).train), 0.0, seed=0)
        assert (len(train), validation) == (40, None)

    def test_too_few_images_for_all_classes_is_an_error(self):
        with pytest.raises(DataError, match="cannot be held out evenly over 4 classes"):
            divide(small_splits(count=8), 0.1, seed=0)


class TestPipeline:
    def data(self, seed=0, **overrides):
        plain = {"batch_size": 8, "crop_padding": 0.0, "flip": False, "drop_remainder": False, **overrides}
        return TrainingData(
            everything(small_splits(count=43).train), (4, 4, 1), resolve_recipe("standard", plain), FLIPPED, seed
        )

    def flat(self, blocks):
        blocks = list(blocks)
        return np.concatenate([block.inputs.reshape(-1, 4, 4, 1) for block in blocks])

    def test_an_epoch_has_every_image_once_in_another_order_each_time(self):
        first, second = (self.flat(self.data().epoch(number, 2))[:, 0, 0, 0].tolist() for number in (0, 1))
        assert sorted(first) == sorted(second) == list(range(43))
        assert first != second

    def test_the_remainder_is_dropped_on_request(self):
        assert len(self.flat(self.data(drop_remainder=True).epoch(0, 2))) == 40

    def test_labels_stay_with_their_images(self):
        for block in self.data(crop_padding=0.25, flip=True).epoch(0, 2):
            # no crop takes the whole image away, and each image is of one value
            assert (block.inputs.max(axis=(2, 3, 4)) % 4 == block.labels).all()

    def test_batches_do_not_depend_on_how_steps_are_grouped(self):
        augmented = {"crop_padding": 0.25, "flip": True}
        one = self.flat(self.data(**augmented).epoch(3, 1))
        np.testing.assert_array_equal(one, self.flat(self.data(**augmented).epoch(3, 4, first_block=1)))
        assert not np.array_equal(one, self.flat(self.data(seed=1, **augmented).epoch(3, 1)))

    def test_images_are_flipped_only_where_labels_allow_it(self):
        picture = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(64, axis=0)
        subset = everything(Split(picture, np.zeros(64, np.int64)))
        recipe = resolve_recipe("standard", {"batch_size": 64, "crop_padding": 0.0})
        for allowed, expected in ((True, 2), (False, 1)):
            block = next(TrainingData(subset, (4, 4, 1), recipe, Allowed(flip=allowed), 0).epoch(0, 1))
            assert len({image.tobytes() for image in block.inputs[0]}) == expected

    def test_a_crop_shifts_each_image_on_its_own_by_at_most_the_padding(self):
        images = np.random.default_rng(0).integers(1, 256, (200, 8, 8, 3), np.uint8)
        recipe = resolve_recipe("standard", {"batch_size": 200, "flip": False, "crop_padding": 0.125})
        data = TrainingData(everything(Split(images, np.arange(200))), (8, 8, 3), recipe, Allowed(), 0)
        block = next(data.epoch(0, 1))
        images, cropped = images[block.labels[0]], block.inputs[0]
        shifts = set()
        for before, after in zip(images, cropped, strict=True):
            padded = np.pad(before, ((1, 1), (1, 1), (0, 0)))
            found = [(i, j) for i in range(3) for j in range(3) if np.array_equal(padded[i : i + 8, j : j + 8], after)]
            assert len(found) == 1
            shifts.add(found[0])
        assert len(shifts) == 9

    def test_evaluation_sees_every_image_once_in_order(self):
        subset = everything(small_splits(count=43).train)
        seen = np.concatenate(list(prefetch(batches(subset, (4, 4, 1), 10))))
        assert seen[:, 0, 0, 0].tolist() == list(range(43))

    def test_what_goes_wrong_in_the_input_thread_is_raised(self):
        def broken():
            yield 1
            raise DataError("broken")

        items = prefetch(broken())
        assert next(items) == 1
        with pytest.raises(DataError, match="broken"):
            next(items)


class TestTfds:
    def test_reading_agrees_with_tfds_itself(self, real_data, source, cache_dir):
        import tensorflow_datasets

        splits = tfds.load("fashion_mnist", real_data, quiet)
        assert (len(splits.train), len(splits.test)) == (60_000, 10_000)
        theirs = tensorflow_datasets.builder_from_directory(real_data / "fashion_mnist" / "3.0.1")
        for index, example in enumerate(theirs.as_dataset(split="test", shuffle_files=False).take(50)):
            np.testing.assert_array_equal(splits.test.images[index], example["image"].numpy())
            assert splits.test.labels[index] == example["label"].numpy()
        assert splits.class_names[0] == "T-shirt/top"

    def test_a_truncated_file_is_found_without_reading_it(self, real_data, source, tmp_path):
        shutil.copytree(real_data / "fashion_mnist", tmp_path / "fashion_mnist")
        file = next((tmp_path / "fashion_mnist").rglob("*train*"))
        file.chmod(0o644)
        file.parent.chmod(0o755)
        with file.open("r+b") as stream:
            stream.truncate(1_000_000)
        with pytest.raises(DataError, match=r"the train split should be 1 file\(s\) of 33,\d+,\d+ bytes in all, found"):
            find(source("fashion_mnist"))

    def test_a_damaged_description_is_the_datas_fault(self, source, tmp_path):
        folder = tmp_path / "fashion_mnist" / "3.0.1"
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text('{"name": "fashion')
        with pytest.raises(DataError, match=r"dataset_info\.json is damaged .* Copy or prepare the data again"):
            find(source("fashion_mnist"))

    def test_a_preparation_that_was_cut_off_is_not_data(self, tmp_path):
        folder = tmp_path / "fashion_mnist" / "incomplete.ABC_3.0.1"
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("{}")
        assert tfds.version("fashion_mnist", tmp_path) is None
        assert tfds.on_disk(tmp_path) == []

    def test_data_that_tfds_cannot_read_is_one_message(self, real_data, tmp_path):
        shutil.copytree(real_data / "fashion_mnist", tmp_path / "fashion_mnist")
        file = next((tmp_path / "fashion_mnist").rglob("*test*"))
        file.chmod(0o644)
        content = bytearray(file.read_bytes())
        content[10_000:20_000] = bytes(10_000)  # the size stays
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"fashion_mnist cannot be read from .*: DataLossError"):
            tfds.load("fashion_mnist", tmp_path, quiet)

    def test_what_lies_on_disk_is_listed(self, real_data, tmp_path):
        assert {"cifar10", "fashion_mnist"} <= set(tfds.on_disk(real_data))
        assert tfds.on_disk(tmp_path / "nowhere") == []

    def test_absent_data_without_a_network_fails_at_once_and_says_what_to_do(self, source, tmp_path, monkeypatch):
        (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
        (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").write_text("{}")

        def hang(*_, **__):
            time.sleep(20)
            raise OSError("no answer")

        monkeypatch.setattr(network, "TIMEOUT_SECONDS", 1.0)
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        start = time.monotonic()
        with pytest.raises(DataError) as error:
            find(source("cifar10"))
        assert time.monotonic() - start < 10
        message = str(error.value)
        assert "data set cifar10 is not on disk and cannot be downloaded: tried" in message
        assert "no answer within 1 s" in message
        assert f"Copy the folder that TFDS prepared into {tmp_path}" in message
        assert "--data-dir or TFDS_DATA_DIR. On disk there: mnist." in message

    def test_data_that_is_elsewhere_is_pointed_at(self, source, tmp_path, monkeypatch):
        monkeypatch.setattr(network, "unreachable", lambda url: "no answer")
        (tmp_path / "cifar10" / "3.0.2").mkdir(parents=True)
        (tmp_path / "cifar10" / "3.0.2" / "dataset_info.json").write_text("{}")
        with pytest.raises(DataError, match=f"Did you mean --data-dir {tmp_path}[?]"):
            find(source("cifar10", data_dir=tmp_path / "cifar10"))
        entry = tmp_path / "cache" / "cifar10" / "0123"
        entry.mkdir(parents=True)
        (entry / "info.json").write_text("{}")
        (tmp_path / "other").mkdir()
        with pytest.raises(
            DataError, match="It was prepared before from another folder: name that one with --data-dir"
        ):
            find(source("cifar10", data_dir=tmp_path / "other" / "deep"))

    def test_a_host_that_answers_is_reachable(self):
        server = subprocess.Popen(
            [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            port = server.stdout.readline().split(" port ")[1].split()[0]
            assert network.unreachable(f"http://127.0.0.1:{port}/no-such-page") == ""
        finally:
            server.kill()
            server.wait()
        assert "refused" in network.unreachable(f"http://127.0.0.1:{port}/")
        assert network.unreachable("") == "its plugin names no download"

    def test_a_download_reports_its_progress(self, tmp_path):
        archive = tmp_path / "www" / "pixels.bin"
        archive.parent.mkdir()
        archive.write_bytes(bytes(range(256)) * 400)
        script = textwrap.dedent(f"""
            import functools, http.server, pathlib, threading, time
            import numpy as np
            import tensorflow_datasets
            from bench.data import tfds

            class Slow(http.server.SimpleHTTPRequestHandler):
                def copyfile(self, source, target):
                    for _ in range(4):
                        target.write(source.read(25_600)); target.flush(); time.sleep(0.6)
                def log_message(self, *_): pass

            handler = functools.partial(Slow, directory={str(archive.parent)!r})
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            URL = f"http://127.0.0.1:{{server.server_port}}/pixels.bin"

            class TinyHttp(tensorflow_datasets.core.GeneratorBasedBuilder):
                VERSION = tensorflow_datasets.core.Version("1.0.0")
                pkg_dir_path = pathlib.Path({str(tmp_path)!r})
                url_infos = {{URL: tensorflow_datasets.download.checksums.UrlInfo(
                    size=102_400, checksum="{__import__("hashlib").sha256(archive.read_bytes()).hexdigest()}",
                    filename="pixels.bin")}}
                def _info(self):
                    features = tensorflow_datasets.features
                    return self.dataset_info_from_configs(features=features.FeaturesDict({{
                        "image": features.Image(shape=(16, 16, 1)), "label": features.ClassLabel(names=["a", "b"])}}))
                def _split_generators(self, manager):
                    path = manager.download(URL)
                    return {{"train": self._generate_examples(path), "test": self._generate_examples(path)}}
                def _generate_examples(self, path):
                    pixels = np.frombuffer(pathlib.Path(path).read_bytes(), np.uint8).reshape(-1, 16, 16, 1)
                    for index, image in enumerate(pixels):
                        yield index, {{"image": image, "label": index % 2}}

            seen = []
            splits = tfds.load("tiny_http", pathlib.Path({str(tmp_path / "data")!r}), lambda *event: seen.append(event))
            events = [(done, total) for what, done, total in seen if what == "downloading tiny_http (bytes)"]
            bytes_seen = [done for done, total in events if total == 102_400]
            assert bytes_seen == sorted(bytes_seen) and bytes_seen[-1] == 102_400, seen
            assert any(0 < done < 102_400 for done in bytes_seen), seen
            assert splits.train.images.shape == (400, 16, 16, 1)
            print("downloaded", len(splits.train))
        """)
        (tmp_path / "CITATIONS.bib").write_text("")
        (tmp_path / "README.md").write_text("tiny")
        (tmp_path / "TAGS.txt").write_text("")
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "downloaded 400" in ended.stdout, ended.stderr[-3000:]


def test_the_cache_knows_its_own_format(source, tmp_path):
    made = cache.DataInfo(
        fingerprint="f",
        class_names=("a",),
        image_shape=(1, 2, 3),
        counts={"train": 1},
        channel_mean=(0.5,),
        channel_std=(0.1,),
        cached=True,
    )
    text = json.dumps(vars(made))
    assert cache.DataInfo.from_json(json.loads(text)) == made
