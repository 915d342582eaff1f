"""Who is told what: real runs, their alerts as a real HTTP server takes them, and no secrets."""

import gzip
import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Thread
from typing import Any

import dagster as dg
import pytest

from sparkify_assets import alerts
from sparkify_assets.errors import SparkifyError
from sparkify_assets.maintenance import Upkeep
from sparkify_assets.settings import Settings
from sparkify_assets_tests.daemon import SECRET, Daemon, Webhook, webhook
from sparkify_assets_tests.platform import EVENT, Platform, failed_checks
from sparkify_assets_tests.processes import PATIENCE

VALUE = "Xyzzy"  # stands in names, titles, keys and broken lines, and must not leave the warehouse
STAR = ("staging_songs", "staging_events", "repaired_text", "events", "users")
UI = "https://dagster.example.com"


@pytest.fixture
def channel() -> Iterator[Webhook]:
    with webhook() as channel:
        yield channel


@pytest.fixture
def daemon(made: Platform, channel: Webhook) -> Iterator[Daemon]:
    """Of a platform with files, nothing of it loaded."""
    made.settings |= {"alert_webhook": channel.url, "ui_url": f"{UI}/"}
    with dg.DagsterInstance.ephemeral() as instance:
        daemon = Daemon(made, instance)
        daemon.tell()
        yield daemon


def alert_of(daemon: Daemon, channel: Webhook) -> list[str]:
    """The lines of the one alert that the channel was sent since it was last asked."""
    daemon.tell()
    (text,) = channel.texts
    channel.texts.clear()
    *lines, link = text.splitlines()
    assert link == f"{UI}/runs/{daemon.instance.get_runs(limit=1)[0].run_id}"
    return lines


def test_a_failed_audit(daemon: Daemon, channel: Webhook) -> None:
    """Two users are in the files, and the null key of one fails."""
    assert daemon.run(*STAR).success
    daemon.tell()
    assert channel.texts == []
    platform = daemon.platform
    platform.edit("star/users.sql", "latest.user_id,", "NULLIF(latest.user_id, 7) AS user_id,")
    assert not daemon.run("users", "songplays").success
    assert alert_of(daemon, channel) == [
        "Sparkify: a run of some assets failed.",
        "- users: check null_keys: 1 violating row",
        f"- users was not published. It is unchanged in {platform.warehouse}, and nothing "
        "downstream was touched.",
    ]
    daemon.tell()
    assert channel.texts == []  # once


def test_a_load_with_damaged_files(daemon: Daemon, channel: Webhook) -> None:
    daemon.platform.write_events([{"ts": VALUE}] * 1_200, "bad.json")
    assert not daemon.run().success
    assert alert_of(daemon, channel) == [
        "Sparkify: the job refresh failed.",
        "- staging_events was not loaded: 1,200 of 1,205 records of event_files cannot be read, "
        "more than 10 and more than the share of 0.01 that SPARKIFY_MAX_REJECTED_SHARE allows. The "
        "table staging_events stays as it was. Fix or remove them, or allow a larger share.",
    ]


def test_a_warning_is_told_when_it_is_new(daemon: Daemon, channel: Webhook) -> None:
    def told_with(text: str) -> int:
        (daemon.platform.log_data / "other.json").write_text(text)
        assert daemon.run("staging_events").success
        daemon.tell()
        told, channel.texts[:] = len(channel.texts), []
        return told

    daemon.platform.write_events([{}] * 200)
    assert daemon.run("staging_events").success
    (daemon.platform.log_data / "other.json").write_text("no record")
    assert daemon.run("staging_events").success
    assert alert_of(daemon, channel) == [
        "Sparkify: a run of some assets succeeded, with a new warning.",
        "- staging_events: check files_read: 1 unread file",
    ]
    assert [told_with(text) for text in ("no record", "another")] == [0, 0]
    assert [told_with(text) for text in ('{"page": "Home"}', "again")] == [0, 0]
    sound = json.dumps(EVENT | {"sessionId": 2})
    assert [told_with(text) for text in (sound, "broken again")] == [0, 1]


