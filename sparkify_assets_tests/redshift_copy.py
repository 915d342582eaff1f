"""COPY as the stand-in for Redshift carries it out: what it may say, and what it reads from S3."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sparkify_assets_tests.redshift_dialect import encoded_error, without_comments
from sparkify_assets_tests.redshift_postgres import Refused
from sparkify_assets_tests.s3_server import S3Server

_COPY = re.compile(
    r"""(?i:COPY) \s+ (?P<table>"?\w+"?(?:\."?\w+"?)?) \s* \((?P<columns>[\w\s,"]+)\) \s*
    (?i:FROM) \s+ '(?P<source>s3://[^']+)'
    (?=.*\s(?i:IAM_ROLE)\s) (?=.*\s(?i:JSON)\s)
    (?P<options>(?:\s+(?:
        (?i:IAM_ROLE) \s+ (?: 'arn:aws[a-z-]*:iam::\d{12}:role/[^']+' | (?i:DEFAULT))
        | (?i:REGION) \s+ (?:(?i:AS)\s+)? '[a-z0-9-]+'
        | (?:(?i:FORMAT)\s+)? (?:(?i:AS)\s+)? (?i:JSON) \s+ (?:(?i:AS)\s+)? 'auto'
        | (?i:TIMEFORMAT) \s+ (?:(?i:AS)\s+)? 'auto'
        | (?i:MAXERROR) \s+ (?:(?i:AS)\s+)? [01]  # none, both of them
        | (?i:GZIP | MANIFEST | (?:COMPUPDATE | STATUPDATE) \s+ OFF)
    ))*)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Copy:
    """A COPY of JSON, as far as it is understood here; what it says beyond that is an error."""

    table: str
    columns: list[str]
    source: str
    is_gzip: bool
    is_manifest: bool

    @classmethod
    def parsed(cls, sql: str) -> "Copy":
        said = _COPY.fullmatch(without_comments(sql))
        if not said:
            raise Refused(encoded_error("42601", f"not understood by the stand-in: {sql}"))
        columns = [name.strip(' \n"').lower() for name in said["columns"].split(",")]
        flags = re.sub("'.*?'", "", said["options"]).upper().split()
        table = said["table"].replace('"', "").lower()  # quoted or not, Redshift folds names
        return cls(table, columns, said["source"], "GZIP" in flags, "MANIFEST" in flags)

    def failed(self, reason: str) -> Refused:
        """The error; its reason is for whoever reads a test's output, Redshift's has none."""
        text = (
            f"Load into table '{self.table.split('.')[-1]}' failed.  "
            "Check 'sys_load_error_detail' system table for details."
        )
        return Refused(encoded_error("XX000", text, where=reason))


class Bucket:
    """Objects of an S3Server, read through its API, as lines for PostgreSQL's own COPY."""

    def __init__(self, s3: S3Server) -> None:
        self._s3 = boto3.client(
            "s3",
            endpoint_url=s3.url,
            region_name="us-east-1",
            aws_access_key_id="redshift",
            aws_secret_access_key="redshift",
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def lines(self, copy: Copy, columns: dict[str, bool]) -> Iterator[bytes]:
        """A line for each JSON object; of each column it is known whether it holds text."""
        try:
            for content in self._contents(copy):
                text = (gzip.decompress(content) if copy.is_gzip else content).decode()
                for record in _json_objects(text):
                    fields = [
                        _field(record.get(name), is_text) for name, is_text in columns.items()
                    ]
                    yield ("\t".join(fields) + "\n").encode()
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code, said = error.response["Error"]["Code"], error.response["Error"]["Message"]
            text = f"S3ServiceException:{said},Status {status},Error {code},Rid 1,CanRetry 1"
            raise Refused(encoded_error("XX000", text)) from error
        except BotoCoreError as error:
            raise Refused(
                encoded_error("XX000", f"S3CurlException: {error}, CanRetry 1")
            ) from error
        except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise copy.failed(str(error)) from error

    def _contents(self, copy: Copy) -> Iterator[bytes]:
        if not copy.is_manifest:
            yield from self._contents_under(*_location(copy.source))
            return
        for entry in json.loads(self._read(*_location(copy.source)))["entries"]:
            try:
                yield self._read(*_location(entry["url"]))
            except self._s3.exceptions.NoSuchKey:
                if entry.get("mandatory"):
                    raise

    def _contents_under(self, bucket: str, prefix: str) -> Iterator[bytes]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        if not keys:
            text = f"The specified S3 prefix '{prefix}' does not exist"
            raise Refused(encoded_error("XX000", text))
        for key in keys:
            yield self._read(bucket, key)

    def _read(self, bucket: str, key: str) -> bytes:
        return bytes(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def _location(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


_JSON = json.JSONDecoder(parse_constant=int)  # which fails: NaN is not JSON


_NOT_BLANK = re.compile(r"\S")


_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Objects one after the other, with or without spaces and line ends between and in them."""
    end = 0
    while rest := _NOT_BLANK.search(text, end):
        value, end = _JSON.raw_decode(text, rest.start())
        if not isinstance(value, dict):
            raise ValueError(f"not an object: {value}")
        yield value


def _field(value: Any, is_text: bool) -> str:
    """A value as PostgreSQL's COPY reads it; an empty text is null where no text belongs."""
    if value is None or (value == "" and not is_text):
        return r"\N"
    if type(value) in (int, float):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)
