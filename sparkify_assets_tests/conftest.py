"""Fixtures that several test files use."""

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import botocore.loaders
import botocore.session
import pytest
import trustme
from dagster._core.storage.event_log.in_memory import InMemoryEventLogStorage
from filelock import FileLock
from hypothesis import HealthCheck, settings
from redshift_connector.cursor import Cursor
from sqlglot import exp
from sqlglot.schema import MappingSchema

from benchmarks import simulator
from sparkify_assets import catalog, dialect, failures, s3_access, scratch
from sparkify_assets.sources import s3
from sparkify_assets.warehouse import landing
from sparkify_assets_tests import star
from sparkify_assets_tests.platform import (
    REAL_FILES,
    LivePlatform,
    Platform,
    RedshiftPlatform,
    failure_of,
)
from sparkify_assets_tests.redshift_client import PLAYS, connect
from sparkify_assets_tests.redshift_server import RedshiftServer
from sparkify_assets_tests.s3_server import S3Server, environment

USER_ENVIRONMENT = dict(os.environ)

# Property tests try the same examples each time. For others, and 20 times as many:
# pytest --hypothesis-profile=search -k "equals_rebuilt or streams or damaged_bytes or any_mix"
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile(
    "search", settings.get_profile("repeatable"), derandomize=False, max_examples=2_000
)
settings.load_profile("repeatable")

# What tests would often pay for, each time the same: a tenth of a second for boto3's descriptions
# of S3, threads of DuckDB for a handful of rows, four milliseconds for each query of `sql/`, and a
# millisecond for each event of a run: the store in memory opens its database for it, and asks
# whether it has the tables it was made with.
LOADER = botocore.loaders.create_loader()
botocore.session.create_loader = lambda search_path_string=None: LOADER
landing.CONFIG["threads"] = 1


def verify_once(
    query: exp.Query, path: Path, schema: MappingSchema, declared: dict[str, str]
) -> None:
    """Queries are right where the same ones were, on the same tables."""
    question = hash((query.sql(), str(schema.mapping), str(declared)))
    if question not in VERIFIED:
        dialect.verify_query(query, path, schema, declared)
        VERIFIED.add(question)


VERIFIED = set[int]()
catalog.verify_query = verify_once  # type: ignore[attr-defined]


@contextmanager
def held_connection(store: InMemoryEventLogStorage) -> Iterator[Any]:
    with store._db_lock, store._held_conn.begin():
        yield store._held_conn


InMemoryEventLogStorage._connect = held_connection  # type: ignore[method-assign, assignment]
InMemoryEventLogStorage.has_table = lambda store, name: True  # type: ignore[method-assign, assignment]


def pytest_collection_finish() -> None:
    """No garbage is looked for in all that was imported."""
    gc.freeze()