def test_a_failed_run_tells_only_what_is_new_of_its_warnings(
    daemon: Daemon, channel: Webhook
) -> None:
    platform = daemon.platform
    platform.write_events([{}] * 200)
    (platform.log_data / "bad.json").write_text("no record")
    platform.edit("star/users.sql", "latest.user_id,", "NULLIF(latest.user_id, 7) AS user_id,")
    for warnings in (["- staging_events: check files_read: 1 unread file"], []):
        assert failed_checks(daemon.run(*STAR)) >= {("staging_events", "files_read")}
        title, *found = alert_of(daemon, channel)
        assert title == "Sparkify: a run of some assets failed."
        assert found[:-1] == [*warnings, "- users: check null_keys: 1 violating row"]


def test_an_audit_that_finds_something_says_so(daemon: Daemon, channel: Webhook) -> None:
    """It is told every time."""
    assert daemon.run().success
    daemon.platform.change("INSERT INTO users SELECT * FROM users")
    for _ in range(2):
        assert not daemon.run(job="audit").success
        title, *found = alert_of(daemon, channel)
        assert title == "Sparkify: the job audit failed."
        assert "- users: check unique_key: 2 surplus rows" in found


def test_a_run_that_was_killed(daemon: Daemon, channel: Webhook) -> None:
    """As Dagster's monitoring notes it after the next start."""
    run = dg.DagsterRun(job_name="refresh", status=dg.DagsterRunStatus.STARTED)
    daemon.instance.add_run(run)
    daemon.instance.report_run_failed(run, "its process has ended")
    assert alert_of(daemon, channel) == [
        "Sparkify: the job refresh failed.",
        "- its process has ended What was published before stays as it was.",
    ]


def test_a_run_that_was_interrupted(
    daemon: Daemon, channel: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Upkeep, "record", interrupted)
    with suppress(KeyboardInterrupt):
        daemon.run()
    title, *rest = alert_of(daemon, channel)
    assert title == "Sparkify: the job refresh failed."
    assert rest


def test_names_cannot_format_a_message(daemon: Daemon, channel: Webhook) -> None:
    """Slack takes <!channel> as a call to everybody."""
    packed = gzip.compress(json.dumps(EVENT | {"sessionId": 9}).encode())
    file = daemon.platform.log_data / "<!channel> & <b>.json.gz"
    file.write_bytes(packed)
    assert daemon.run("staging_events").success
    file.write_bytes(packed[:-20])
    assert not daemon.run("staging_events").success
    _, said = alert_of(daemon, channel)
    assert "/&lt;!channel&gt; &amp; &lt;b&gt;.json.gz was loaded before" in said
    assert "<" not in said


def rejected(platform: Platform) -> None:
    platform.write_events([{"ts": VALUE}] * 20, "bad.json")


def no_json(platform: Platform) -> None:
    text = f'{{"{VALUE}": NaNo, "ts": "{VALUE}"}}\n{{"page": "Home", "ts": "{VALUE}"}}\n'
    (platform.log_data / "bad.json").write_text(text * 20)


def no_known_key(platform: Platform) -> None:
    (platform.song_data / "bad.json").write_text(f'{{"{VALUE}": 1, "year": "{VALUE}"}}\n' * 20)


def failed_key(platform: Platform) -> None:
    file = "star/users.sql"
    platform.edit(file, "user_id BIGINT NOT NULL PRIMARY KEY", "user_id BIGINT NOT NULL")
    platform.edit(file, "first_name VARCHAR(1024),", "first_name VARCHAR(1024) PRIMARY KEY,")


def failed_check(platform: Platform) -> None:
    check = "-- No name.\nSELECT first_name, last_name FROM users"
    (platform.sql / "checks/users__no_name.sql").write_text(check)


def refused_insert(platform: Platform) -> None:
    platform.edit(
        "star/users.sql",
        "latest.gender,",
        "CAST(CAST(latest.last_name AS BIGINT) AS VARCHAR(16)) AS gender,",
    )


def refused_check(platform: Platform) -> None:
    check = "-- A check.\nSELECT user_id FROM users WHERE CAST(first_name AS BIGINT) > 1"
    (platform.sql / "checks/users__a_check.sql").write_text(check)


def defect(_: Platform) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(VALUE)

    Upkeep.record = broken  # type: ignore[method-assign, assignment]


TROUBLES = (rejected, no_json, no_known_key, failed_key, failed_check)


