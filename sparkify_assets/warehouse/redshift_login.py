"""How Redshift is logged in to: by password or by IAM, always over TLS."""

import socket
from typing import Any

import boto3
import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError
from redshift_connector.error import Error

from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import RedshiftSettings
from sparkify_assets.warehouse.redshift_errors import connection_error

CONNECT_SECONDS = 20


def connect(settings: RedshiftSettings, label: str) -> Any:
    """A connection of the driver, on which every statement is committed by itself.

    Raises:
        SparkifyError: the login failed; it says what to do.
    """
    login: dict[str, Any] = {"host": settings.host, "port": settings.port} if settings.host else {}
    try:
        if settings.password:
            login |= {"user": settings.user, "password": settings.password.get_secret_value()}
        else:
            login |= _login_by_iam(settings)
        if settings.host:  # the driver's own timeout would go on to end long statements
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
    except (ClientError, BotoCoreError) as error:
        raise SparkifyError(
            f"{settings.address}: the login by IAM failed: {error}. "
            "Check AWS_PROFILE and its permissions, or log in again."
        ) from None
    except (Error, OSError) as error:
        raise connection_error(error, settings.address) from None
    connection.autocommit = True  # transactions are begun and ended by statements
    return connection


def _login_by_iam(settings: RedshiftSettings) -> dict[str, Any]:
    session = boto3.Session()  # here a wrong AWS_PROFILE is an error that says so
    region = settings.region or session.region_name
    if not region:  # the driver would guess it from host names
        raise SparkifyError(
            f"{settings.address}: the login by IAM needs a region. Set REDSHIFT_REGION, or "
            "AWS_DEFAULT_REGION."
        )
    if settings.workgroup:
        way = {"is_serverless": True, "serverless_work_group": settings.workgroup}
    else:
        way = {"cluster_identifier": settings.cluster, "db_user": settings.user}
    return {"iam": True, "region": region, **way}
