"""All tables of `sql/` in build order, checked against each other.

`table_files.py` reads a single file. Nothing here knows an engine, Dagster or a particular table.
"""

from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from sqlglot import exp
from sqlglot.schema import MappingSchema

from sparkify_assets.dialect import DIALECT, maybe, names_in, statements_of, verify_query, wrong
from sparkify_assets.errors import SparkifyError, warn_once
from sparkify_assets.table_files import read_check, read_table
from sparkify_assets.tables import Table

CHECKS = "checks"
MAINTENANCE = "maintenance"
QUESTIONS = "analysis"  # queries for people: no tables
LEDGERS = "loading"
PRIVACY = "privacy"
MARTS = "marts"


@dataclass(frozen=True)
class Catalog:
    """All tables by name, each after the tables it reads or references."""

    tables: dict[str, Table]

    @property
    def staging(self) -> list[Table]:
        """Tables that are loaded from a source."""
        return [t for t in self.tables.values() if t.source]

    @property
    def ledgers(self) -> list[Table]:
        """Tables in which loading keeps its accounts."""
        return [t for t in self.tables.values() if t.layer == LEDGERS]

    @property
    def maintenance(self) -> list[Table]:
        """Tables in which publishing keeps its accounts."""
        return [t for t in self.tables.values() if t.layer == MAINTENANCE]

    @property
    def assets(self) -> list[Table]:
        """Staging and derived tables: all but those with accounts."""
        return self.staging + self.derived

    @property
    def derived(self) -> list[Table]:
        """Tables made from other tables."""
        return [t for t in self.tables.values() if t.insert or t.suspects]

    @classmethod
    def load(cls, folder: Path) -> "Catalog":
        """Reads the files `<layer>/*.sql` of a folder; those in `checks/` are checks.

        Raises:
            SparkifyError: a file is wrong; the message has its path and line.
        """
        files = sorted(f for f in folder.glob("*/*.sql") if f.parent.name != QUESTIONS)
        if not files:
            raise SparkifyError(f"{folder} holds no table: expected files such as star/users.sql")
        return _catalog_of(tuple((file, _text_of(file)) for file in files))


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise wrong(file, "is not UTF-8 text") from None


@cache  # Dagster loads the definitions several times in one process
def _catalog_of(files: tuple[tuple[Path, str], ...]) -> Catalog:
    checks = [read_check(path, text) for path, text in files if path.parent.name == CHECKS]
    tables: dict[str, Table] = {}
    for path, text in files:
        if path.parent.name == CHECKS:
            continue
        table = read_table(path, text, tuple(c for c in checks if c.table == path.stem))
        if table.name in tables:
            raise wrong(path, f"{table.name} is also declared in {tables[table.name].path}")
        tables[table.name] = table
    needed = {
        table.name: {*table.upstream, *(r.table for r in table.references.values())}
        for table in tables.values()
    }
    needs = [(check.path, {check.table, *check.reads}) for check in checks]
    needs += [(tables[name].path, others) for name, others in needed.items()]
    for path, names in needs:
        for name in sorted(names - tables.keys()):
            parsed = (tree for tree, _ in statements_of(path, dict(files)[path]))
            found = (
                t for tree in parsed for t in tree.find_all(exp.Table) if t.name.lower() == name
            )
            guess = maybe(name, tables) or f"; known: {', '.join(sorted(tables))}"
            raise wrong(path, f"unknown table {name}{guess}", *found)
    for table in tables.values():
        for name, tie in [*table.ties.items(), *((n, w[2]) for n, w in table.ways.items())]:
            missing_columns = names_in(f"SELECT {tie}") - {c.name for c in tables[name].columns}
            if missing_columns:
                raise wrong(table.path, f"{tie}: {name} has no {', '.join(missing_columns)}")
        for column, (parent, key) in table.references.items():
            if key not in (c.name for c in tables[parent].columns):
                raise wrong(table.path, f"{column} refers to {parent}.{key}, which does not exist")
        is_asset = table.insert or table.suspects or table.source
        if not is_asset and table.layer not in (LEDGERS, MAINTENANCE, PRIVACY):
            raise wrong(table.path, "has no INSERT, and no line such as -- loaded from: x")
    try:
        order = list(TopologicalSorter(needed).static_order())
    except CycleError as error:
        raise SparkifyError(
            f"Tables of sql/ depend on each other in a circle: {' <- '.join(error.args[1])}"
        ) from None
    types: dict[str, Any] = {t.name: {c.name: c.type for c in t.columns} for t in tables.values()}
    schema = MappingSchema(types, dialect=DIALECT)
    for path, text in files:
        query, _ = statements_of(path, text)[-1]
        declared = types[path.stem] if isinstance(query, exp.Insert) else {}
        query = query.expression if declared else query
        if isinstance(query, exp.Query):
            verify_query(query, path, schema, declared)
        if path.parent.name == MARTS:
            table = tables[path.stem]
            described = {f"a comment on {c.name}": c.description for c in table.columns}
            if query.args.get("group"):
                described["a PRIMARY KEY"] = " ".join(table.primary_key)
            if lacking := ", ".join(what for what, found in described.items() if not found):
                warn_once(f"{path}: {table.name} lacks {lacking}")
    return Catalog({name: tables[name] for name in order})
