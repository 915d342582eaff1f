"""The files that Redshift copies from: S3 may refuse to delete one, and that is said."""

import json
from pathlib import Path

import boto3
import pytest

from sparkify_assets.errors import SparkifyError
from sparkify_assets.warehouse.redshift_copy import WorkFolder
from sparkify_assets_tests.s3_server import BUCKET, S3Server, environment


def test_a_file_that_may_not_be_deleted_is_said(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 answers the request with 200, and says in the body which files are still there."""
    s3_server.reset()
    for name, value in environment(s3_server.url).items():
        monkeypatch.setenv(name, value)
    denied = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteObject",
        "Resource": f"arn:aws:s3:::{BUCKET}/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    boto3.client("s3").put_bucket_policy(Bucket=BUCKET, Policy=policy)
    work = WorkFolder(f"s3://{BUCKET}/work")
    (tmp_path / "rows").write_text("rows")
    work.upload(tmp_path / "rows")
    said = rf"s3://{BUCKET}/work: .*AccessDenied.* This needs .*s3:DeleteObject"
    with pytest.raises(SparkifyError, match=said):
        work.discard()
    with pytest.raises(SparkifyError, match=said):  # as the next load finds it
        WorkFolder(f"s3://{BUCKET}/work")