@pytest.hookimpl(trylast=True)  # after they are shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every worker begins with the slow ones of its share, so that none is left for the end."""
    share = -(-len(items) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
    shares = [items[start : start + share] for start in range(0, len(items), share or 1)]
    items[:] = [i for s in shares for i in sorted(s, key=lambda i: "faults" not in i.keywords)]


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of whoever runs the tests reaches them, or is touched."""
    for name in [
        name
        for name in os.environ
        if name.startswith(("SPARKIFY_", "DAGSTER_", "AWS_", "REDSHIFT_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(failures, "RETRY_SECONDS", (0, 0))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it would keep those of the test before
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LivePlatform]:
    """An empty platform on the cluster or workgroup of the user's own environment."""
    work = USER_ENVIRONMENT.get("SPARKIFY_S3_WORK")
    if not work or not {"REDSHIFT_HOST", "REDSHIFT_CLUSTER", "REDSHIFT_WORKGROUP"} & set(
        USER_ENVIRONMENT
    ):
        pytest.skip("REDSHIFT_* and SPARKIFY_S3_WORK name no cluster to run this on")
    for name, value in USER_ENVIRONMENT.items():
        if name.startswith(("AWS_", "REDSHIFT_")):
            monkeypatch.setenv(name, value)
    schema = f"sparkify_test_{uuid4().hex[:12]}"
    monkeypatch.setenv("REDSHIFT_SCHEMA", schema)
    platform = LivePlatform(tmp_path, schema, work)
    yield platform
    platform.change(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """An empty platform over folders that the test fills."""
    return Platform(tmp_path)


def made_once(
    factory: pytest.TempPathFactory, name: str, fill: Callable[[Platform], None]
) -> Platform:
    """A platform that one process of a test run fills and publishes, for all of them to read."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        platform = Platform(folder)
        if not folder.exists():
            folder.mkdir()
            fill(platform)
            result = platform.run()
            assert result.success, failure_of(result)
        return platform


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The sample data, loaded and published; for tests that only read."""

    def fill(platform: Platform) -> None:
        simulator.write_song_files(platform.song_data, simulator.Plan())
        simulator.write_event_files(platform.log_data, simulator.Plan())

    return made_once(tmp_path_factory, "sample", fill)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The real "project 1" files, loaded and published; for tests that only read."""

    def fill(platform: Platform) -> None:
        for folder in (platform.song_data, platform.log_data):
            folder.symlink_to(REAL_FILES / folder.name)

    if not REAL_FILES.is_dir():
        pytest.skip("the real files are not part of the project")
    return made_once(tmp_path_factory, "real", fill)


@pytest.fixture(scope="session")
def events(sample: Platform) -> list[star.Record]:
    """The records of the sample's event files."""
    return star.records(sample.log_data)


@pytest.fixture(scope="session")
def catalogue(sample: Platform) -> list[star.Record]:
    """The records of the sample's song files."""
    return star.records(sample.song_data)


@pytest.fixture(scope="session")
def s3_server() -> S3Server:
    return S3Server()


@pytest.fixture
def bucket(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[S3Server]:
    """An empty bucket; three attempts, and a folder for temporary files that is empty again."""
    s3_server.reset()
    for name, value in environment(s3_server.url).items():
        monkeypatch.setenv(name, value)
    for module in (s3_access, s3):
        monkeypatch.setattr(module, "ATTEMPTS", 3)
    scratch_folders = tmp_path / "tmp"
    scratch_folders.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch_folders))
    yield s3_server
    assert list(scratch_folders.glob(f"{scratch.NAME}*")) == []


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of an authority that nobody knows, and a server's with its key."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    server = authority.issue_cert("127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder / "authority.pem", folder / "server.pem"


@pytest.fixture(scope="session")
def one_redshift(s3_server: S3Server, certificates: tuple[Path, Path]) -> Iterator[RedshiftServer]:
    server = RedshiftServer(s3_server, tls=(certificates[1], certificates[1]))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def plain_redshift(s3_server: S3Server) -> Iterator[RedshiftServer]:
    server = RedshiftServer(s3_server)
    yield server
    server.stop()


@pytest.fixture
def stand_in(plain_redshift: RedshiftServer, s3_server: S3Server) -> RedshiftServer:
    """The stand-in for Redshift alone, empty and without TLS, over an empty bucket."""
    s3_server.reset()
    plain_redshift.reset()
    return plain_redshift


@pytest.fixture
def cursor(stand_in: RedshiftServer) -> Cursor:
    """Of the driver, over the stand-in alone and an empty table of plays."""
    cursor = connect(stand_in).cursor()
    cursor.execute(PLAYS)
    stand_in.statements.clear()
    return cursor


@pytest.fixture
def redshift(
    one_redshift: RedshiftServer,
    s3_server: S3Server,
    certificates: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> RedshiftPlatform:
    """An empty platform on the stand-in for Redshift, and on an S3 of its own."""
    one_redshift.reset()
    s3_server.reset()
    environ = environment(s3_server.url) | {
        "SSL_CERT_FILE": str(certificates[0]),
        "REDSHIFT_HOST": one_redshift.host,
        "REDSHIFT_PORT": str(one_redshift.port),
        "REDSHIFT_DATABASE": one_redshift.database,
        "REDSHIFT_SCHEMA": RedshiftPlatform.schema,
        "REDSHIFT_USER": one_redshift.user,
        "REDSHIFT_PASSWORD": one_redshift.password,
        "REDSHIFT_COPY_ROLE": "arn:aws:iam::123456789012:role/sparkify-copy",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return RedshiftPlatform(tmp_path, one_redshift)


@pytest.fixture(params=["duckdb", "redshift", pytest.param("live", marks=pytest.mark.redshift)])
def either_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Platform:
    """An empty platform on each engine, for tests of both."""
    if request.param == "duckdb":
        return Platform(tmp_path)
    redshift: RedshiftPlatform = request.getfixturevalue(request.param)
    return redshift


@pytest.fixture(params=["redshift", pytest.param("live", marks=pytest.mark.redshift)])
def made_on_redshift(request: pytest.FixtureRequest) -> RedshiftPlatform:
    """Made data, nothing of it loaded: on the stand-in, and on a cluster that there may be."""
    found: RedshiftPlatform = request.getfixturevalue(request.param)
    write_made_data(found)
    return found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits before it tries again."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def write_made_data(platform: Platform) -> None:
    """Three songs and five events, four of them plays."""
    platform.write_songs(
        [
            {"song_id": "SO1", "title": "Made"},
            {"song_id": "SO2", "title": "Late", "artist_id": "AR2", "artist_name": "Nina"},
            {"song_id": "SO3", "title": "Unplayed", "year": 1999},
        ]
    )
    bo = {"userId": "8", "firstName": "Bo", "sessionId": 2, "level": "paid"}
    platform.write_events(
        [
            {"page": "Home", "song": None, "artist": None, "length": None},
            {"ts": 1541105831796},
            {"ts": 1541105999796, "song": "Late", "artist": "Nina"},
            {"ts": 1541106000796, "song": "Unknown", "artist": "Nobody"},
            {"ts": 1541106999796, **bo},
        ]
    )


@pytest.fixture
def made(platform: Platform) -> Platform:
    """A platform with made data, nothing of it loaded."""
    write_made_data(platform)
    return platform


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A platform with made data, all of it published; for `published` to copy."""
    return made_once(tmp_path_factory, "published", write_made_data)


@pytest.fixture
def published(platform: Platform, published_once: Platform, tmp_path: Path) -> Platform:
    """A platform with made data, all of it published; a test may change everything but the data."""
    if isinstance(platform, RedshiftPlatform):
        platform.settings |= {
            name: published_once.settings[name] for name in ("song_data", "log_data")
        }
        platform.copy_tables_of(published_once)
        return platform
    shutil.copy(published_once.warehouse, tmp_path)
    return Platform(
        tmp_path, song_data=str(published_once.song_data), log_data=str(published_once.log_data)
    )
