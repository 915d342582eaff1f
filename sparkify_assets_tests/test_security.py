"""What no other test of a defence holds: hostile data end to end, secrets, permissions, TLS.

docs/security.md names the test of each claim; most of them are with the part that they test.
"""

import ast
import asyncio
import csv
import io
import json
import logging
import os
import re
import ssl
import stat
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from sparkify_assets import alerts, settings
from sparkify_assets.definitions import PACKAGE
from sparkify_assets.errors import UNSAFE
from sparkify_assets.output_files import replace
from sparkify_assets.report import as_csv
from sparkify_assets.s3_access import s3_client
from sparkify_assets.sources.folder import FolderSource
from sparkify_assets_tests.platform import (
    EVENT,
    Platform,
    RedshiftPlatform,
    failure_of,
    instance,
    materialized,
)
from sparkify_assets_tests.processes import PATIENCE, ROOT

DOCUMENT = ROOT / "docs" / "security.md"
BIN = Path(sys.executable).parent
SECRETS = {
    "SPARKIFY_ALERT_WEBHOOK": "https://hooks.example.com/T0P-SECRET-1",
    "AWS_ACCESS_KEY_ID": "T0P-SECRET-2",
    "AWS_SECRET_ACCESS_KEY": "T0P-SECRET-3",
    "AWS_SESSION_TOKEN": "T0P-SECRET-4",
    "REDSHIFT_PASSWORD": "T0P-SECRET-5",
    "DAGSTER_POSTGRES_PASSWORD": "T0P-SECRET-6",
}
# a formula, the end of a statement, an element, a template, a title for the terminal, a turn of
# the direction of writing, and what LIKE, printf and a format string take for their own
HOSTILE = "=1+1'\"; DROP TABLE users; --<img src=x onerror=x>{{7*7}}\x1b]0;x\x07\u202e%s{0}\\"
TEXTS = ("artist", "auth", "firstName", "lastName", "location", "song", "userAgent")


def hostile(record: dict[str, Any]) -> dict[str, Any]:
    """The same record with hostile texts, and with a hostile key that no column takes."""
    texts = {n: f"{HOSTILE}{n}" if len(HOSTILE + n) > 64 else HOSTILE for n in TEXTS}
    return record | texts | {"auth": "';--\x1b[2J<b>", "level": "'%\x1b<b>", HOSTILE: HOSTILE}


def write_hostile_files(platform: Platform) -> None:
    """Two sound events, one of them hostile, in a file with a hostile name; one is rejected."""
    name = re.sub("[/\0]", "", HOSTILE)
    platform.write_events([{}, hostile(EVENT)], name=f"{name}.json")
    rejected = json.dumps(hostile(EVENT) | {"itemInSession": HOSTILE})
    with zipfile.ZipFile(platform.log_data / "more.zip", "w") as archive:
        archive.writestr(f"../../{HOSTILE}a.json", f"{rejected}\n")
    song = dict.fromkeys(("title", "artist_name", "artist_location", HOSTILE), HOSTILE)
    platform.write_songs([{}, song | {"song_id": "SO2", "artist_id": "AR2"}])
    platform.settings["max_rejected_share"] = 0.9


