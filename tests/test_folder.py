"""One's own images: folders as people have them, through the plugin, the cache and the command line."""

import io
import os
import shutil
import tracemalloc
import unicodedata

import numpy as np
import pytest
from PIL import Image

from bench.data.cache import DataSource, find, open_splits, prepare
from bench.data.images import fingerprint
from bench.errors import DataError, UsageError
from bench.plugins import discover, load_module

RED, BLUE, WHITE = (200, 30, 20), (20, 40, 220), (255, 255, 255)
PLUGIN = discover("dataset").plugins["folder"]


def quiet(*_):
    pass


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "pets"
    folder.mkdir()
    return folder


def load(root, **options):
    return load_module(PLUGIN).load(path=str(root), progress=quiet, **{"size": 8, **options})


def version(root):
    return load_module(PLUGIN).version(path=str(root))


def noise(seed, size=(8, 8), channels=3):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(pixels if channels == 3 else pixels[..., 0])


def fill(root, counts, start=0, channels=3):
    """Write so many different PNGs into each folder."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            noise(start, channels=channels).save(root / folder / f"{start}.png")
            start += 1
    return start


def note(splits, words):
    """Return the one note that has these words."""
    (found,) = [each for each in splits.notes if words in each]
    return found


class TestImages:
    def read(self, root, name, image, options=None, **saving):
        """Save an image as the only test image of its class, and return what the data set makes of it."""
        fill(root, {"train/a": 5, "train/b": 5, "test/b": 1})
        (root / "test" / "a").mkdir()
        image.save(root / "test" / "a" / name, **saving)
        splits = load(root, **(options or {}))
        assert not [each for each in splits.notes if "cannot be read" in each]
        (made,) = splits.test.images[splits.test.labels == 0]
        return made

    @pytest.mark.parametrize(
        ("name", "mode", "saving"),
        [
            ("x.jpg", "RGB", {"quality": 95}),
            ("x.JPEG", "RGB", {"progressive": True, "quality": 95}),
            ("x.jpg", "CMYK", {"quality": 95}),
            ("x.png", "RGB", {}),
            ("x.png", "RGBA", {}),
            ("x.png", "P", {}),
            ("x.bmp", "RGB", {}),
            ("x.gif", "P", {}),
            ("x.webp", "RGB", {"lossless": True}),
            ("x.webp", "RGBA", {"lossless": True}),
            ("x.bmp", "RGB", {"format": "PNG"}),  # named wrongly: what it holds counts
            ("x.jpg", "RGB", {"exif": b"Exif\0\0damaged"}),
            ("x.jpg", "RGB", {"format": "MPO", "save_all": True, "append_images": [Image.new("RGB", (9, 9), BLUE)]}),
        ],
    )
    def test_any_format_and_mode_becomes_rgb(self, root, name, mode, saving):
        made = self.read(root, name, Image.new("RGB", (30, 20), RED).convert(mode), **saving)
        assert made.shape == (8, 8, 3)
        np.testing.assert_allclose(made, np.broadcast_to(RED, (8, 8, 3)), atol=6)

    @pytest.mark.parametrize(("mode", "value"), [("L", 100), ("1", 255), ("LA", (100, 255)), ("I;16", 100 * 257)])
    def test_grey_of_any_depth_keeps_its_brightness(self, root, mode, value):
        made = self.read(root, "x.png", Image.new(mode, (30, 20), value))
        assert np.unique(made).tolist() == [255 if mode == "1" else 100]

    def test_sixteen_bits_are_scaled_and_not_cut_off(self, root):
        ramp = np.linspace(0, 65_535, 64).astype(np.uint16)[np.newaxis].repeat(64, axis=0)
        made = self.read(root, "x.png", Image.fromarray(ramp))
        np.testing.assert_allclose(made[0, :, 0], np.linspace(14, 241, 8), atol=3)

    @pytest.mark.parametrize(("name", "saving"), [("x.png", {}), ("x.webp", {"lossless": True, "exact": True})])
    def test_what_is_transparent_becomes_white(self, root, name, saving):
        image = Image.new("RGBA", (16, 16), (*RED, 0))
        image.paste((*BLUE, 255), (0, 0, 8, 16))
        image.paste((0, 0, 0, 128), (0, 8, 16, 16))
        made = self.read(root, name, image, **saving)
        assert made[0, 0].tolist() == list(BLUE)
        assert made[0, 7].tolist() == list(WHITE)
        np.testing.assert_allclose(made[7, 7], 127, atol=1)

    def test_a_transparent_palette_colour_becomes_white(self, root):
        image = Image.new("P", (16, 16), 0)
        image.putpalette([*RED, *BLUE])
        image.paste(1, (0, 0, 8, 16))
        made = self.read(root, "x.gif", image, transparency=0)
        assert (made[0, 0].tolist(), made[0, 7].tolist()) == (list(BLUE), list(WHITE))

    def test_an_animation_gives_its_first_frame(self, root):
        frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
        made = self.read(root, "x.gif", frames[0], save_all=True, append_images=frames[1:])
        assert (made == RED).all()

    def test_photos_are_turned_upright(self, root):
        image = Image.new("RGB", (64, 64), RED)
        image.paste(BLUE, (0, 0, 64, 32))  # blue above; "6" says: turn by 90 degrees clockwise to see it
        exif = Image.Exif()
        exif[0x0112] = 6
        made = self.read(root, "x.jpg", image, exif=exif, quality=95)
        np.testing.assert_allclose(made[4, 7], BLUE, atol=12)
        np.testing.assert_allclose(made[4, 0], RED, atol=12)

    @pytest.mark.parametrize(
        ("resize", "columns", "rows"),
        [("fit", "GGGGGGGG", "GGGGGGGG"), ("stretch", "RRRGGBBB", "GGGGGGGG"), ("pad", "RRRGGBBB", "WWWGGWWW")],
    )
    def test_the_shape_is_changed_by_the_stated_rule(self, root, resize, columns, rows):
        image = Image.new("RGB", (320, 80), (0, 255, 0))
        image.paste((255, 0, 0), (0, 0, 120, 80))
        image.paste((0, 0, 255), (200, 0, 320, 80))
        made = self.read(root, "x.png", image, {"resize": resize})
        letters = {(255, 0, 0): "R", (0, 255, 0): "G", (0, 0, 255): "B", WHITE: "W"}

        def read_line(pixels):
            return "".join(letters[tuple((pixel > 127).astype(int) * 255)] for pixel in pixels)

        assert read_line(made[3]) == columns
        assert read_line(made[:, 3 if resize != "fit" else 0])[:3] == rows[:3]

    @pytest.mark.parametrize("resize", ["fit", "stretch", "pad"])
    @pytest.mark.parametrize("size", [(1, 1), (1, 900), (3_000, 2)])
    def test_extreme_shapes_are_possible(self, root, resize, size):
        made = self.read(root, "x.png", Image.new("RGB", size, BLUE), {"resize": resize})
        assert made[3, 3].tolist() == list(BLUE)

    def test_very_large_images_are_decoded_too(self, root):
        made = self.read(root, "x.png", Image.new("L", (5_000, 4_000), 77))
        assert np.unique(made).tolist() == [77]

    @pytest.mark.parametrize("name", ["x.png", "x.jpg"])
    def test_shrinking_averages_all_pixels(self, root, name):
        board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
        made = self.read(root, name, Image.fromarray(board))
        np.testing.assert_allclose(made, 127.5, atol=2)

    def test_a_large_jpeg_comes_out_as_the_same_image_stored_losslessly(self, root, tmp_path):
        photo = noise(1, (9, 7)).resize((1_800, 1_400), Image.Resampling.BICUBIC)
        reference = tmp_path / "reference"
        made = self.read(root, "x.jpg", photo, {"size": 32}, quality=98)
        expected = self.read(reference, "x.png", photo, {"size": 32})
        assert np.abs(made.astype(int) - expected).mean() < 2


class TestChannels:
    def test_grey_images_have_one_channel_whatever_they_are_stored_as(self, root):
        fill(root, {"a": 10, "b": 10}, channels=1)
        Image.open(root / "a" / "0.png").convert("RGB").rotate(90).save(root / "a" / "rgb.jpg")
        splits = load(root)
        assert splits.train.images.shape[1:] == splits.test.images.shape[1:] == (8, 8, 1)
        assert load(root, channels=3).train.images.shape[1:] == (8, 8, 3)

    def test_one_coloured_image_makes_all_have_three(self, root):
        fill(root, {"a": 10, "b": 10}, channels=1)
        noise(99).save(root / "a" / "colour.png")
        assert load(root).train.images.shape[1:] == (8, 8, 3)
        assert load(root, channels=1).train.images.shape[1:] == (8, 8, 1)

    def test_the_pixels_are_those_of_the_files(self, root):
        fill(root, {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 3})
        splits = load(root)
        for part, split in splits.named().items():
            for name in ("a", "b"):
                files = {np.asarray(Image.open(path)).tobytes() for path in (root / part / name).iterdir()}
                made = split.images[split.labels == splits.class_names.index(name)]
                assert {image.tobytes() for image in made} == files


class TestLayouts:
    def counts(self, splits):
        return {name: len(split) for name, split in splits.named().items()}

    @pytest.mark.parametrize(
        "names",
        [
            ("train", "test", "val"),
            ("Training", "TEST", "Valid"),
            ("train", "testing", "validation"),
            ("training_set", "test-set", "val images"),
        ],
    )
    def test_parts_may_be_folders(self, root, names):
        train, test, val = names
        fill(root, {f"{train}/a": 6, f"{train}/b": 7, f"{test}/a": 2, f"{test}/b": 2, f"{val}/a": 1, f"{val}/b": 2})
        splits = load(root)
        assert self.counts(splits) == {"train": 13, "test": 4, "validation": 3}
        assert splits.class_names == ("a", "b")
        assert not [each for each in splits.notes if "chosen by a hash" in each]

    def test_without_a_test_folder_a_fifth_of_train_is_taken(self, root):
        fill(root, {"train/a": 100, "train/b": 100, "val/a": 5, "val/b": 5})
        splits = load(root)
        assert self.counts(splits) == {"train": 200 - len(splits.test), "test": len(splits.test), "validation": 10}
        assert 20 < len(splits.test) < 60
        assert f"{len(splits.test)} of 210 images" in note(splits, "no folder test with classes")

    def test_a_class_may_be_named_train(self, root):
        fill(root, {"train": 8, "bus": 8, "car": 8})
        assert load(root).class_names == ("bus", "car", "train")

    def test_images_are_found_at_any_depth_and_names_may_be_anything(self, root):
        fill(root, {"a b/x/y": 3, "a b": 3, "ägypten 🐈": 3, "ägypten 🐈/-deep": 3, "a.jpg": 6})
        noise(50).save(root / "a b" / "日本 语\n.png")
        splits = load(root)
        assert splits.class_names == ("a b", "a.jpg", "ägypten 🐈")
        assert np.bincount(np.concatenate([splits.train.labels, splits.test.labels])).tolist() == [7, 6, 6]

    def test_names_that_differ_in_case_are_two_classes(self, root):
        fill(root, {"Cat": 6, "dog": 6})
        if (root / "cat").exists():
            pytest.skip("this file system does not tell them apart")
        fill(root, {"cat": 6}, start=50)
        splits = load(root)
        assert splits.class_names == ("Cat", "cat", "dog")
        assert "'Cat' and 'cat'" in note(splits, "names differ in case or spaces alone")

    def test_names_that_are_no_utf8_can_be_used(self, root):
        fill(root, {"a": 6})
        folder = root / os.fsdecode(b"b\xff")
        folder.mkdir()
        for index in range(6):
            noise(100 + index).save(folder / f"{index}{os.fsdecode(bytes([254]))}.png")
        splits = load(root)
        assert splits.class_names == ("a", "b\\xff")
        assert fingerprint(splits)

    def test_a_name_means_one_class_however_its_accents_are_written(self, root):
        for form in ("NFC", "NFD"):
            part = "train" if form == "NFC" else "test"
            fill(
                root, {f"{part}/{unicodedata.normalize(form, 'é')}": 6, f"{part}/b": 6}, start=len(form) + ord(form[2])
            )
        assert load(root).class_names == ("b", "é")

    def test_links_are_followed_but_not_in_circles(self, root, tmp_path):
        fill(tmp_path, {"elsewhere": 4})
        fill(root, {"a": 5, "b": 5}, start=10)
        (root / "a" / "more").symlink_to(tmp_path / "elsewhere")
        (root / "a" / "again").symlink_to(tmp_path / "elsewhere")
        (root / "a" / "up").symlink_to("..")
        (root / "b" / "self").symlink_to(".")
        (root / "b" / "loop").symlink_to("loop")
        splits = load(root)
        assert np.bincount(np.concatenate([splits.train.labels, splits.test.labels])).tolist() == [9, 5]

    def test_the_folder_itself_may_be_linked_and_relative_and_at_home(self, root, tmp_path, monkeypatch):
        fill(root, {"a": 6, "b": 6})
        (tmp_path / "link").symlink_to(root)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert version(root) == version("link") == version("pets") == version("~/pets") == version("./pets/../pets/")


class TestSplit:
    def test_a_fifth_of_each_class_becomes_test_images(self, root):
        fill(root, {"a": 300, "b": 200})
        splits = load(root)
        assert splits.test.labels.tolist().count(0) == pytest.approx(60, abs=25)
        assert splits.test.labels.tolist().count(1) == pytest.approx(40, abs=20)
        assert not {image.tobytes() for image in splits.test.images} & {
            image.tobytes() for image in splits.train.images
        }
        fewer = load(root, test_fraction=0.05)
        assert {image.tobytes() for image in fewer.test.images} < {image.tobytes() for image in splits.test.images}

    def test_added_files_move_no_others(self, root):
        end = fill(root, {"a": 60, "b": 60})
        before = load(root)
        fill(root, {"a": 60, "c": 60}, start=end)
        after = load(root)
        for part in ("train", "test"):
            old, new = ({image.tobytes() for image in splits.named()[part].images} for splits in (before, after))
            assert old < new

    def test_names_do_not_matter(self, root):
        fill(root, {"a": 30, "b": 30})
        before = fingerprint(load(root))
        (root / "a" / "0.png").rename(root / "a" / "zzz.png")
        (root / "a" / "deep").mkdir()
        (root / "a" / "1.png").rename(root / "a" / "deep" / "1.png")
        moved = root.rename(root.with_name("moved"))
        assert fingerprint(load(moved)) == before

    def test_every_class_has_training_and_test_images(self, root):
        fill(root, {f"class {index}": 5 for index in range(40)})
        splits = load(root)
        assert np.bincount(splits.test.labels).min() >= 1
        assert np.bincount(splits.train.labels).min() >= 2

    def test_copies_stay_together(self, root):
        fill(root, {"a": 40, "b": 40})
        for path in list((root / "a").iterdir()):
            shutil.copy(path, path.with_name(f"copy {path.name}"))
        splits = load(root)
        assert not [each for each in splits.notes if "test accuracy" in each]
        assert "training" not in note(splits, "train images repeat other ones")


class TestFindings:
    def test_a_sound_folder_gives_none(self, root):
        fill(root, {"train/a": 20, "train/b": 20, "test/a": 5, "test/b": 5})
        assert load(root).notes == ()

    def test_files_that_cannot_be_read_are_named_with_the_reason(self, root):
        fill(root, {"a": 300, "b": 300})
        whole = (root / "a" / "0.png").read_bytes()
        buffer = io.BytesIO()
        noise(5, (200, 200)).save(buffer, "JPEG")
        (root / "a" / "empty.jpg").touch()
        (root / "a" / "page.jpg").write_text("<html>404</html>")
        (root / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
        (root / "b" / "cut.jpg").write_bytes(buffer.getvalue()[:2_000])
        (root / "b" / "gone.png").symlink_to("nowhere")
        splits = load(root)
        assert len(splits.train) + len(splits.test) == 600
        lines = note(splits, "5 files cannot be read and are left out").splitlines()[1:]
        assert lines[1:3] == ["a/empty.jpg: empty file", "a/page.jpg: none of JPEG, PNG, BMP, GIF and WebP"]
        assert lines[0].startswith("a/cut.png: ")
        assert lines[3].startswith("b/cut.jpg: image file is truncated")
        assert lines[4] == "b/gone.png: No such file or directory"

    def test_an_image_of_too_many_pixels_is_not_decoded(self, root, monkeypatch):
        fill(root, {"a": 120, "b": 120})
        Image.new("1", (400, 300)).save(root / "a" / "bomb.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80_000)
        assert "a/bomb.png: 400×300 pixels; the limit is 80,000" in note(load(root), "1 file cannot be read")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)  # beyond twice the limit Pillow itself refuses
        assert "a/bomb.png: more than 40,000 pixels" in note(load(root), "1 file cannot be read")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read_is_named(self, root):
        fill(root, {"a": 120, "b": 120})
        (root / "a" / "0.png").chmod(0)
        assert "a/0.png: Permission denied" in note(load(root), "1 file cannot be read")

    def test_other_files_are_counted(self, root):
        fill(root, {"a": 20, "b": 20, ".thumbnails": 3, "b/@eaDir": 2, "__MACOSX/a": 2})
        for name in ("a/Thumbs.db", "a/notes.TXT", "b/notes.txt", "b/README", "a/.hidden.png", "photo.png", "list.csv"):
            shutil.copy(root / "a" / "0.png", root / name)
        os.mkfifo(root / "a" / "pipe.jpg")
        splits = load(root)
        assert len(splits.train) + len(splits.test) == 40
        found = note(splits, "passed over").partition(": ")[2].split(", ")
        assert set(found) == {
            *("4 hidden", "2 .txt", "1 .db", "1 .csv", "1 no ending", "1 .jpg", "1 in no class folder"),
        }

    def test_an_image_in_train_and_test_is_pointed_out_and_can_be_dropped(self, root):
        fill(root, {"train/a": 20, "train/b": 21, "test/a": 5, "test/b": 5})
        shutil.copy(root / "train" / "a" / "3.png", root / "test" / "a" / "same.png")
        shutil.copy(root / "train" / "a" / "4.png", root / "train" / "a" / "twice.png")
        splits = load(root)
        found = note(splits, "1 test image is in train, too: the test accuracy is too good by that")
        assert found.splitlines()[1:] == ["test/a/same.png = train/a/3.png"]
        assert note(splits, "1 train image repeats another one").splitlines()[1:] in (
            ["train/a/4.png = train/a/twice.png"],
            ["train/a/twice.png = train/a/4.png"],
        )
        dropped = load(root, drop_duplicates=True)
        assert (len(splits.train), len(dropped.train), len(dropped.test)) == (42, 40, 11)
        assert not {each.tobytes() for each in dropped.train.images} & {each.tobytes() for each in dropped.test.images}
        assert [each.splitlines()[0] for each in dropped.notes] == [
            "1 class with fewer than 20 training images",
            "2 training images are left out, as copies of other images (drop_duplicates=true)",
        ]

    def test_copies_among_validation_images_are_pointed_out(self, root):
        fill(root, {"train/a": 20, "train/b": 20, "test/a": 5, "test/b": 5, "val/a": 5, "val/b": 5})
        shutil.copy(root / "train" / "a" / "3.png", root / "val" / "a" / "x.png")
        shutil.copy(root / "test" / "b" / "45.png", root / "val" / "b" / "y.png")
        splits = load(root)
        assert "val/a/x.png = train/a/3.png" in note(splits, "1 validation image is in train")
        assert "test/b/45.png = val/b/y.png" in note(splits, "1 test image is in validation")

    def test_an_image_with_two_labels_is_pointed_out(self, root):
        fill(root, {"a": 30, "b": 30})
        shutil.copy(root / "a" / "3.png", root / "b" / "x.png")
        assert note(load(root), "1 image is in more than one class").splitlines()[1:] == ["a/3.png = b/x.png"]

    def test_many_findings_of_a_kind_are_counted(self, root):
        fill(root, {"train/a": 150, "train/b": 20, "test/b": 1})
        shutil.copytree(root / "train" / "a", root / "test" / "a")
        lines = note(load(root), "150 test images are in train").splitlines()
        assert (len(lines), lines[-1]) == (102, "... and 50 more")

    def test_small_classes_and_imbalance_are_pointed_out(self, root):
        fill(root, {"train/a": 200, "train/b": 19, "train/c": 20, "test/a": 2, "test/b": 2, "test/c": 2})
        splits = load(root)
        assert note(splits, "1 class with fewer than 20 training images").splitlines()[1:] == ["b: 19"]
        assert "200 training images of a, 19 of b" in note(splits, "differ much in size")
        (root / "train" / "b" / "more.png").write_bytes(noise_bytes(999))
        assert load(root).notes == ()  # ten times as many is where it begins

    def test_a_class_without_test_images_is_pointed_out(self, root):
        fill(root, {"train/a": 20, "train/b": 20, "train/c": 20, "test/a": 5, "test/b": 5, "val/c": 5})
        splits = load(root)
        assert note(splits, "1 class without test images").splitlines()[1:] == ["c"]
        assert note(splits, "2 classes without validation images").splitlines()[1:] == ["a", "b"]

    def test_a_folder_without_images_is_no_class(self, root):
        fill(root, {"a": 30, "b": 30, "empty": 0})
        splits = load(root)
        assert splits.class_names == ("a", "b")
        assert note(splits, "1 folder without images").splitlines()[1:] == ["empty"]


def noise_bytes(seed):
    buffer = io.BytesIO()
    noise(seed).save(buffer, "PNG")
    return buffer.getvalue()


class TestErrors:
    def refused(self, root, message, error=DataError, **options):
        with pytest.raises(error, match=message):
            load(root, **options)

    def test_a_folder_must_be_named(self):
        self.refused("", r"name the folder that holds the images: --dataset", UsageError)
        with pytest.raises(UsageError, match="name the folder"):
            version(" ")

    def test_it_must_be_there(self, root, tmp_path):
        self.refused(tmp_path / "nowhere", r"nowhere does not exist. Expected a folder for each class")
        (tmp_path / "pets.zip").write_text("")
        self.refused(tmp_path / "pets.zip", r"pets.zip is a file, not a folder.* An archive has to be unpacked")
        self.refused("a\0b", r"'a\\x00b' cannot be a path")
        self.refused("~nobody_of_that_name/x", "cannot be a path")

    def test_it_must_hold_classes(self, root):
        self.refused(root, "pets has no folders of classes. It is empty")
        noise(0).save(root / "photo.png")
        self.refused(root, "no folders of classes. Images that lie in no class folder: 1")

    def test_classes_must_hold_images(self, root):
        fill(root, {"a": 0, "b": 0})
        (root / "a" / "x.heic").write_text("")
        self.refused(root, r"no images in its folders of classes. Files that are no images by their names: 1 \.heic")

    def test_there_must_be_two_classes(self, root):
        fill(root, {"a": 10})
        self.refused(root, "images of one class, a; there must be two at least")

    def test_the_folder_above_the_one_that_was_meant_is_found_out(self, root):
        fill(root, {"photos/a": 10, "photos/b": 10})
        self.refused(root, r"Did you mean .*/pets/photos\?")

    def test_a_class_needs_five_images(self, root):
        fill(root, {"a": 5, "b": 4, "c": 1})
        self.refused(root, r"too few training images of c \(1\), b \(4\); a class needs at least 5")

    def test_copies_are_not_enough(self, root):
        fill(root, {"a": 10, "b": 1})
        for index in range(9):
            shutil.copy(root / "b" / "10.png", root / "b" / f"copy {index}.png")
        self.refused(
            root, r"too few training images of b \(0\); a class needs at least 2 beside test images and copies"
        )

    def test_parts_need_train(self, root):
        fill(root, {"test/a": 10, "val/a": 10})
        self.refused(root, "pets has test and validation, but no folder train")

    def test_parts_must_not_be_there_twice(self, root):
        fill(root, {"train/a": 10, "val/a": 10, "validation/a": 10})
        self.refused(root, "pets has val and validation, which mean the same")

    def test_parts_beside_classes_are_ambiguous(self, root):
        fill(root, {"train/a": 10, "train/b": 10, "cats": 10})
        self.refused(root, "pets has train, and beside them cats: are these classes, or parts of the data")

    def test_parts_within_classes_are_not_mixed(self, root):
        fill(root, {"cats/train": 5, "cats/test": 5, "dogs/train": 5, "dogs/test": 5})
        self.refused(root, "each of its folders holds train and test, such as cats/train. Turn them around: train/cats")

    def test_a_test_folder_must_hold_images(self, root):
        fill(root, {"train/a": 10, "train/b": 10, "test/a": 0})
        self.refused(root, "the folder test has no images. Without that folder, some of train are taken")

    def test_what_is_tested_must_be_trained(self, root):
        fill(root, {"train/Cat": 10, "train/dog": 10, "test/cat": 2, "test/dog": 2})
        self.refused(root, "cat is in test, but train has no such images.* Did you mean Cat, which train has")

    def test_more_than_one_percent_unreadable_is_an_error(self, root):
        fill(root, {"a": 50, "b": 49})
        (root / "a" / "x.png").touch()
        assert "1 file cannot be read" in load(root).notes[0]  # 1 of 100
        self.refused(root, r"1 of 100 files .* \(strict=true allows none\): a/x.png: empty file. Repair", strict=True)
        for index in range(7):
            (root / "b" / f"x{index}.jpg").touch()
        self.refused(root, r"8 of 107 files cannot be read as images \(more than 1%\): a/x.png.*; and 3 more. Repair")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_folder_that_may_not_be_read_is_an_error(self, root):
        fill(root, {"a": 10, "b": 10, "b/secret": 2})
        (root / "b" / "secret").chmod(0)
        self.refused(root, "b/secret cannot be read: Permission denied. Its images would be missing")
        (root / "b" / "secret").chmod(0o700)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read_is_left_out(self, root):
        fill(root, {"a": 60, "b": 60})
        (root / "a" / "3.png").chmod(0)
        assert "a/3.png: Permission denied" in note(load(root), "1 file cannot be read and is left out")

    def test_a_folder_that_changes_meanwhile_is_an_error(self, root):
        fill(root, {"a": 10, "b": 10})
        with pytest.raises(DataError, match="pets changed while it was read"):
            load_module(PLUGIN).load(path=str(root), size=8, progress=lambda *_: noise(99).save(root / "a" / "new.png"))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 0}, "size must be 1 to 4096 pixels; got 0"),
            ({"size": 5_000}, "size must be 1 to 4096 pixels; got 5000"),
            ({"channels": 2}, r"channels must be 1 \(grey\), 3 \(colour\) or 0 .* got 2"),
            ({"resize": "crop"}, "resize must be one of fit, stretch, pad; got 'crop'"),
            ({"test_fraction": 1.0}, "test_fraction must be above 0 and below 1; got 1. A folder `test`"),
            ({"test_fraction": 0.0}, "test_fraction must be above 0 and below 1; got 0"),
        ],
    )
    def test_parameters_must_make_sense(self, root, options, message):
        fill(root, {"a": 10, "b": 10})
        self.refused(root, message, UsageError, **options)


class TestCache:
    def source(self, root, cache):
        return DataSource(discover("dataset").choose(f"folder:path='{root}',size=8"), cache, cache)

    def test_images_and_notes_are_kept(self, root, tmp_path):
        fill(root, {"a": 30, "b": 12})
        source = self.source(root, tmp_path / "cache")
        assert find(source) is None
        prepared = prepare(source, quiet)
        splits = open_splits(source, prepared)
        assert find(source) == prepared
        assert prepared.info.notes == splits.notes == load(root).notes != ()
        assert prepared.info.fingerprint == fingerprint(load(root))
        assert isinstance(splits.train.images, np.memmap)
        np.testing.assert_array_equal(splits.train.images, load(root).train.images)

    @pytest.mark.parametrize("change", ["added", "removed", "changed", "renamed", "mode"])
    def test_a_changed_folder_is_prepared_anew(self, root, tmp_path, change):
        fill(root, {"a": 30, "b": 30})
        source = self.source(root, tmp_path / "cache")
        prepare(source, quiet)
        path = root / "a" / "3.png"
        if change == "added":
            noise(99).save(root / "b" / "deep.png")
        elif change == "removed":
            path.unlink()
        elif change == "changed":
            os.utime(path, ns=(0, 5))
        elif change == "renamed":
            path.rename(root / "b" / "3.png")
        else:
            path.chmod(0o600 if path.stat().st_mode & 0o777 != 0o600 else 0o640)
        assert find(source) is None

    def test_other_files_change_nothing(self, root, tmp_path):
        fill(root, {"a": 30, "b": 30})
        source = self.source(root, tmp_path / "cache")
        prepared = prepare(source, quiet)
        (root / "a" / ".DS_Store").touch()
        (root / "a" / "Thumbs.db").touch()
        assert find(source) == prepared

    def test_two_folders_of_one_name_are_told_apart(self, tmp_path, monkeypatch):
        for parent, classes in (("one", "ab"), ("two", "cd")):
            fill(tmp_path / parent, {f"pets/{name}": 10 for name in classes})
        found = []
        for parent in ("one", "two"):
            monkeypatch.chdir(tmp_path / parent)
            found.append(prepare(self.source("pets", tmp_path / "cache"), quiet).info.class_names)
        assert found == [("a", "b"), ("c", "d")]

    def test_nothing_is_left_beside_the_entry(self, root, tmp_path, monkeypatch):
        fill(root, {"a": 10, "b": 10})
        monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
        prepare(self.source(root, tmp_path / "cache"), quiet)
        assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["folder", "folder.lock"]
        assert len(list((tmp_path / "cache" / "folder").iterdir())) == 1


def test_memory_does_not_grow_with_the_number_of_images(root):
    fill(root, {"a": 8, "b": 8})
    content = (root / "a" / "0.png").read_bytes()
    end = content.index(b"IEND") - 4

    def peak():
        load(root, size=64)
        tracemalloc.start()
        try:
            splits = load(root, size=64)
            return len(splits.train) + len(splits.test), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def write(count):
        for index in range(count):  # a text chunk makes each file another one
            (root / "ab"[index % 2] / f"{index} with a long name like those of cameras.png").write_bytes(
                content[:end] + text_chunk(index) + content[end:]
            )

    write(2_200)  # two chunks of work, so that both measurements hold full ones
    few, small = peak()
    write(4_400)
    many, large = peak()
    assert many - few == 2_200
    assert (large - small) / (many - few) < 400  # bytes; an image has 12,288


def text_chunk(number):
    import zlib

    body = b"tEXt" + b"n\0" + str(number).encode()
    return (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)


def test_findings_are_printed_when_prepared_and_each_time_they_are_used(bench, run, root):
    fill(root, {"train/a": 30, "train/b": 12, "test/a": 5, "test/b": 5})
    for index in range(5):
        shutil.copy(root / "train" / "a" / f"{index}.png", root / "test" / "a" / f"same {index}.png")
    label = f"folder:{root},size=8"
    code, out, err = bench("prepare", label)
    assert (code, "42 train, 15 test images of 8×8×3, 2 classes; ready" in out) == (0, True), err
    assert f"bench: note: {label}: 5 test images are in train, too" in err
    assert err.count("/same ") == 5
    assert bench("prepare", label, "--quiet")[1:] == ("", err)
    code, out, err = run(dataset=label)
    assert code == 0, err
    assert f"bench: note: {label}: 5 test images are in train, too" in err
    assert err.count("/same ") == 3
    assert "`bench prepare` lists more" in err


def test_wrong_folders_and_parameters_are_wrong_usage(bench, tmp_path):
    for reference, message in (
        ("folder:path=' '", "name the folder that holds the images"),
        (f"folder:path='{tmp_path}/nowhere'", "nowhere does not exist"),
        ("folder:paht='x'", "dataset folder has no parameter 'paht'"),
    ):
        code, _, err = bench("prepare", reference)
        assert (code, message in err, "Traceback" in err) == (2, True, False), err
