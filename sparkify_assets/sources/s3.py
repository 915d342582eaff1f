"""A source in an S3 bucket."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from dagster_aws.s3.sensor import get_objects

from sparkify_assets.s3_access import ATTEMPTS, CONNECTIONS, PASSING, s3_client, s3_errors_explained
from sparkify_assets.scratch import scratch_folder
from sparkify_assets.sources.base import InputObject, LocalFile, Source, file_version, is_hidden

PART_BYTES = 64 * 1024 * 1024  # of an object, in one request
BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class S3Source(Source):
    """The objects below `folder` ("" for the whole bucket); their versions are ETags."""

    kinds: ClassVar[set[str]] = {"json", "s3"}

    bucket: str
    folder: str
    anonymous: bool

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.folder}".rstrip("/")

    def objects(self, prefix: str = "") -> list[InputObject]:
        within = self.within(prefix)
        found = []
        with s3_errors_explained(within):
            entries: list[Any] = get_objects(self.bucket, self._key(within), client=self._client)
            for entry in entries:
                uri = f"s3://{self.bucket}/{entry['Key']}"
                names = uri.removeprefix(f"{self.uri}/").split("/")
                # consoles create folders as keys that end with a slash
                if names[-1] and not is_hidden(names):
                    found.append(InputObject(uri, entry["Size"], entry["ETag"].strip('"')))
        if not found:
            raise self.cannot_list("holds no objects (hidden ones are not data)", prefix)
        return sorted(found, key=lambda o: o.uri)

    @contextmanager
    def fetched(self, objects: list[InputObject]) -> Iterator[list[LocalFile]]:
        with scratch_folder() as folder:
            wanted = [(item, folder / str(number)) for number, item in enumerate(objects)]
            self._fetch(wanted)
            files = []
            for item, path in wanted:
                status = path.stat()
                if status.st_size != item.size:
                    raise item.changed()
                files.append(LocalFile(item.uri, item.size, file_version(status), path))
            yield files

    @cached_property
    def _client(self) -> Any:
        return s3_client(anonymous=self.anonymous)

    def _fetch(self, wanted: list[tuple[InputObject, Path]]) -> None:
        """Downloads objects in parallel, large ones in parts."""
        pool = ThreadPoolExecutor(CONNECTIONS)
        try:
            parts = [
                pool.submit(self._fetch_part, item, path, start)
                for item, path in wanted
                for start in range(0, max(item.size, 1), PART_BYTES)
            ]
            for part in as_completed(parts):
                part.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _fetch_part(self, item: InputObject, path: Path, start: int) -> None:
        """Downloads a part into its place in the file; retries if the body breaks off."""
        end = min(start + PART_BYTES, item.size)
        part = {} if end - start == item.size else {"Range": f"bytes={start}-{end - 1}"}
        path.touch()  # another part may have created it
        with s3_errors_explained(item.uri), path.open("r+b") as file:
            for attempt in range(ATTEMPTS):
                answer = self._client.get_object(
                    Bucket=self.bucket, Key=self._key(item.uri), IfMatch=f'"{item.version}"', **part
                )
                file.seek(start)
                try:
                    for block in answer["Body"].iter_chunks(BLOCK_BYTES):
                        file.write(block)
                    break
                except PASSING:
                    if attempt + 1 == ATTEMPTS:
                        raise
                    time.sleep(random.random() * 2**attempt)  # noqa: S311  # no secret

    def _key(self, uri: str) -> str:
        return uri.removeprefix(f"s3://{self.bucket}/")