class Told:
    """A refresh of hostile files by somebody with secrets, and all that it told and left."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder / "home"
        self.folder.mkdir()
        platform = Platform(self.folder, export_path=self.folder / "export")
        write_hostile_files(platform)
        self.given = {*self.folder.rglob("*")}
        history = (ROOT / "dagster.yaml").read_text()
        history = history.replace(".dagster", str(self.folder / ".dagster"))
        (folder / "dagster.yaml").write_text(history)
        with dg.DagsterInstance.from_config(str(folder)) as kept:
            job = platform.defs().resolve_job_def("refresh")
            result = job.execute_in_process(instance=kept, raise_on_error=False)
            self.events = kept.all_logs(result.run_id)
            self.run = kept.get_run_by_id(result.run_id)
        self.failure = failure_of(result)
        self.made = materialized(result)
        self.platform = platform
        self.printed = "".join(capture.readouterr())

    @property
    def files(self) -> Iterator[Path]:
        """What the refresh left on the disk."""
        return (path for path in self.folder.rglob("*") if path not in self.given)


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Told]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    before = os.umask(0o077)
    try:
        yield Told(tmp_path, capfd)
    finally:
        os.umask(before)


def strings(value: object) -> Iterator[str]:
    """Every text in a value of JSON, keys among them."""
    if isinstance(value, str):
        yield value
    for part in value if isinstance(value, list) else []:
        yield from strings(part)
    for name, part in value.items() if isinstance(value, dict) else []:
        yield name
        yield from strings(part)


def test_a_hostile_record_is_a_record(told: Told) -> None:
    """One refresh, since it is dear: what it stores, what it shows, and what it leaves behind."""
    assert told.failure == ""
    assert {"listening_report", "parquet_files", "users", "songplays"} <= told.made

    # it is stored as it is, and nothing of it was executed
    stored = told.platform.rows(
        "SELECT artist, auth, firstname, lastname, location, song, useragent FROM staging_events "
        "WHERE iteminsession = 0 AND auth <> 'Logged In'"
    )
    assert stored == [tuple(hostile(EVENT)[name] for name in TEXTS)]
    assert told.platform.rows("SELECT COUNT(*) FROM users") == [(1,)]
    [(uri, raw)] = told.platform.rows("SELECT uri, raw_text FROM rejected_records")
    assert uri.endswith(f"/more.zip!/../../{HOSTILE}a.json")
    assert json.loads(raw)["song"] == hostile(EVENT)["song"]

    # it steers no terminal and no UI
    assert "DROP TABLE" in told.printed
    assert not UNSAFE.search(told.printed.replace("\n", ""))
    shown = [*strings([json.loads(dg.serialize_value(event)) for event in told.events])]
    assert any("DROP TABLE" in text for text in shown)
    assert [t for t in shown if UNSAFE.search(re.sub(r"[\n\t]", "", t))] == []
    marked_up = [
        value.value
        for event in told.events
        if (found := event.dagster_event) and found.is_step_materialization
        for value in found.step_materialization_data.materialization.metadata.values()
        if isinstance(value, dg.MarkdownMetadataValue)
    ]
    assert not any("onerror" in text for text in marked_up if text)

    # it is text in the page, and no formula in a file that the page offers
    page = told.platform.report.read_text(encoding="utf-8")
    assert "{{7*7}}" in page
    assert not re.search(r"<(img|script)", page)
    assert not UNSAFE.search(re.sub(r"[\n\t]", "", page))

    # no secret is in any file, in an event, in the run config or on the terminal
    assert told.run
    places = [path.read_bytes().decode("latin-1") for path in told.files if path.is_file()]
    places += [*shown, told.printed, dg.serialize_value(told.run)]
    assert len(places) > 10
    assert not any("T0P-SECRET" in place for place in places)

    # nobody else may read what was written, and all of it is where it should be
    written = {path.relative_to(told.folder).parts[0] for path in told.files}
    assert written == {"export", "listening_report.html", "warehouse.duckdb", ".dagster"}
    assert [path for path in told.files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert {path.name for path in told.folder.parent.iterdir()} == {"home", "dagster.yaml"}


def test_a_hostile_record_is_a_record_on_redshift(
    redshift: RedshiftPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    write_hostile_files(redshift)
    with caplog.at_level(logging.DEBUG):
        result = redshift.make("users")
    assert result.success, failure_of(result)
    stored = redshift.rows(
        "SELECT artist, auth, firstname, lastname, location, song, useragent FROM staging_events "
        "WHERE iteminsession = 0 AND auth <> 'Logged In'"
    )
    assert stored == [tuple(hostile(EVENT)[name] for name in TEXTS)]
    assert redshift.rows("SELECT user_id FROM users") == [(7,)]
    assert redshift.server.password not in caplog.text


def test_who_has_a_hostile_name_is_forgotten(made: Platform) -> None:
    """However their name is spelled in the JSON of a record that was rejected."""
    made.settings["max_rejected_share"] = 0.9
    zed = hostile(EVENT) | {"firstName": "Zo\u00eb", "userId": "9"}
    rejected = zed | {"ts": "soon", "userId": "x9"}
    made.write_events([zed, rejected], name="zed.json")
    spelled = json.dumps(EVENT | rejected, ensure_ascii=False)
    (made.log_data / "spelled.json").write_text(spelled, encoding="utf-8")
    assert made.run("staging_events").success
    [(kept,)] = made.rows("SELECT COUNT(raw_text) FROM rejected_records")
    assert kept == 2
    job = made.defs().resolve_job_def("forget_user")
    for user in ("9 OR 1=1", "9", None):
        with pytest.raises(dg.DagsterInvalidConfigError):
            job.execute_in_process(instance=instance(), run_config={"user_id": user})
    forget = {"ops": {"staging_events": {"config": {"forget_user": 9}}}}
    result = made.run("staging_events", config=forget)
    assert result.success, failure_of(result)
    assert made.rows("SELECT DISTINCT userid FROM staging_events ORDER BY 1") == [(7,), (8,)]
    assert made.rows("SELECT raw_text FROM rejected_records") == [(None,), (None,)]


@pytest.mark.parametrize("sign", "\uff1d\uff0b\uff0d\uff20")
def test_a_wide_sign_begins_no_formula_either(sign: str) -> None:
    _, row = csv.reader(io.StringIO(as_csv([{"song": f"{sign}1"}])))
    assert row == [f"'{sign}1"]


def test_many_files_cost_little_each(tmp_path: Path) -> None:
    """Ten thousand: a hundredth of a million; each is a name, a size and a version in memory."""
    for number in range(10_000):
        if number % 1_000 == 0:
            folder = tmp_path / f"{number}"
            folder.mkdir()
        (folder / f"{number}.json").touch()
    tracemalloc.start()
    try:
        found = FolderSource("event_files", "SPARKIFY_LOG_DATA", tmp_path).objects()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 10_000
    assert peak < 2_000 * len(found)


# --- Secrets and processes ----------------------------------------------------------------------


def test_no_process_is_started_and_no_text_becomes_a_program() -> None:
    """So that no argument of a process can tell a secret, and no data can be executed."""
    trees = [(path, ast.parse(path.read_text())) for path in PACKAGE.rglob("*.py")]
    assert len(trees) > 30
    for path, tree in trees:
        for node in ast.walk(tree):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names.append(getattr(node, "module", None) or "")
            started = {name.split(".")[0] for name in names if isinstance(name, str)}
            assert not started & {"subprocess", "multiprocessing", "pickle", "shelve"}, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "os.system", "yaml.load"), path
                assert not called.startswith(("os.exec", "os.spawn", "os.popen")), path


def test_arguments_of_dagsters_processes_tell_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold the whole instance, with the names of its variables and not their values."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for folder in (ROOT / "deploy", ROOT):
        argument = dg.serialize_value(InstanceRef.from_dir(str(folder)))
        assert "python_log_level" in argument
        assert "T0P-SECRET" not in argument
    assert "DAGSTER_POSTGRES_PASSWORD" in dg.serialize_value(
        InstanceRef.from_dir(str(ROOT / "deploy"))
    )


# --- Files that are written ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_replaced_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    path.chmod(mode)
    replace(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_beside_the_report_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that is made in the moment between."""
    mine, beside = tmp_path / "mine", tmp_path / f".sparkify_assets-{os.getpid()}"
    mine.write_text("mine")
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
    beside.symlink_to(mine)
    with pytest.raises(FileExistsError):
        replace(tmp_path / "report.html", "new")
    assert mine.read_text() == "mine"


