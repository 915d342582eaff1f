"""The login by a secret: moto's Secrets Manager keeps it, the stand-in for Redshift checks it."""

import json
import logging
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, EndpointConnectionError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.secretsmanager.models import secretsmanager_backends

from sparkify_assets.errors import SparkifyError, TransientError
from sparkify_assets.settings import RedshiftSettings
from sparkify_assets_tests import redshift_server
from sparkify_assets_tests.platform import RedshiftPlatform
from sparkify_assets_tests.redshift_work import load
from sparkify_assets_tests.s3_server import S3Server

NAME = "redshift!sparkify-etl"


@pytest.fixture
def platform(
    redshift: RedshiftPlatform, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> RedshiftPlatform:
    """Settings that name a secret, and neither user nor password; there is none yet."""
    for name in ("REDSHIFT_USER", "REDSHIFT_PASSWORD"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("REDSHIFT_REGION", "us-west-2")
    monkeypatch.setenv("REDSHIFT_SECRET", NAME)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", s3_server.url)
    secretsmanager_backends[DEFAULT_ACCOUNT_ID].reset()
    return redshift


def store(**secret: Any) -> None:
    """Keeps a secret, or its next version."""
    manager = boto3.client("secretsmanager", "us-west-2")
    try:
        manager.create_secret(Name=NAME, **secret)
    except manager.exceptions.ResourceExistsException:
        manager.put_secret_value(SecretId=NAME, **secret)


def login(user: str, password: str) -> str:
    return json.dumps({"engine": "redshift", "username": user, "password": password})


def test_each_login_reads_it_again(
    made: RedshiftPlatform,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It is rotated between two loads; and at no level is a password logged."""
    user, old, new = made.server.user, made.server.password, "Rotated-2"
    store(SecretString=login(user, old))
    assert load(made).loaded == 5
    monkeypatch.setattr(redshift_server, "PASSWORD", new)
    with pytest.raises(TransientError, match=r"authentication failed .*REDSHIFT_SECRET") as error:
        load(made)
    store(SecretString=login(user, new))
    with caplog.at_level(logging.DEBUG):
        assert load(made).unchanged == 1
    said = caplog.text + "".join(capfd.readouterr()) + str(error.value)
    said += repr(RedshiftSettings.from_environment())
    assert "secretsmanager.GetSecretValue" in said  # it was listened to
    assert old not in said
    assert new not in said


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ({}, "ResourceNotFoundException"),
        ({"SecretString": "T0P-SECRET"}, "JSONDecodeError"),
        ({"SecretString": '["T0P-SECRET"]'}, "TypeError"),
        ({"SecretString": '{"password": "T0P-SECRET"}'}, "KeyError: 'username'"),
        ({"SecretBinary": b"T0P-SECRET"}, "KeyError: 'SecretString'"),
    ],
)
def test_a_secret_that_is_none(secret: dict[str, Any], said: str, made: RedshiftPlatform) -> None:
    if secret:
        store(**secret)
    with pytest.raises(
        SparkifyError, match=rf"sparkify_test on .*{said}.* username and p"
    ) as error:
        load(made)
    assert not isinstance(error.value, TransientError)
    assert "T0P-SECRET" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            ClientError(
                {"Error": {"Code": "AccessDeniedException", "Message": "No."}}, "GetSecretValue"
            ),
            SparkifyError,
            "AccessDeniedException.*secretsmanager:GetSecretValue",
        ),
        (
            EndpointConnectionError(endpoint_url="https://there"),
            TransientError,
            "Could not connect",
        ),
    ],
)
def test_no_permission_and_no_answer(
    error: Exception,
    kind: type[SparkifyError],
    said: str,
    made: RedshiftPlatform,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(BaseClient, "_make_api_call", fail)
    with pytest.raises(SparkifyError, match=said) as raised:
        load(made)
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SECRET": '{"password": "T0P-SECRET"}'}, "REDSHIFT_SECRET is wrong: it is nei"),
        ({"PASSWORD": "T0P-SECRET", "USER": "etl"}, "choose one way to log in"),
        ({"HOST": ""}, "REDSHIFT_SECRET with REDSHIFT_HOST"),
    ],
)
def test_wrong_settings(
    variables: dict[str, str], said: str, made: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"REDSHIFT_{name}", value)
    with pytest.raises(SparkifyError, match=said) as error:
        RedshiftSettings.from_environment()
    assert "T0P-SECRET" not in str(error.value)
