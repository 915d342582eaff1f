"""What S3 fails to do is tried again; what stays is said, and nothing of it is loaded."""

from itertools import repeat
from pathlib import Path

import boto3
import pytest

from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import Settings
from sparkify_assets.sources import s3, sources_of
from sparkify_assets_tests.s3_loader import Loader, keys, lines, source
from sparkify_assets_tests.s3_server import (
    BUCKET,
    DENIED,
    INTERNAL_ERROR,
    LISTING,
    MISSING,
    RESET,
    RESET_MIDWAY,
    SHORT,
    SLOW_DOWN,
    Fault,
    Request,
    S3Server,
)


@pytest.fixture
def loader(bucket: S3Server, tmp_path: Path) -> Loader:
    return Loader(tmp_path)


# --- What is listed --------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "size"),
    [
        (INTERNAL_ERROR, 1),
        (SLOW_DOWN, 1),
        (RESET, 1),
        (SHORT, 1),
        (SHORT, 3_000),
        (RESET_MIDWAY, 3_000),
    ],
    ids=repr,
)
def test_what_passes_is_tried_again(
    fault: Fault, size: int, bucket: S3Server, loader: Loader
) -> None:
    for number in range(5):
        bucket.put(f"log_data/{number}.json", lines(*range(number * size, (number + 1) * size)))
    bucket.fail([fault], key="1.json")
    bucket.fail([fault, fault], key="3.json")
    load = loader.load()
    assert (load.new, load.loaded, load.rejected) == (5, 5 * size, 0)
    assert loader.events() == list(range(5 * size))
    assert len(bucket.reads) == 8


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (INTERNAL_ERROR, "S3 cannot be used: .*InternalError.*reached max retries: 2"),
        (SLOW_DOWN, "S3 cannot be used: .*SlowDown"),
        (RESET, "S3 cannot be used: Connection was closed"),
        (SHORT, "S3 cannot be used: "),
        (RESET_MIDWAY, "S3 cannot be used: "),
        (DENIED, "AccessDenied.* This needs s3:ListBucket"),
        (Fault(403, "ExpiredToken"), "S3 cannot be used: .*made.*AWS_PROFILE.* log in again"),
        (Fault(403, "InvalidObjectState"), "InvalidObjectState"),
        (Fault(301, "PermanentRedirect"), "AWS_DEFAULT_REGION"),
        (MISSING, "changed while it was being loaded. Nothing was loaded"),
    ],
)
def test_what_stays_is_said_and_nothing_is_loaded(
    fault: Fault, said: str, bucket: S3Server, loader: Loader
) -> None:
    for number in range(40):
        bucket.put(f"log_data/{number}.json", lines(number))
    bucket.fail(repeat(fault), key="/7.json")
    with pytest.raises(
        SparkifyError, match=rf"(?s)^s3://{BUCKET}/log_data/7.json: .*{said}"
    ) as error:
        loader.load()
    assert "test-secret-key" not in str(error.value)
    assert error.value.__suppress_context__
    assert loader.is_empty()
    bucket.reset()
    bucket.put("log_data/a.json", lines(1))
    assert loader.load().loaded == 1


@pytest.mark.parametrize("fault", [SLOW_DOWN, INTERNAL_ERROR, RESET])
def test_a_listing_is_tried_again(fault: Fault, bucket: S3Server) -> None:
    for number in range(1_500):
        bucket.put(f"log_data/{number}.json", "{}")
    bucket.fail([fault, fault], key=LISTING)
    assert len(source().objects()) == 1_500
    assert len(bucket.requests) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            DENIED,
            "S3 cannot be used: .*AccessDenied.* s3:ListBucket .*SPARKIFY_S3_ANONYMOUS=true",
        ),
        (Fault(400, "ExpiredToken"), "S3 cannot be used: .*made.*AWS_PROFILE.* log in again"),
        (SLOW_DOWN, "S3 cannot be used: .*SlowDown"),
    ],
)
def test_a_listing_that_stays_refused_is_said(
    fault: Fault, said: str, bucket: S3Server, loader: Loader
) -> None:
    bucket.put("log_data/a.json", lines(1))
    bucket.fail(repeat(fault), key=LISTING)
    with pytest.raises(SparkifyError, match=rf"^s3://{BUCKET}/log_data/: {said}"):
        loader.load()
    assert loader.is_empty()


@pytest.mark.faults
@pytest.mark.parametrize("part", [64_000_000, 1_000])
@pytest.mark.parametrize("change", ["replaced", "truncated", "deleted"])
def test_object_that_changes_after_the_listing(
    change: str, part: int, bucket: S3Server, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", part)
    key = "log_data/b.json"
    bucket.put("log_data/a.json", lines(*range(10)))
    loader.load()
    before = loader.query("FROM load_history"), loader.events()
    content = lines(*range(10, 50))
    bucket.put(key, content)
    reads = []

    def at_the_last_read(request: Request) -> None:
        if request.key == key:
            reads.append(request)
            if len(reads) == -(-len(content) // part):
                if change == "deleted":
                    bucket.delete(key)
                else:
                    bucket.put(key, lines(*range(60, 100)) if change == "replaced" else "")

    bucket.before = at_the_last_read
    with pytest.raises(SparkifyError, match=r"b\.json: changed while it was being loaded"):
        loader.load()
    assert (loader.query("FROM load_history"), loader.events()) == before
    bucket.before = lambda request: None
    loader.load()
    added = {"replaced": list(range(60, 100))}.get(change, [])
    assert loader.events() == [*range(10), *added]


def test_a_bucket_that_is_not_there(bucket: S3Server) -> None:
    with pytest.raises(SparkifyError, match=r"^s3://no-such/x/: there is no such bucket"):
        source("x", bucket="no-such").objects()
    with pytest.raises(
        SparkifyError, match=r'(?s)^s3://No_Such!/x/: .*Invalid bucket name "No_Such!"'
    ):
        source("x", bucket="No_Such!").objects()


def test_nobody_at_the_address(bucket: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(SparkifyError, match=r"S3 cannot be used: .*127.0.0.1:9/.*AWS_ENDPOINT"):
        source().objects()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://etl:test-secret-key@127.0.0.1:9")
    with pytest.raises(SparkifyError, match=r"http://\*\*\*@127") as error:
        source().objects()
    assert "test-secret-key" not in str(error.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "127.0.0.1:9")
    with pytest.raises(SparkifyError, match="S3 cannot be used: Invalid endpoint"):
        source().objects()


def test_credentials_are_found_or_asked_for(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> list[str]:
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # as in a process of its own
        return keys()

    bucket.put("log_data/a.json", lines(1))
    assert found()
    assert "AKIATESTTESTTEST" in bucket.requests[-1].headers["AUTHORIZATION"]
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(
        SparkifyError, match=r"Partial credentials.* missing: AWS_SECRET"
    ) as partial:
        found()
    assert "AKIATESTTESTTEST" not in str(partial.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SparkifyError, match=r"Unable to locate credentials.*SPARKIFY_S3_ANONYMOUS"):
        found()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SparkifyError, match=r"S3 cannot be used: .*profile \(nobody\)"):
        found()


def test_anonymous_access(
    bucket: S3Server, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    bucket.put("log_data/a.json", lines(1), public=True)
    settings = Settings(song_data="x", log_data=f"s3://{BUCKET}/log_data/", s3_anonymous=True)
    assert loader.load(sources_of(settings)["event_files"]).loaded == 1
    assert len(bucket.requests) == 2
    assert all("AUTHORIZATION" not in request.headers for request in bucket.requests)


# --- Temporary folders -----------------------------------------------------------------------