@pytest.mark.parametrize("trouble", [*TROUBLES, refused_insert, refused_check, defect])
def test_no_value_leaves_the_warehouse(
    daemon: Daemon,
    channel: Webhook,
    trouble: Callable[[Platform], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But whoever runs it here is told."""
    platform = daemon.platform
    monkeypatch.setattr(Upkeep, "record", Upkeep.record)  # and back, whatever becomes of it
    platform.write_songs([{"title": VALUE, "artist_name": VALUE}])
    named = {name: VALUE for name in ("artist", "song", "firstName", "lastName", "location")}
    platform.write_events([named, named | {"userId": "9", "ts": 1541105839000}])
    trouble(platform)
    assert daemon.platform.sql.is_dir()
    result = daemon.run(*STAR)
    assert not result.success
    told = str([event.step_failure_data for event in result.get_step_failure_events()])
    assert (VALUE in told) == (trouble not in (no_json, no_known_key))
    daemon.tell()
    assert len(channel.texts) == 1
    assert VALUE not in channel.texts[0]


class Answers:
    """Channels that do not take an alert."""

    @staticmethod
    @contextmanager
    def away() -> Iterator[str]:
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            port = server.getsockname()[1]
        yield f"http://127.0.0.1:{port}/{SECRET}"

    @staticmethod
    @contextmanager
    def fails() -> Iterator[str]:
        with webhook() as channel:
            channel.status = 500
            yield channel.url

    @staticmethod
    @contextmanager
    def is_silent() -> Iterator[str]:
        with webhook() as channel:
            channel.answers.clear()
            yield channel.url

    @staticmethod
    @contextmanager
    def is_no_http() -> Iterator[str]:
        with closing(socket.create_server(("127.0.0.1", 0))) as server:

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(f"{SECRET}\r\n\r\n".encode())

            Thread(target=answer, daemon=True).start()
            yield f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}"

    @staticmethod
    @contextmanager
    def is_no_address() -> Iterator[str]:
        yield f"http://{SECRET}:port/caf\u00e9"

    @staticmethod
    @contextmanager
    def is_no_name() -> Iterator[str]:
        yield f"http://{SECRET}..{'x' * 70}/{SECRET}"


KINDS: dict[Callable[[], Any], str] = {
    Answers.away: "URLError",
    Answers.fails: "500",
    Answers.is_silent: "TimeoutError",
    Answers.is_no_http: "BadStatusLine",
    Answers.is_no_address: "InvalidURL",
    Answers.is_no_name: "UnicodeEncodeError|UnicodeError|URLError",
}


def test_what_cannot_be_sent_is_logged_and_fails_nothing(
    daemon: Daemon,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    cursors, instance = dict(daemon.cursors), daemon.instance
    daemon.platform.write_events([{"ts": VALUE}] * 20, "bad.json")
    assert not daemon.run("staging_events").success
    for answers, kind in KINDS.items():
        caplog.clear()
        monkeypatch.setattr(alerts, "SEND_SECONDS", 0.3 if kind == "TimeoutError" else PATIENCE)
        with answers() as address:
            daemon.platform.settings["alert_webhook"] = address
            daemon.cursors |= cursors
            daemon.tell()
        said = caplog.text + "".join(capfd.readouterr())
        found = re.search(r"SPARKIFY_ALERT_WEBHOOK did not accept an alert \((.*?)\): (.*)", said)
        assert found, answers
        assert re.fullmatch(kind, found[1]), answers
        assert found[2] == "Sparkify: a run of some assets failed."
        assert "staging_events was not loaded: 20 of 25 records" in said
        assert SECRET.lower() not in said.lower()
    kept: list[object] = [instance.all_logs(run.run_id) for run in instance.get_runs()]
    kept += [instance.get_runs(), daemon.platform.defs().get_repository_def().sensor_defs, cursors]
    assert SECRET.lower() not in str(kept).lower()


@pytest.mark.parametrize(
    "address",
    [
        f"hooks.example.com/{SECRET}",
        f"ftp://hooks.example.com/{SECRET}",
        f"https://{SECRET}:word@hooks.example.com/x",
        f"https://hooks.example.com/ {SECRET}",
    ],
)
def test_a_wrong_address_is_not_repeated(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("SPARKIFY_ALERT_WEBHOOK", address)
    with pytest.raises(SparkifyError) as raised:
        Settings.from_environment()
    assert "SPARKIFY_ALERT_WEBHOOK is wrong: it is not an http URL" in str(raised.value)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_without_a_webhook_nobody_watches(made: Platform) -> None:
    assert alerts.alerts(Settings(**made.settings)) == []
