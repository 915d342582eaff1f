"""What interrupts a transaction on Redshift: conflicts, broken connections, kills, other runs."""

import itertools
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmarks import simulator
from sparkify_assets.errors import SparkifyError
from sparkify_assets.warehouse import redshift
from sparkify_assets_tests.platform import (
    RedshiftPlatform,
)
from sparkify_assets_tests.processes import PATIENCE
from sparkify_assets_tests.redshift_server import CONFLICT, DROP_AFTER, DROP_BEFORE, Fault
from sparkify_assets_tests.redshift_work import load, publish, sent, state, warehouse, work_files
from sparkify_assets_tests.s3_server import S3Server


@pytest.fixture
def platform(redshift: RedshiftPlatform) -> RedshiftPlatform:
    return redshift


@pytest.mark.faults
@pytest.mark.parametrize("work", [load, publish])
def test_an_interruption_at_each_statement(
    work: Callable[..., Any], made: RedshiftPlatform, s3_server: S3Server, impatient: None
) -> None:
    """The first attempt is cut off before a statement, the next after it, the third meets 1023.

    Whichever statement that is, the work is done once, and no file is left in the work folder.
    """
    load(made)
    if work is publish:
        publish(made)
        made.change("DELETE FROM users")
    else:
        made.write_events([{"sessionId": 50}, {"sessionId": 50}], "later.json")
        made.write_events([{"sessionId": 1}], "events.json")
    made.change("CREATE TABLE kept AS SELECT * FROM staging_events")
    made.change("CREATE TABLE kept_history AS SELECT * FROM load_history")
    into = warehouse(made)
    expected = None
    for number in itertools.count():
        for attempt, fault in enumerate((DROP_BEFORE, DROP_AFTER, CONFLICT)):
            made.server.fail(fault, after=number + attempt * (number + 1))
        work(made, into)
        unmet = made.server.pending
        made.server.forget_faults()
        found = state(made)
        expected = expected or found
        assert found == expected, number
        assert work_files(s3_server) == []
        if unmet == 3:
            break
        if work is load:
            made.change("DELETE FROM staging_events")
            made.change("INSERT INTO staging_events SELECT * FROM kept")
            made.change("DELETE FROM load_history")
            made.change("INSERT INTO load_history SELECT * FROM kept_history")
        else:
            made.change("DELETE FROM users")
    assert number > 12


def test_what_was_committed_unheard_is_done_again_and_finds_nothing_to_do(
    made: RedshiftPlatform, impatient: None
) -> None:
    made.server.fail(DROP_AFTER, matching="COMMIT")
    again = load(made)
    assert (again.new, again.unchanged) == (0, 1)
    assert [sql[:4] for sql in sent(made)].count("COPY") == 2
    assert made.rows("SELECT COUNT(*) FROM staging_events") == [(5,)]


def test_commits_that_are_never_heard_of_are_said(made: RedshiftPlatform, impatient: None) -> None:
    for _ in range(5):
        made.server.fail(DROP_AFTER, matching="COMMIT")
    with pytest.raises(
        SparkifyError, match=r"broke off .*, 5 times. Run it again: nothing is loaded twice"
    ):
        load(made)
    assert made.rows("SELECT COUNT(*) FROM staging_events") == [(5,)]
    assert load(made).unchanged == 1


def test_a_conflict_that_stays_is_said(made: RedshiftPlatform, impatient: None) -> None:
    for _ in range(5):
        made.server.fail(CONFLICT, matching="COPY")
    with pytest.raises(SparkifyError, match=r"another transaction interfered.*5 times. Run it ag"):
        load(made)
    assert "staging_events" not in made.table_names()


def test_two_loads_at_once(made: RedshiftPlatform) -> None:
    with ThreadPoolExecutor() as pool:
        done = [run.result() for run in [pool.submit(load, made) for _ in range(3)]]
    assert sorted(one.new for one in done) == [0, 0, 1]
    assert made.rows("SELECT COUNT(*) FROM staging_events") == [(5,)]


def test_waiting_for_another_run_is_said_and_bounded(
    published: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redshift, "WAIT_SECONDS", 0.2)
    said = "users run: waiting for another run that writes to dev.sparkify_test on 127.0.0.1"
    with warehouse(published).transaction("the other one"):
        monkeypatch.setenv("REDSHIFT_TIMEOUT_SECONDS", "2")
        with (
            caplog.at_level(logging.INFO, logger="dagster"),
            pytest.raises(SparkifyError, match=r"waited too long for another run.*TIMEOUT_SECONDS"),
        ):
            publish(published)
    assert said in caplog.text


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["COPY", "COMMIT"])
def test_a_killed_load_leaves_the_state_before(
    moment: str, redshift: RedshiftPlatform, s3_server: S3Server
) -> None:
    """The next run removes the files that the killed one left, and does the work once."""
    simulator.write_song_files(redshift.song_data, simulator.Plan(songs=20))
    simulator.write_event_files(redshift.log_data, simulator.Plan(events=500))
    files = redshift.log_data.rglob("*.json")
    made = sum(len(path.read_bytes().splitlines()) for path in files)
    redshift.server.fail(Fault(delay=PATIENCE), matching=moment)
    run = (
        "from pathlib import PosixPath; import dagster as dg; "
        "from sparkify_assets.definitions import build_defs; "
        "from sparkify_assets.settings import Settings; "
        f"defs = build_defs(settings=Settings(**{redshift.settings!r})); "
        "job = defs.resolve_implicit_global_asset_job_def(); "
        "job.execute_in_process(asset_selection=[dg.AssetKey('staging_events')])"
    )
    with subprocess.Popen([sys.executable, "-c", run], stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + PATIENCE
        while not any(sql.startswith(moment) for sql in sent(redshift)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert (work_files(s3_server) != []) == (moment == "COPY")
    assert "staging_events" not in redshift.table_names()
    load(redshift)
    assert redshift.rows("SELECT COUNT(*) FROM staging_events") == [(made,)]
    assert work_files(s3_server) == []
