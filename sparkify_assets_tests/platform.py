"""The platform as a test drives it: a warehouse and a copy of `sql/` in a folder of its own."""

import json
import shutil
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL, build_defs
from sparkify_assets.settings import Settings
from sparkify_assets.warehouse import warehouse_of
from sparkify_assets.warehouse.redshift import MUTEX, RedshiftWarehouse
from sparkify_assets.warehouse.redshift_connection import connect
from sparkify_assets_tests.duckdb_file import attached
from sparkify_assets_tests.lineage import ASSETS as ASSETS
from sparkify_assets_tests.lineage import GROUPS as GROUPS
from sparkify_assets_tests.redshift_server import RedshiftServer
from sparkify_assets_tests.s3_server import BUCKET

REAL_FILES = Path(__file__).parents[2] / "shared" / "data" / "udacity_small"
MADE: dict[str, Any] = {}  # the latest definitions, and what they are made of


@cache
def instance() -> dg.DagsterInstance:
    """One for all tests of a process: it takes long to make, and runs do not meet in it."""
    return dg.DagsterInstance.ephemeral()


class Platform:
    """Definitions over a DuckDB file and a folder of tables that a test may change."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.warehouse = folder / "warehouse.duckdb"
        self.report = folder / "listening_report.html"
        self.song_data = folder / "song_data"
        self.log_data = folder / "log_data"
        self.settings: dict[str, Any] = {
            "target": "duckdb",
            "duckdb_path": self.warehouse,
            "report_path": self.report,
            "song_data": str(self.song_data),
            "log_data": str(self.log_data),
            **settings,
        }

    @cached_property
    def sql(self) -> Path:
        """A copy of `sql/` that the test may change, from when it is first asked for."""
        return Path(shutil.copytree(SQL, self.folder / "sql"))

    @property
    def catalog(self) -> Catalog:
        return Catalog.load(self.sql if "sql" in vars(self) else SQL)

    def defs(self) -> dg.Definitions:
        """Made anew where a setting or a file of `sql/` is another than the time before."""
        sql = self.sql if "sql" in vars(self) else SQL
        made_of = (self.catalog, sql, {**self.settings})
        if MADE.get("of") != made_of:
            defs = build_defs(settings=Settings(**self.settings), sql=sql)
            MADE.update(of=made_of, defs=defs)
        found: dg.Definitions = MADE["defs"]
        return found

    def run(self, *assets: str, config: Any = None) -> dg.ExecuteInProcessResult:
        """Materializes the named assets, or all of them."""
        job = self.defs().resolve_implicit_global_asset_job_def()
        selection = [dg.AssetKey(name) for name in assets] or None
        return job.execute_in_process(
            instance=instance(),
            asset_selection=selection,
            run_config=config,
            raise_on_error=False,
        )

    def make(self, *tables: str) -> dg.ExecuteInProcessResult:
        """Materializes the named tables and all that they are made from."""
        graph = self.defs().resolve_asset_graph()
        needed = dg.AssetSelection.assets(*tables).upstream().resolve(graph)
        return self.run(*(key.to_user_string() for key in needed))

    def run_check(self, asset: str, check: str) -> dg.ExecuteInProcessResult:
        """Evaluates one check, and nothing else."""
        key = dg.AssetCheckKey(dg.AssetKey(asset), check)
        job = dg.define_asset_job("one_check", selection=dg.AssetSelection.checks(key))
        defs = dg.Definitions.merge(self.defs(), dg.Definitions(jobs=[job]))
        return defs.resolve_job_def("one_check").execute_in_process(
            instance=instance(), raise_on_error=False
        )

    def sql_tables(self) -> list[str]:
        """Names of the tables that are assets."""
        return [table.name for table in (*self.catalog.staging, *self.catalog.derived)]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a reader of the warehouse sees."""
        return next(self.answers([query]))

    def answers(self, queries: Iterable[str]) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of each query, over one connection."""
        with attached(self.warehouse) as connection:
            yield from [connection.execute(query).fetchall() for query in queries]

    def change(self, statement: str) -> None:
        """What somebody else does to the warehouse."""
        with attached(self.warehouse, read_only=False) as connection:
            connection.execute(statement)

    def table_names(self) -> set[str]:
        """Tables that the warehouse has."""
        return {name for (name,) in self.rows("SELECT table_name FROM duckdb_tables()")}

    @cached_property
    def statements(self) -> list[str]:
        """What makes the tables, as their files say, with the rows that they have here."""
        made = []
        with attached(self.warehouse) as connection:
            for table in self.catalog.tables.values():
                made.append(table.create)
                rows = connection.execute(f"SELECT * FROM {table.name}").fetchall()
                values = (f"({', '.join(map(_as_literal, row))})" for row in rows)
                made += [f"INSERT INTO {table.name} VALUES {', '.join(values)}"] if rows else []
        return made

    def edit(self, file: str, old: str, new: str) -> None:
        """Changes a file of `sql/`; the test fails if the text is not there."""
        path = self.sql / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def write_songs(self, songs: Iterable[dict[str, Any]]) -> None:
        self.song_data.mkdir(exist_ok=True)
        for number, song in enumerate(songs):
            record = {**SONG, **song}
            (self.song_data / f"TR{number:05}.json").write_text(json.dumps(record))

    def write_events(self, events: Iterable[dict[str, Any]], name: str = "events.json") -> None:
        lines = [json.dumps({**EVENT, "itemInSession": i, **e}) for i, e in enumerate(events)]
        path = self.log_data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))


class RedshiftPlatform(Platform):
    """Definitions over a schema of the stand-in, which is where the environment says."""

    schema = "sparkify_test"  # not the default: what is in the wrong schema is not found

    def __init__(self, folder: Path, server: RedshiftServer) -> None:
        super().__init__(folder, target="redshift", s3_work=f"s3://{BUCKET}/work/sparkify")
        self.server = server

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.server.rows(query, self.schema)

    def answers(self, queries: Iterable[str]) -> Iterator[list[tuple[Any, ...]]]:
        return map(self.rows, queries)

    def change(self, statement: str) -> None:
        self.rows(statement)

    def copy_tables_of(self, other: Platform) -> None:
        """Makes the tables that there are elsewhere, with their rows."""
        self.change(f"CREATE SCHEMA {self.schema}")
        self.change(f"CREATE TABLE {MUTEX} (token VARCHAR(32), written_at TIMESTAMP)")  # an old one
        for statement in other.statements:
            self.change(statement)

    def table_names(self) -> set[str]:
        query = f"SELECT tablename FROM pg_tables WHERE schemaname = '{self.schema}'"
        return {name for (name,) in self.rows(query)} - {MUTEX}


class LivePlatform(RedshiftPlatform):
    """Definitions over a schema of its own on a real cluster, which is where the environment says.

    Nobody has run it yet: no cluster was within reach of those who wrote it.
    """

    def __init__(self, folder: Path, schema: str, work: str) -> None:
        Platform.__init__(self, folder, target="redshift", s3_work=work)
        self.schema = schema

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        warehouse = warehouse_of(Settings(**self.settings))
        assert isinstance(warehouse, RedshiftWarehouse)
        with connect(warehouse.settings, label="test") as connection:
            cursor = connection.cursor()
            cursor.execute(f"SET search_path TO {self.schema}")
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def _as_literal(value: object) -> str:
    if value is None:
        return "NULL"
    return (
        str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"
    )


SONG = {
    "num_songs": 1,
    "artist_id": "AR1",
    "artist_latitude": None,
    "artist_longitude": None,
    "artist_location": "",
    "artist_name": "The Makers",
    "song_id": "SO1",
    "title": "Made",
    "duration": 200.0,
    "year": 0,
}

EVENT = {
    "artist": "The Makers",
    "auth": "Logged In",
    "firstName": "Ada",
    "gender": "F",
    "itemInSession": 0,
    "lastName": "Lane",
    "length": 200.0,
    "level": "free",
    "location": "Portland, ME",
    "method": "PUT",
    "page": "NextSong",
    "registration": 1540000000000.0,
    "sessionId": 1,
    "song": "Made",
    "status": 200,
    "ts": 1541105830796,
    "userAgent": "Mozilla/5.0",
    "userId": "7",
}


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What the failed steps of a run say, as one text."""
    said = []
    for event in result.get_step_failure_events():
        failure = event.step_failure_data.user_failure_data
        assert failure is not None, event.step_failure_data.error_display_string
        said.append(failure.description or "")
    return "\n".join(said)


def failed_checks(result: dg.ExecuteInProcessResult) -> set[tuple[str, str]]:
    return {
        (evaluation.asset_key.to_user_string(), evaluation.check_name)
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed
    }


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
