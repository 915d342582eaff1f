"""A client for Amazon S3 or a compatible server, and explanations of its errors.

Endpoint, region and credentials come from where every AWS tool looks: `AWS_*` variables, `~/.aws`,
the machine's role.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError

from sparkify_assets.errors import SparkifyError, TransientError

CONNECTIONS = 32  # requests at once
ATTEMPTS = 5  # of a request
TIMEOUT_SECONDS = 20  # for a connection, and for the next bytes on it

PASSING = (ConnectionError, HTTPClientError, IncompleteReadError, ResponseParserError)
SERVER_ERROR = 500

READING = (
    "s3:ListBucket on the bucket and s3:GetObject on its objects, or, for a public bucket, "
    "SPARKIFY_S3_ANONYMOUS=true"
)
CHANGED = "changed while it was being loaded. Nothing was loaded: run it again when it is complete"
REMEDIES = {  # by code
    "NoSuchBucket": "there is no such bucket. Check the address",
    "NoSuchKey": CHANGED,
    "PreconditionFailed": CHANGED,
}


def s3_client(*, anonymous: bool = False) -> Any:
    """A thread-safe client."""
    config = Config(
        max_pool_connections=CONNECTIONS,
        connect_timeout=TIMEOUT_SECONDS,
        read_timeout=TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        signature_version=UNSIGNED if anonymous else None,
    )
    return boto3.client("s3", config=config)


@contextmanager
def s3_errors_explained(uri: str, needs: str = READING) -> Iterator[None]:
    """Turns an S3 error into a SparkifyError that names `uri` and the permissions it `needs`."""
    try:
        yield
    # a wrong endpoint is a ValueError
    except (ClientError, BotoCoreError, ResponseParserError, ValueError) as error:
        answer = error.response if isinstance(error, ClientError) else {}
        remedy = REMEDIES.get(answer.get("Error", {}).get("Code", ""))
        problem = remedy or (
            f"S3 cannot be used: {error}. Check AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, log in again, or check AWS_DEFAULT_REGION, "
            f"AWS_ENDPOINT_URL_S3 and the network. This needs {needs}"
        )
        may_pass = isinstance(error, PASSING) or (
            answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= SERVER_ERROR
        )
        kind = TransientError if may_pass else SparkifyError
        raise kind(f"{uri}: {problem}.") from None