# --- The network ----------------------------------------------------------------------------------


def test_s3_is_spoken_to_over_tls() -> None:
    client = s3_client(anonymous=True)
    assert client.meta.endpoint_url.startswith("https://")
    assert client._endpoint.http_session._verify  # true, or a file of authorities


def test_a_webhook_whose_certificate_is_not_known_hears_nothing(
    certificates: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates[1])
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log = logging.getLogger("test_security")
    try:
        with caplog.at_level(logging.INFO):
            alerts.send(f"https://127.0.0.1:{server.server_port}/T0P-SECRET", "told", log)
    finally:
        server.shutdown()
        server.server_close()
    assert heard == []
    assert "did not accept an alert (URLError)" in caplog.text
    assert "T0P-SECRET" not in caplog.text


def test_the_ui_is_for_this_machine_alone() -> None:
    from dagster_webserver.cli import create_dagster_webserver_cli  # only here: it takes seconds

    command = create_dagster_webserver_cli()  # type: ignore[no-untyped-call]
    [host] = [parameter for parameter in command.params if parameter.name == "host"]
    assert isinstance(host, click.Option)
    assert host.default == "127.0.0.1"
    assert settings.Settings().ui_url == "http://127.0.0.1:3000"


def test_the_ui_asks_nobody_who_they_are() -> None:
    """What docs/security.md warns of: a page of another site can send it a mutation."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import EmptyWorkspaceTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    with (
        dg.DagsterInstance.local_temp() as kept,
        WorkspaceProcessContext(kept, EmptyWorkspaceTarget(), "test") as context,
    ):
        app = create_app_from_workspace_process_context(context)
        status, headers, body = posted(app, "mutation { setNuxSeen }")
    assert (status, json.loads(body)) == (200, {"data": {"setNuxSeen": True}})
    assert b"access-control-allow-origin" not in headers  # but it cannot read the answer


def posted(app: Any, mutation: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """What an application answers to what any page may send, without being asked for more."""
    said: list[Any] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/graphql",
        "query_string": urlencode({"query": mutation}).encode(),
        "headers": [(b"origin", b"https://other.example.com"), (b"content-type", b"text/plain")],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in said)
    return said[0]["status"], dict(said[0]["headers"]), body


# --- Dependencies ---------------------------------------------------------------------------------


class Vulnerabilities(BaseHTTPRequestHandler):
    """Says, as OSV does, that one package of the lock is vulnerable."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = [{"id": "MADE-1", "summary": "made up", "affected": []}]
        answer = {"vulns": known} if asked["package"]["name"] == "jinja2" else {}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: object) -> None:
        pass


