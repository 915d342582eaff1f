"""Ways into Redshift, by password and by IAM; where there is none that is said, and no secret."""

import logging
import re
import socket
from collections.abc import Iterator
from typing import Any

import boto3
import dagster as dg
import pytest
import redshift_connector

from sparkify_assets.errors import SparkifyError
from sparkify_assets_tests.platform import (
    RedshiftPlatform,
    failure_of,
)
from sparkify_assets_tests.redshift_server import Fault
from sparkify_assets_tests.redshift_work import load
from sparkify_assets_tests.s3_server import S3Server


@pytest.fixture
def platform(redshift: RedshiftPlatform) -> RedshiftPlatform:
    return redshift


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"REDSHIFT_HOST": "no-such-host.invalid"},
            "cannot be reached: .*not known. Check REDSHIFT_HOST",
        ),
        (
            {"REDSHIFT_PORT": "9"},
            "cannot be reached: .*refused. Check REDSHIFT_HOST .* REDSHIFT_P",
        ),
        (
            {"REDSHIFT_PASSWORD": "wrong-word"},
            "password authentication failed .*: check REDSHIFT_USER",
        ),
        ({"REDSHIFT_DATABASE": "nowhere"}, "does not exist: check .* REDSHIFT_DATABASE"),
        ({"REDSHIFT_HOST": "localhost"}, "Hostname mismatch.*REDSHIFT_SSLMODE=verify-ca"),
        ({"SSL_CERT_FILE": "/dev/null"}, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_no_connection(
    variables: dict[str, str], said: str, made: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    failed = failure_of(made.run("staging_events"))
    assert re.search(said, failed), failed
    assert failed.startswith(f"{variables.get('REDSHIFT_DATABASE', 'dev')}.sparkify_test on ")
    assert failed.count("sparkify_test on ") == 1
    assert failed.endswith(".") and not failed.endswith("..")
    assert "wrong-word" not in failed
    assert made.server.password not in failed


def test_a_tunnel(made: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDSHIFT_HOST", "localhost")
    monkeypatch.setenv("REDSHIFT_SSLMODE", "verify-ca")
    assert load(made).loaded == 5


def test_a_host_that_cannot_be_one(made: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDSHIFT_HOST", "cluster..example")
    said = r"^REDSHIFT_HOST is cluster\.\.example: it is not the name of a host\.$"
    with pytest.raises(SparkifyError, match=said):
        load(made)


def test_no_permission(made: RedshiftPlatform) -> None:
    made.server.fail(
        Fault("42501", "permission denied for schema sparkify_test"), matching="CREATE TABLE"
    )
    with pytest.raises(SparkifyError, match=r"permission denied .*: the user lacks a permission"):
        load(made)


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the driver is told to connect by, in place of a connection."""
    told: list[dict[str, Any]] = []

    def connect(**arguments: Any) -> None:
        told.append(arguments)
        raise OSError("no cluster here")

    monkeypatch.setattr(redshift_connector, "connect", connect)
    yield told


@pytest.mark.parametrize(
    ("variables", "ways"),
    [
        (
            {"REDSHIFT_CLUSTER": "c", "REDSHIFT_USER": "u", "REDSHIFT_REGION": "us-west-2"},
            {"iam": True, "cluster_identifier": "c", "db_user": "u", "region": "us-west-2"},
        ),
        (
            {"REDSHIFT_WORKGROUP": "w", "REDSHIFT_USER": ""},
            {"iam": True, "is_serverless": True, "serverless_work_group": "w"},
        ),
    ],
)
def test_ways_in_by_iam(
    variables: dict[str, str],
    ways: dict[str, Any],
    made: RedshiftPlatform,
    caught: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("REDSHIFT_HOST", "REDSHIFT_PASSWORD"):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SparkifyError, match=r"dev.sparkify_test on [cw] cannot be reached"):
        load(made)
    [told] = caught
    assert ways.items() <= told.items()
    assert not {"host", "password", "timeout"} & told.keys()
    assert told["sslmode"] == "verify-full"
    assert told["tcp_keepalive_idle"] == 60


NO_PROFILE = "login by IAM failed: .*profile .nope. .*Check AWS_PROFILE"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_PROFILE": "nope"}, NO_PROFILE),
        ({"AWS_PROFILE": "nope", "REDSHIFT_REGION": "us-west-2"}, NO_PROFILE),
        ({"AWS_DEFAULT_REGION": ""}, "login by IAM failed: .*REDSHIFT_REGION"),
    ],
)
def test_no_way_in_by_iam(
    variables: dict[str, str],
    said: str,
    made: RedshiftPlatform,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("REDSHIFT_HOST", "REDSHIFT_PASSWORD"):
        monkeypatch.delenv(name)
    for name, value in {"REDSHIFT_WORKGROUP": "w", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SparkifyError, match=rf"dev.sparkify_test on w.* {said}"):
        load(made)


@pytest.mark.parametrize("is_named", [True, False], ids=["host", "no host"])
def test_no_answer(
    is_named: bool,
    made: RedshiftPlatform,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connect(*address: object, **arguments: object) -> None:
        raise TimeoutError("timed out")

    if is_named:
        monkeypatch.setattr(socket, "create_connection", connect)
    else:
        monkeypatch.delenv("REDSHIFT_HOST")
        monkeypatch.delenv("REDSHIFT_PASSWORD")
        monkeypatch.setenv("REDSHIFT_WORKGROUP", "w")
        monkeypatch.setattr(redshift_connector, "connect", connect)
    with pytest.raises(SparkifyError, match=r"cannot be reached: timed out\..*security group"):
        load(made)


def test_a_login_by_iam(
    made: RedshiftPlatform, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moto hands out credentials for a cluster whose endpoint is the stand-in's."""
    for name in ("REDSHIFT_HOST", "REDSHIFT_PASSWORD"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDSHIFT_CLUSTER", "listening")
    monkeypatch.setenv("REDSHIFT_USER", "etl")
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT", s3_server.url)
    with pytest.raises(SparkifyError, match=r"on listening: the login by IAM failed: .*NotFound"):
        load(made)
    boto3.client("redshift").create_cluster(
        ClusterIdentifier="listening",
        NodeType="ra3.large",
        MasterUsername="owner",
        MasterUserPassword="Password-1",
    )
    endpoint = {"Address": made.server.host, "Port": made.server.port}
    monkeypatch.setattr("moto.redshift.models.Cluster.endpoint", endpoint)
    assert load(made).loaded == 5


def test_nothing_secret_is_said(
    made: RedshiftPlatform, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger="dagster"):
        result = made.make("users")
    assert result.success
    said = caplog.text + "".join(capfd.readouterr()) + repr(result.all_events)
    assert "staging_events" in said
    assert made.server.password not in said
    assert dg.serialize_value(result.dagster_run).find(made.server.password) == -1


# --- What only a cluster can tell ------------------------------------------------------------
