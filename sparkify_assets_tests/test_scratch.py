"""Temporary folders: what a killed process left is removed by the next one, and nothing else."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sparkify_assets import scratch


def test_what_a_killed_process_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = "import sys, time; from sparkify_assets.scratch import scratch_folder\n"
    hold += "with scratch_folder() as f: (f / 'x').touch(); print(f, flush=True); time.sleep(999)"
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", hold], env=environ, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    folders = [Path(h.stdout.readline().strip()) for h in holders if h.stdout]
    killed, alive = holders
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (tmp_path / f"{scratch.NAME}file").touch()
    others = [tmp_path / "sparkify-assets", tmp_path / f"{scratch.NAME}results"]
    for folder in others:  # a clone, say, and what somebody named like ours
        folder.mkdir()
        (folder / "kept").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch.scratch_folder() as mine:
        assert [folder.exists() for folder in folders] == [False, True]
        assert all((folder / "kept").exists() for folder in others)
        with scratch.scratch_folder() as another:
            assert mine.exists()
            assert another != mine
    alive.kill()
    alive.wait()
    for holder in holders:
        if holder.stdout:
            holder.stdout.close()


# --- Through Dagster -------------------------------------------------------------------------
