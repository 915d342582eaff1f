"""How Amazon S3, and what speaks its API, is reached, and what its errors mean.

Endpoint, region and credentials are found as by every AWS tool: `AWS_ENDPOINT_URL_S3`,
`AWS_DEFAULT_REGION`, `AWS_PROFILE`, `AWS_ACCESS_KEY_ID` ..., files in `~/.aws`, the machine's role.
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
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from sparkify_assets.errors import SparkifyError

CONNECTIONS = 32  # requests at once
ATTEMPTS = 5  # of a request
TIMEOUT_SECONDS = 20  # for a connection, and for the next bytes on it

CREDENTIALS = "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
ANONYMOUS = "; for a public bucket, SPARKIFY_S3_ANONYMOUS=true"  # to read, not to write
READING = "s3:ListBucket on the bucket and s3:GetObject on its objects"
REMEDIES = {
    ("NoSuchBucket",): "there is no such bucket. Check the address",
    ("NoSuchKey", "PreconditionFailed"): "changed while it was being loaded. Nothing was loaded: "
    "run it again when it is complete",
    ("AccessDenied", "403"): f"access is denied. This needs {{needs}}. {CREDENTIALS}",
    (
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
        "RequestTimeTooSkewed",
    ): f"{{message}} {CREDENTIALS}, log in again, and check this machine's clock",
    (
        *("PermanentRedirect", "AuthorizationHeaderMalformed"),
        "IllegalLocationConstraintException",
    ): "the bucket is in another region. Set AWS_DEFAULT_REGION to its region",
    ("InvalidObjectState",): "is archived (Glacier). Restore it first",
}


def s3_client(*, anonymous: bool = False) -> Any:
    """A client that many threads may use at once.

    Raises:
        SparkifyError: the AWS configuration is wrong.
    """
    config = Config(
        max_pool_connections=CONNECTIONS,
        connect_timeout=TIMEOUT_SECONDS,
        read_timeout=TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        signature_version=UNSIGNED if anonymous else None,
    )
    try:
        return boto3.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise SparkifyError(f"S3: wrong AWS configuration: {error}") from None


@contextmanager
def s3_errors_explained(uri: str, needs: str = READING) -> Iterator[None]:
    """Raises what goes wrong at a URI as a SparkifyError; `needs` are the permissions it takes."""
    try:
        yield
    except ClientError as error:
        code, message = (error.response.get("Error", {}).get(k, "") for k in ("Code", "Message"))
        remedies = [remedy for codes, remedy in REMEDIES.items() if code in codes]
        problem = (remedies or [f"S3 says: {error}"])[0]
        problem = problem.replace("{needs}", needs).replace("{message}", message)
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        problem = f"{error}. {CREDENTIALS}"
    except (EndpointConnectionError, ConnectTimeoutError) as error:
        problem = f"S3 cannot be reached: {error} Check the network and AWS_ENDPOINT_URL_S3"
    except (BotoCoreError, ResponseParserError) as error:
        problem = f"S3 cannot be read: {error}"
    else:
        return
    if needs == READING:
        problem = problem.replace(CREDENTIALS, CREDENTIALS + ANONYMOUS)
    raise SparkifyError(f"{uri}: {problem}.") from None
