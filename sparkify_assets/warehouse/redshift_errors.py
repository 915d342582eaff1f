"""What errors of the Redshift driver mean: try again, or a message that says what to do."""

import re
import socket
import ssl

from sparkify_assets.errors import SparkifyError

CONFLICTS = re.compile(
    r"^1023$|Serializable isolation violation|conflict with concurrent transaction"
    r"|could not open relation with OID|deadlock detected"
)
LOGIN = "the user or its password is wrong. Set REDSHIFT_USER and REDSHIFT_PASSWORD"
REMEDIES = {  # by SQLSTATE
    "28000": LOGIN,
    "28P01": LOGIN,
    "3D000": "there is no such database. Set REDSHIFT_DATABASE",
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
NO_CONNECTION = (  # the first that fits
    (
        socket.gaierror,
        "the host name does not resolve. Set REDSHIFT_HOST to the endpoint, without a port",
    ),
    (TimeoutError, "it does not answer. Its security group must let this machine in"),
    (
        ssl.SSLError,
        "its certificate is not trusted: {cause}. Set REDSHIFT_HOST to the endpoint itself, or, "
        "behind a tunnel, REDSHIFT_SSLMODE=verify-ca",
    ),
    (OSError, "it cannot be reached: {cause}. Set REDSHIFT_HOST and REDSHIFT_PORT"),
)


class Interrupted(Exception):
    """A conflict or a broken connection: the transaction can be done again, even if committed."""


def translate_error(error: Exception, address: str) -> Exception:
    """What an error of a statement is: `Interrupted`, or a SparkifyError that says what to do."""
    said = error.args[0] if error.args and isinstance(error.args[0], dict) else None
    if said is None:
        return Interrupted(f"the connection to {address} broke off ({error})")
    message, detail = str(said.get("M", "")), str(said.get("D", ""))
    if CONFLICTS.search(message) or CONFLICTS.search(detail):
        return Interrupted(f"another transaction interfered ({detail or message})")
    remedy = COPY_REMEDY if COPY_FAILURES.search(message) else REMEDIES.get(said.get("C", ""))
    text = f"{address}: {message} {detail}".rstrip()
    return SparkifyError(f"{text}: {remedy}." if remedy else text)


def connection_error(error: Exception, address: str) -> SparkifyError:
    """Why there is no connection, and what to do about it."""
    causes = [error, *(arg for arg in error.args if isinstance(arg, OSError))]
    for kind, problem in NO_CONNECTION:
        if any(isinstance(cause, kind) for cause in causes):
            return SparkifyError(f"{address}: {problem.format(cause=causes[-1])}.")
    said = translate_error(error, address)
    return said if isinstance(said, SparkifyError) else SparkifyError(f"{said}.")
