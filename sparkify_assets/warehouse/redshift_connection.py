"""Logs in to Redshift (password, secret or IAM, always over TLS) and translates its errors."""

import json
import logging
import re
import socket
import ssl
from typing import Any

import boto3
import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError
from redshift_connector.error import Error

from sparkify_assets.errors import SparkifyError, TransientError
from sparkify_assets.s3_access import PASSING
from sparkify_assets.settings import RedshiftSettings

CONNECT_SECONDS = 20
CONFLICTS = re.compile(
    r"^1023$|Serializable isolation violation|conflict with concurrent transaction"
    r"|could not open relation with OID|deadlock detected"
)
REMEDIES = {  # by SQLSTATE
    **dict.fromkeys(
        ("28000", "28P01", "3D000"),
        "check REDSHIFT_USER, REDSHIFT_PASSWORD or REDSHIFT_SECRET, and REDSHIFT_DATABASE",
    ),
    "42501": "the user lacks a permission. Grant it, or choose another REDSHIFT_SCHEMA",
    "57014": "it took too long, or waited too long for another run. REDSHIFT_TIMEOUT_SECONDS sets "
    "how long it may",
}
COPY_FAILURES = re.compile(
    "not authorized to (assume|get credentials)|must be addressed using the specified endpoint"
    "|S3ServiceException:Access Denied"
)
COPY_REMEDY = (
    "The role of REDSHIFT_COPY_ROLE must be attached to the cluster or namespace, and needs "
    "s3:GetObject on SPARKIFY_S3_WORK and s3:ListBucket on its bucket, whose region it must know"
)
LOGIN_KEYS = {"user": "username", "password": "password"}  # driver's name: key in the secret


class Interrupted(Exception):
    """A conflict or a broken connection: the transaction may safely run again."""


def translate_error(
    error: Exception, address: str, kind: type[SparkifyError] = SparkifyError
) -> Exception:
    """A driver's error as `Interrupted`, or as an error of this kind that says what to do."""
    said = error.args[0] if error.args and isinstance(error.args[0], dict) else None
    if said is None:
        return Interrupted(f"the connection to {address} broke off ({error})")
    message, detail = str(said.get("M", "")), str(said.get("D", ""))
    if CONFLICTS.search(message) or CONFLICTS.search(detail):
        return Interrupted(f"another transaction interfered ({detail or message})")
    remedy = COPY_REMEDY if COPY_FAILURES.search(message) else REMEDIES.get(said.get("C", ""))
    text, says = f"{message} {detail}".rstrip(), f": {remedy}." if remedy else ""
    return kind(f"{address} refused a statement", f": {text}{says}")


def _login_by_secret(settings: RedshiftSettings) -> dict[str, str]:
    """User and password from Secrets Manager, read at each login because they are rotated."""
    logging.getLogger("botocore.parsers").setLevel(logging.INFO)  # at DEBUG it logs the answer
    try:
        manager = boto3.Session(region_name=settings.region).client("secretsmanager")
        secret = manager.get_secret_value(SecretId=settings.secret)["SecretString"]
        return {name: str(json.loads(secret)[key]) for name, key in LOGIN_KEYS.items()}
    except (ClientError, BotoCoreError, ValueError, KeyError, TypeError) as error:
        kind = TransientError if isinstance(error, PASSING) else SparkifyError
        raise kind(
            f"{settings.address}: the secret of REDSHIFT_SECRET cannot be used: "
            f"{type(error).__name__}: {error}. It must be JSON with username and password, in "
            "REDSHIFT_REGION, and readable for you (secretsmanager:GetSecretValue)."
        ) from None


def connect(settings: RedshiftSettings, label: str) -> Any:
    """Opens a connection of the driver in autocommit mode.

    Raises:
        SparkifyError: the login failed; it says what to do.
    """
    login: dict[str, Any] = {"host": settings.host, "port": settings.port} if settings.host else {}
    try:
        if settings.password:
            login |= {"user": settings.user, "password": settings.password.get_secret_value()}
        elif settings.secret:
            login |= _login_by_secret(settings)
        else:
            # a wrong AWS_PROFILE fails here; the driver would guess the region from the host
            login |= {"iam": True, "region": boto3.Session(region_name=settings.region).region_name}
        if settings.workgroup:
            login |= {"is_serverless": True, "serverless_work_group": settings.workgroup}
        elif settings.cluster:
            login |= {"cluster_identifier": settings.cluster, "db_user": settings.user}
        if settings.host:  # the driver's own timeout would also abort long statements
            socket.create_connection((settings.host, settings.port), CONNECT_SECONDS).close()
        connection = redshift_connector.connect(
            database=settings.database,
            sslmode=settings.sslmode,
            application_name=f"sparkify_assets {label}",
            tcp_keepalive_idle=60,
            tcp_keepalive_interval=10,
            tcp_keepalive_count=5,
            **login,
        )
    except UnicodeError:
        raise SparkifyError(
            f"REDSHIFT_HOST is {settings.host}: it is not the name of a host."
        ) from None
    except (ClientError, BotoCoreError, ValueError) as error:  # ValueError: no region
        raise SparkifyError(
            f"{settings.address}: the login by IAM failed: {error}. Check AWS_PROFILE, its "
            "permissions and REDSHIFT_REGION, or log in again."
        ) from None
    except (Error, OSError) as error:
        # during a rotation the secret and the database briefly have different passwords
        kind = TransientError if settings.secret else SparkifyError
        refusal = translate_error(error, settings.address, kind)
        if isinstance(refusal, SparkifyError):
            raise refusal from None
        *_, cause = error, *(arg for arg in error.args if isinstance(arg, OSError))
        kind = SparkifyError if isinstance(cause, ssl.SSLError) else TransientError
        raise kind(
            f"{settings.address} cannot be reached: {cause}. Check REDSHIFT_HOST (the endpoint, "
            "without a port), REDSHIFT_PORT, and that the security group lets this machine in; "
            "behind a tunnel, set REDSHIFT_SSLMODE=verify-ca."
        ) from None
    connection.autocommit = True  # we send BEGIN and COMMIT ourselves
    return connection
