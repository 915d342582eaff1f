"""A DuckDB file as others than the product see it.

One DuckDB serves all tests of a process: to start one takes ten times as long as to attach a file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import duckdb

NUMBERS = count(1)


@cache
def _engine(process: int) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


@contextmanager
def attached(file: Path, *, read_only: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose default database is this file."""
    name, path = f"file_{next(NUMBERS)}", str(file).replace("'", "''")
    mode = "READ_ONLY" if read_only else "READ_WRITE"
    engine = _engine(os.getpid())
    engine.execute(f"ATTACH '{path}' AS {name} ({mode})")
    try:
        with engine.cursor() as connection:
            connection.execute(f"USE {name}")
            yield connection
    finally:
        engine.execute(f"DETACH {name}")
