"""What lies in a TFDS data directory, read from the JSON files that TFDS leaves beside its data."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bench.errors import DataError

TFRECORD_FRAMING = 16  # bytes around each record: its length and two checksums


def default_data_dir() -> Path:
    """Return `TFDS_DATA_DIR`, or TFDS's own default folder."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def version(name: str, data_dir: Path) -> str | None:
    """Return version and file sizes of a prepared data set (`NAME` or `NAME/CONFIG`); None where it is not on disk.

    Raises:
        DataError: files are missing or truncated.

    """
    folder = find_folder(name, data_dir)
    return None if folder is None else f"tfds {name} {folder.name} {_check_files(folder)} bytes"


def on_disk(data_dir: Path) -> list[str]:
    """Return the names of the data sets that lie prepared in a TFDS data directory."""
    depths = ("*", "*/*")  # NAME or NAME/CONFIG; nothing deeper, since downloads may lie there unpacked
    found = [path for depth in depths for path in data_dir.glob(f"{depth}/[0-9]*/dataset_info.json")]
    return sorted({str(path.parent.parent.relative_to(data_dir)) for path in found})


def find_folder(name: str, data_dir: Path) -> Path | None:
    """Return the newest version of a data set; of one with configurations that names none, TFDS's default."""
    folders = [path.parent for path in (data_dir / name).glob("[0-9]*/dataset_info.json")]
    default = data_dir / name / ".config" / "metadata.json"
    if not folders and default.is_file():
        config = json.loads(default.read_text()).get("default_config_name")
        return find_folder(f"{name}/{config}", data_dir) if config else None
    return max(folders, key=lambda folder: _numbers(folder.name), default=None)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _check_files(folder: Path) -> int:
    """Return the bytes of all splits, once each split's files are known to be there in full."""
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        splits = info["splits"]
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{folder / 'dataset_info.json'} is damaged ({error}). Copy or prepare the data again."
        ) from error
    sizes = []
    for split in splits:
        shards = [int(length) for length in split["shardLengths"]]
        files = sorted(folder.glob(f"{info['name']}-{split['name']}.{info['fileFormat']}-*"))
        found = sum(file.stat().st_size for file in files)
        expected = int(split["numBytes"]) + TFRECORD_FRAMING * sum(shards)
        if len(files) != len(shards) or (info["fileFormat"] == "tfrecord" and found != expected):
            raise DataError(
                f"{folder}: the {split['name']} split should be {len(shards)} file(s) of {expected:,} bytes in all, "
                f"found {len(files)} of {found:,}. The copy or download broke off: fetch it again, or delete the "
                "folder and let `bench prepare` download it."
            )
        sizes.append(found)
    return sum(sizes)
