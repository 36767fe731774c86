"""How much faster a training is on several devices: images/s, and the share of ideal scaling, by number of devices."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.report.tables import SETTING

SPEED = "train_images_per_second"
OF_DEVICES = [column for column in SETTING if column != "devices"]  # what rows share whose speeds are held together
SCALING = [*SETTING, "device", SPEED, "efficiency", "disturbed"]
VIRTUAL_NOTE = (
    "On a CPU the devices are virtual and share its cores: the figures show what dividing a batch costs, not what "
    "further hardware gains."
)


def scaling(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the leaderboard whose architecture was trained on several devices, with their efficiency.

    That is speed(N) / (N · speed(1)), of rows that differ in `devices` alone, so at the same global batch; blank where
    there is no speed on one device. Without rows where nothing was trained on more than one.
    """
    timed = table[table[SPEED].notna()]
    parallel = {_key(row) for row in timed[timed["devices"] > 1].to_dict("records")}
    rows = [row for row in timed.to_dict("records") if _key(row) in parallel]
    alone = {_key(row): row[SPEED] for row in rows if row["devices"] == 1}
    for row in rows:
        base = alone.get(_key(row))
        row["efficiency"] = row[SPEED] / (row["devices"] * base) if base else None
    result = pd.DataFrame(rows, columns=SCALING)
    return result.sort_values(["dataset", "architecture", "recipe", "devices"], ignore_index=True, kind="stable")


def _key(row: dict[Any, Any]) -> tuple[str, ...]:
    return tuple(str(row[column]) for column in OF_DEVICES)
