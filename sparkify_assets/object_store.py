"""Amazon S3, and what speaks its API: a client, and in words what went wrong.

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
from dagster_aws.s3 import S3Resource

from sparkify_assets.errors import SparkifyError

CONNECTIONS = 32  # requests at once
PATIENCE_SECONDS = 20  # for a connection, and for the next bytes on it

CREDENTIALS = "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
OR_NONE = "; for a public bucket, SPARKIFY_S3_ANONYMOUS=true"  # not to write to it
READING = "s3:ListBucket on the bucket and s3:GetObject on its objects"
DENIED = f"access is denied. This needs {{needs}}. {CREDENTIALS}"
REGION = "the bucket is in another region. Set AWS_DEFAULT_REGION to its region"
CHANGED = "changed while it was being loaded. Nothing was loaded: run it again when it is complete"
IN_WORDS = {
    "NoSuchBucket": "there is no such bucket. Check the address",
    "NoSuchKey": CHANGED,
    "PreconditionFailed": CHANGED,
    "AccessDenied": DENIED,
    "403": DENIED,
    "InvalidAccessKeyId": f"these credentials are unknown. {CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key does not fit the access key. {CREDENTIALS}",
    "ExpiredToken": f"the credentials have expired: log in again. {CREDENTIALS}",
    "InvalidToken": f"the session token is not valid. {CREDENTIALS}",
    "RequestTimeTooSkewed": "this machine's clock is wrong. Set it",
    "PermanentRedirect": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "InvalidObjectState": "is archived (Glacier). Restore it first",
}


class ObjectStore(S3Resource):
    """dagster-aws' S3 resource with more connections and less patience than its client has."""

    def get_client(self) -> Any:
        """A client that many threads may use at once.

        Raises:
            SparkifyError: the AWS configuration is wrong.
        """
        config = Config(
            max_pool_connections=CONNECTIONS,
            connect_timeout=PATIENCE_SECONDS,
            read_timeout=PATIENCE_SECONDS,
            retries={"mode": "standard", "total_max_attempts": self.max_attempts},
            signature_version=UNSIGNED if self.use_unsigned_session else None,
        )
        try:
            session = boto3.session.Session(profile_name=self.profile_name)
            return session.client(
                "s3", region_name=self.region_name, endpoint_url=self.endpoint_url, config=config
            )
        except (BotoCoreError, ValueError) as error:
            raise SparkifyError(f"S3: wrong AWS configuration: {error}") from None


@contextmanager
def s3_errors_in_words(uri: str, needs: str = READING) -> Iterator[None]:
    """Raises what goes wrong with an object, or a folder of them, as a SparkifyError.

    Args:
        uri: what is read or written.
        needs: the permissions that this takes.
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        words = IN_WORDS.get(code, f"S3 says: {error}").replace("{needs}", needs)
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        words = f"{error}. {CREDENTIALS}"
    except (EndpointConnectionError, ConnectTimeoutError) as error:
        words = f"S3 cannot be reached: {error} Check the network and AWS_ENDPOINT_URL_S3"
    except (BotoCoreError, ResponseParserError) as error:
        words = f"S3 cannot be read: {error}"
    else:
        return
    if needs == READING:
        words = words.replace(CREDENTIALS, CREDENTIALS + OR_NONE)
    raise SparkifyError(f"{uri}: {words}.") from None
