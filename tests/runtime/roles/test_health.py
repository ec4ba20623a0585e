"""The health file: replaced whole, and never a reason to stop."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from dyno_runtime.clock import stamp, uptime_s
from dyno_runtime.roles.health import Health, HealthFile


def look() -> Health:
    return Health("decode-0", 7, 0.0, {}, {"decode": 1}, {"etcd": "up", "nats": "down"})


async def test_all_changes_of_a_turn_are_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = HealthFile(tmp_path / "health.json", look)
    writes: list[int] = []
    write = file.write

    def counted() -> None:
        writes.append(1)
        write()

    monkeypatch.setattr(file, "write", counted)
    for _ in range(5):
        file.changed()
    await asyncio.sleep(0.01)
    assert len(writes) == 1
    read = json.loads((tmp_path / "health.json").read_text())
    assert abs(read["beat_s"] - uptime_s()) < 5.0
    assert [one.name for one in tmp_path.iterdir()] == ["health.json"]


async def test_a_folder_that_is_gone_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = HealthFile(tmp_path / "gone" / "health.json", look)
    for _ in range(3):
        file.write()
    assert [one.getMessage() for one in caplog.records] == [
        f"cannot write {tmp_path / 'gone' / 'health.json'}: No such file or directory"
    ]


def test_stamps_are_utc_with_milliseconds():
    assert stamp(0.25) == "1970-01-01T00:00:00.250Z"