def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}:{os.environ['PATH']}"
    return subprocess.run(
        [ROOT / ".ci" / "audit", "--timeout", str(PATIENCE), *arguments],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )


def test_the_audit_fails_on_a_known_vulnerability_alone() -> None:
    assert "`.ci/audit`" in DOCUMENT.read_text()
    server = HTTPServer(("127.0.0.1", 0), Vulnerabilities)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{server.server_port}/"
    try:
        found = audit("--vulnerability-service", "osv", "--osv-url", there)
    finally:
        server.shutdown()
        server.server_close()
    assert found.returncode == 1, found.stderr
    assert re.search(r"^jinja2 \S+ MADE-1$", found.stdout, re.M), found.stdout
    away = audit("--vulnerability-service", "osv", "--osv-url", there)  # nobody answers any more
    assert away.returncode == 0, away.stderr
    assert away.stdout.startswith("known vulnerabilities: not checked")


def test_the_bill_of_materials_names_all_that_is_locked(tmp_path: Path) -> None:
    [command] = re.findall(r"`(cyclonedx-py [^`]+)`", DOCUMENT.read_text())
    program, *arguments = command.split()
    subprocess.run([BIN / program, *arguments, "-o", tmp_path / "sbom.json"], cwd=ROOT, check=True)
    made = json.loads((tmp_path / "sbom.json").read_text())
    assert made["bomFormat"] == "CycloneDX"
    lock = (ROOT / "deploy" / "requirements.lock").read_text()
    pins = re.findall(r"^([\w.-]+)(?:\[.*?\])?==([\w.!+]+)", lock, re.M)
    assert {(c["name"], c["version"]) for c in made["components"]} == {*pins}
    assert all(part["externalReferences"] for part in made["components"])


def test_every_test_that_the_document_names_is_there() -> None:
    named = re.findall(r"`(test_\w+)\.py`(?:: `(test_\w+)`)?", DOCUMENT.read_text())
    assert len(named) > 20
    for file, test in named:
        text = (ROOT / "sparkify_assets_tests" / f"{file}.py").read_text()
        assert f"def {test}(" in text if test else True, f"{file}: {test}"
