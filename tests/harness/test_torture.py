"""The short form of `python -m benchmarks.torture`: the real program, killed at random moments and gone on with."""

from pathlib import Path

import pytest

from benchmarks.torture import FAULTS, torture


@pytest.mark.slow
def test_every_fault_leaves_nothing_lost_repeated_torn_or_orphaned(tmp_path: Path) -> None:
    rows = torture(tmp_path, tries=len(FAULTS), seed=1)
    assert {name for name, row in rows.items() if row.tries} == set(FAULTS)
    assert all(row.holds for row in rows.values()), rows


def test_driver_and_workers_killed_together_lose_and_repeat_nothing(tmp_path: Path) -> None:
    rows = torture(tmp_path, tries=1, faults=("SIGKILL driver and workers",), seconds=4.0)
    row = rows["SIGKILL driver and workers"]
    assert row.tries == 1 and row.holds, row
