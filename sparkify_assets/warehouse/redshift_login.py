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


def connect(settings: RedshiftSettings, *, address: str, label: str) -> Any:
    """A connection of the driver, on which every statement is committed by itself.

    Raises:
        SparkifyError: the login failed; it says what to do.
    """
    login: dict[str, Any] = {"iam": True, "region": settings.region}
    if settings.cluster:
        login |= {"cluster_identifier": settings.cluster, "db_user": settings.user}
    elif settings.workgroup:
        login |= {"is_serverless": True, "serverless_work_group": settings.workgroup}
    elif settings.password:
        login = {"user": settings.user, "password": settings.password.get_secret_value()}
    if settings.host:
        login |= {"host": settings.host, "port": settings.port}
    try:
        if login.get("iam") and not settings.region:  # the driver would guess it from host names
            login["region"] = boto3.Session().region_name
            if not login["region"]:
                raise SparkifyError(
                    f"{address}: the login by IAM needs a region. Set REDSHIFT_REGION, or "
                    "AWS_DEFAULT_REGION."
                )
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
            f"{address}: the login by IAM failed: {error}. "
            "Check AWS_PROFILE and its permissions, or log in again."
        ) from None
    except (Error, OSError) as error:
        raise connection_error(error, address) from None
    connection.autocommit = True  # transactions are begun and ended by statements
    return connection
