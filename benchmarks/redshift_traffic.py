"""What goes to and fro between this project and Redshift, measured on the stand-in.

Made-up days are loaded from moto's S3 into the stand-in (the real driver, and a PostgreSQL behind a
proxy): cold, with one more day, with nothing new. Here each statement, answer and request is
counted; what it would cost is the business of `redshift_cost.py`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import trustme

from benchmarks.simulator import Plan, write_event_files, write_song_files
from sparkify_assets_tests import redshift_server
from sparkify_assets_tests.platform import RedshiftPlatform, failure_of
from sparkify_assets_tests.redshift_postgres import Wire
from sparkify_assets_tests.s3_server import BUCKET, Request, S3Server, environment

WHENS = ("cold", "one more day", "nothing new")
COUNTED = re.compile(rb"(?:DELETE|INSERT 0|SELECT) (\d+)\0")


@dataclass
class Sent:
    """A statement that was executed, and how many rows it is said to have read or written."""

    asset: str
    sql: str
    rows: int = 0

    @property
    def kind(self) -> str:
        """Its first words, with catalogue queries, counts and other reads told apart."""
        if re.search(r"\bpg_|information_schema", self.sql):
            return "SELECT from the catalogue"
        if self.sql.startswith('SELECT COUNT(*) AS n FROM "'):
            return "SELECT COUNT(*) of a table"
        words = self.sql.split(maxsplit=3)[:3]
        return " ".join(words if words[:2] == ["CREATE", "TEMP"] else words[:1])

    @property
    def target(self) -> str:
        """The table that it writes, with a schema where it is published; "" if it writes none."""
        found = re.match(
            r'(?:COPY|DELETE FROM|INSERT INTO|CREATE TEMP TABLE)\s+((?:"?\w+"?\.)?(?:"[^"]+"|\w+))',
            self.sql,
        )
        return found[1].replace('"', "") if found else ""


@dataclass
class Traffic:
    """All that went to and fro in one run."""

    statements: list[Sent] = field(default_factory=list)
    bytes: Counter[str] = field(default_factory=Counter)  # by direction and server
    requests: Counter[str] = field(default_factory=Counter)
    connections: int = 0


class Measured(NamedTuple):
    """Runs at one size, and the rows and the average bytes of each column that they left."""

    plan: Plan
    day: int  # events of the last one
    runs: dict[str, Traffic]
    rows: dict[str, int]
    widths: dict[str, dict[str, float]]


@contextmanager
def listening(
    traffic: list[Traffic], s3: S3Server
) -> Iterator[type[redshift_server.RedshiftServer]]:
    """A stand-in whose statements, answers and requests are added to the last traffic."""

    class Server(redshift_server.RedshiftServer):
        def meet(self, statement: redshift_server.Statement) -> redshift_server.Fault:
            asset = statement.application_name.split()[1]
            traffic[-1].statements.append(Sent(asset, statement.sql))
            traffic[-1].connections = statement.connection
            return super().meet(statement)

    class Counting(Wire):
        def read(self) -> tuple[bytes, bytes]:
            kind, body = super().read()
            traffic[-1].bytes["bytes to the warehouse"] += len(body) + 5
            return kind, body

        def write(self, kind: bytes, body: bytes = b"") -> None:
            traffic[-1].bytes["bytes from the warehouse"] += len(body) + 5
            sent = traffic[-1].statements
            if kind == b"C" and sent and (found := COUNTED.fullmatch(body)):
                sent[-1].rows = int(found[1])
            elif kind == b"D" and sent and "pg_last_copy_count" in sent[-1].sql:
                sent[-2].rows = int.from_bytes(body[6:], "big")  # of the COPY before
            super().write(kind, body)

    def before(request: Request) -> None:
        work = " by COPY" if request.method == "GET" and request.key.startswith("work/") else ""
        listing = request.method == "GET" and not request.key
        traffic[-1].requests["LIST" if listing else request.method + work] += 1
        if request.method == "GET" and request.key:
            way = "to S3, and from it by COPY" if work else "from S3"
            traffic[-1].bytes[f"bytes {way}"] += len(s3.content(request.key))

    s3.before = before
    with patch.object(redshift_server, "Wire", Counting):
        yield Server


def measure(plan: Plan, *assets: str) -> Measured:
    """Loads a plan's days but the last, then the last, then nothing; all assets, or some."""
    s3, traffic = S3Server(), [Traffic()]
    with TemporaryDirectory() as name, listening(traffic, s3) as server_class:
        folder = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        issued = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        issued.write_to_path(str(folder / "server.pem"))
        server = server_class(s3, tls=(folder / "server.pem", folder / "server.pem"))
        try:
            variables = environment(s3.url) | {
                "SSL_CERT_FILE": str(folder / "authority.pem"),
                "REDSHIFT_HOST": server.host,
                "REDSHIFT_PORT": str(server.port),
                "REDSHIFT_DATABASE": server.database,
                "REDSHIFT_SCHEMA": RedshiftPlatform.schema,
                "REDSHIFT_USER": server.user,
                "REDSHIFT_PASSWORD": server.password,
            }
            with patch.dict(os.environ, variables):
                platform = RedshiftPlatform(folder, server)
                return _run(plan, assets, s3, platform, traffic)
        finally:
            server.stop()


def _run(
    plan: Plan,
    assets: Sequence[str],
    s3: S3Server,
    platform: RedshiftPlatform,
    traffic: list[Traffic],
) -> Measured:
    platform.settings |= {n: f"s3://{BUCKET}/{n}" for n in ("song_data", "log_data")}
    write_song_files(platform.song_data, plan)
    write_event_files(platform.log_data, plan)
    *days, last = sorted(platform.log_data.rglob("*.json"))
    new = {WHENS[0]: [*platform.song_data.rglob("*.json"), *days], WHENS[1]: [last]}
    for when in WHENS:
        for path in new.get(when, []):
            s3.put(str(path.relative_to(platform.folder)), path.read_bytes())
        platform.server.statements.clear()
        traffic.append(Traffic())
        platform.server.numbers = iter(range(1, 10_000))  # type: ignore[assignment]
        result = platform.run(*assets)
        assert result.success, failure_of(result)
    rows, widths = {}, {}
    runs = dict(zip(WHENS, traffic[1:], strict=True))
    found_tables = platform.table_names()
    for table in (t for t in platform.catalog.tables.values() if t.name in found_tables):
        names = [column.name for column in table.columns]
        averages = ", ".join(f'AVG(COALESCE(PG_COLUMN_SIZE("{n}"), 0))' for n in names)
        [[count, *found]] = platform.rows(f"SELECT COUNT(*), {averages} FROM {table.name}")
        rows[table.name] = count
        widths[table.name] = {n: float(w or 0) for n, w in zip(names, found, strict=True)}
    return Measured(plan, len(last.read_text().splitlines()), runs, rows, widths)
