"""Reads `sql/`: one file is one table's whole contract, and this module turns it into a `Table`.

A table's name, layer, columns, keys, references, upstream tables and descriptions come from its
file, further checks from `sql/checks/`; sqlglot parses both. What does not belong here: anything
about an engine, about Dagster or about a particular table.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from sparkify_assets.dialect import (
    DIALECT,
    Header,
    names_in,
    spelled,
    statements_of,
    ties_in,
    wrong,
)
from sparkify_assets.errors import SparkifyError

CHECKS = "checks"
MAINTENANCE = "maintenance"
QUESTIONS = "analysis"  # queries for people: no tables
LEDGERS = "loading"
VIOLATION = "violating row"  # what a check counts, if its file says nothing else
ROWS, COPIES = "COUNT(*)", "COALESCE(SUM(copies), 0)"  # how violations are counted
KEY_TYPES = ("VARCHAR", "SMALLINT", "INTEGER", "BIGINT", "DATE", "TIMESTAMP")  # as text and back
ENCODE = exp.EncodeColumnConstraint
UNDERSTOOD = exp.NotNullColumnConstraint | exp.PrimaryKeyColumnConstraint | ENCODE


class Reference(NamedTuple):
    """The column of another table that a column refers to."""

    table: str
    column: str


@dataclass(frozen=True)
class Column:
    """A declared column: `key` is the spelling in the file, `name` what SQL makes of it."""

    name: str
    key: str
    type: str
    nullable: bool
    description: str
    references: Reference | None


@dataclass(frozen=True)
class Check:
    """A file `sql/checks/<table>__<name>.sql`: its query returns violations, each one a `unit`.

    Its header says `-- severity: warn` or error (then it is `blocking`), `-- counts: <unit>`, and
    `-- on: new rows` or all rows: by default a blocking check on tables that are tied looks at the
    rows that are written, and any other one at all rows, as a warning stands as long as they do.
    A row with a column `copies` stands for that many violations; `count` is SQL over the rows.
    """

    name: str
    table: str
    path: Path
    text: str
    description: str
    sql: str
    reads: tuple[str, ...]
    blocking: bool
    unit: str
    count: str
    rows: str


@dataclass(frozen=True)
class Table:
    """One file of `sql/`, read.

    `create` is the statement that creates the table, without keys. `insert` is the one that fills a
    derived table; `suspects` the query for the texts that a table of repairs is made of; `source`
    the name of what a staging table is loaded from. A table with none of these three is a ledger
    that the loading itself writes.
    `shown_rows` is how many of its first rows (by sort key) a run shows as its answer, with their
    `shown_columns`; `plots` is the column whose values Dagster plots over time, a line for each row
    by its primary key. `reads` are the tables it is made from, `upstream` those that its checks and
    references need as well.
    Its rows with one value of the column `key` are made from those rows of a tied table in which
    the expression in `ties` has this value. What changes in a table of `ways` (its own expression
    comes last) reaches them by way of the rows of a tied one: its name and an expression on it.
    """

    name: str
    layer: str
    path: Path
    description: str
    version: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    sort_key: tuple[str, ...]
    create: str
    insert: str | None
    suspects: str | None
    source: str | None
    may_be_empty: bool
    shown_rows: int | None
    shown_columns: tuple[str, ...]
    plots: str | None
    reads: tuple[str, ...]
    upstream: tuple[str, ...]
    checks: tuple[Check, ...]
    key: str | None
    ties: dict[str, str]
    ways: dict[str, tuple[str, str, str]]

    @property
    def references(self) -> dict[str, Reference]:
        """What each referring column refers to."""
        return {c.name: c.references for c in self.columns if c.references}

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that are never null: NOT NULL and the primary key."""
        return tuple(c.name for c in self.columns if not c.nullable)


@dataclass(frozen=True)
class Catalog:
    """All tables by name, each after the tables it is made from or refers to."""

    tables: dict[str, Table]

    @property
    def staging(self) -> list[Table]:
        """Tables that are loaded from a source."""
        return [t for t in self.tables.values() if t.source]

    @property
    def ledgers(self) -> list[Table]:
        """Tables that the loading writes about itself."""
        return [t for t in self.tables.values() if t.layer == LEDGERS]

    @property
    def maintenance(self) -> list[Table]:
        """Tables that publishing writes about the others."""
        return [t for t in self.tables.values() if t.layer == MAINTENANCE]

    @property
    def assets(self) -> list[Table]:
        """Tables that are loaded or made: all others are books kept about them."""
        return self.staging + self.derived

    @property
    def derived(self) -> list[Table]:
        """Tables that are made from other tables."""
        return [t for t in self.tables.values() if t.insert or t.suspects]

    @classmethod
    def load(cls, folder: Path) -> "Catalog":
        """Reads every `.sql` file of a folder: tables in its layers, checks in `checks/`.

        Raises:
            SparkifyError: a file that cannot be read as a contract, with its path and line.
        """
        files = sorted(f for f in folder.glob("*/*.sql") if f.parent.name != QUESTIONS)
        if not files:
            raise SparkifyError(f"{folder} holds no table: expected files such as star/users.sql")
        texts = {path: path.read_text(encoding="utf-8") for path in files}
        checks = [_read_check(p, text) for p, text in texts.items() if p.parent.name == CHECKS]
        tables: dict[str, Table] = {}
        for path in (f for f in files if f.parent.name != CHECKS):
            table = _read_table(path, texts[path], tuple(c for c in checks if c.table == path.stem))
            if table.name in tables:
                raise wrong(path, f"{table.name} is declared in {tables[table.name].path} too")
            tables[table.name] = table
        needed = {
            table.name: {*table.upstream, *(r.table for r in table.references.values())}
            for table in tables.values()
        }
        needs = [(check.path, {check.table, *check.reads}) for check in checks]
        needs += [(tables[name].path, others) for name, others in needed.items()]
        for path, names in needs:
            if unknown := sorted(names - tables.keys()):
                known = ", ".join(sorted(tables))
                raise wrong(path, f"unknown table {', '.join(unknown)}; known: {known}")
        for table in tables.values():
            for name, tie in [*table.ties.items(), *((n, w[2]) for n, w in table.ways.items())]:
                missing_columns = names_in(f"SELECT {tie}") - {c.name for c in tables[name].columns}
                if missing_columns:
                    raise wrong(table.path, f"{tie}: {name} has no {', '.join(missing_columns)}")
            for column, (parent, key) in table.references.items():
                if key not in (c.name for c in tables[parent].columns):
                    missing = f"{parent}.{key}, which does not exist"
                    raise wrong(table.path, f"{column} refers to {missing}")
            is_asset = table.insert or table.suspects or table.source
            if not is_asset and table.layer not in (LEDGERS, MAINTENANCE):
                raise wrong(table.path, "has no INSERT, and no line such as -- loaded from: x")
        try:
            order = list(TopologicalSorter(needed).static_order())
        except CycleError as error:
            raise SparkifyError(
                f"{folder}: tables depend on each other in a circle: {' <- '.join(error.args[1])}"
            ) from None
        return cls({name: tables[name] for name in order})


def _tables_read(query: exp.Expr, path: Path) -> set[str]:
    found = [s for scope in traverse_scope(query) for s in scope.sources.values()]
    tables = [source for source in found if isinstance(source, exp.Table)]  # no CTE, no subquery
    for table in tables:
        if table.db:
            raise wrong(path, f"name tables without a schema: {table.sql(DIALECT)}")
    return {table.name.lower() for table in tables}


@cache  # Dagster loads the definitions several times in one process
def _read_check(path: Path, content: str) -> Check:
    table, _, name = path.stem.partition("__")
    statements = statements_of(path, content)
    if not name:
        raise wrong(path, "name the file <table>__<check>.sql")
    query, text = statements[0] if len(statements) == 1 else (None, "")
    if not isinstance(query, exp.Query):
        raise wrong(path, "expected one SELECT that returns the violating rows")
    header = Header.of(query.comments)
    severity = header.directives.get("severity", "error")
    if severity not in ("warn", "error"):
        raise wrong(path, f"severity is {severity!r}: expected warn or error")
    rows = header.directives.get("on", "")
    if rows not in ("", "new rows", "all rows"):
        raise wrong(path, f"on is {rows!r}: expected new rows or all rows")
    reads = tuple(sorted(_tables_read(query, path)))
    unit = header.directives.get("counts") or VIOLATION
    count = COPIES if "copies" in query.named_selects else ROWS
    says, is_blocking = header.description, severity == "error"
    return Check(name, table, path, content, says, text, reads, is_blocking, unit, count, rows)


@cache
def _read_table(path: Path, content: str, checks: tuple[Check, ...]) -> Table:
    (create, _), *fillings = statements_of(path, content) or [(exp.null(), "")]
    schema = create.this
    if not isinstance(create, exp.Create) or not isinstance(schema, exp.Schema):
        raise wrong(path, "expected CREATE TABLE with its columns as the first statement")
    if schema.this.name.lower() != path.stem:
        raise wrong(
            path, f"declares the table {schema.this.name}: the file and its table have one name"
        )
    header = Header.of(create.comments)
    primary_key, columns = _read_columns(schema, path)
    is_repair = "repaired in python" in header.directives
    if len(fillings) > 1:
        raise wrong(path, "expected CREATE TABLE and at most one INSERT INTO")
    text, reads = "", set[str]()
    if fillings:
        filling, text = fillings[0]
        is_sound = isinstance(filling, exp.Query) and len(filling.named_selects) == 1
        if is_repair and not (is_sound and len(columns) == 2):
            raise wrong(
                path,
                "a table repaired in Python has two columns, a text and its repair: expected a "
                "SELECT of the texts as the second statement",
            )
        reads = _tables_read(filling if is_repair else _query_of(filling, path, columns), path)
    others = {name for check in checks for name in check.reads}
    others |= {c.references.table for c in columns if c.references and reads and not is_repair}
    key, ties, ways = ties_in(header.directives.get("maintained by", ""), path)
    kept = [c for c in columns if not c.nullable and c.type.startswith(KEY_TYPES)]
    if key and key not in (column.name for column in kept):
        raise wrong(path, f"maintained by: {key} is no NOT NULL column that can be a key")
    tied = {*ties, *ways, *(by for by, _, _ in ways.values())}
    if (ties and not key and not is_repair) or {by for by, _, _ in ways.values()} - ties.keys():
        raise wrong(path, "maintained by: expected column = table.column for each table on a way")
    if unread := sorted(tied - reads - others):
        raise wrong(path, f"maintained by: {', '.join(unread)} is not read here")
    shown_rows, _, of = header.directives.get("show rows", "0").partition(" of ")
    names = [column.name for column in columns]
    shown_columns = tuple(of.replace(",", " ").split()) or tuple(names)
    if not shown_rows.isdigit() or not set(shown_columns) <= set(names):
        raise wrong(path, f"show rows: expected 10, or 10 of some columns, not {shown_rows} {of}")
    plots = header.directives.get("plots")
    if plots and (plots not in names or len(primary_key) != 1):
        raise wrong(path, f"plots {plots!r}: expected a column, and a primary key of one column")
    sort_key = create.find(exp.SortKeyProperty)
    parts = [path.name, content, *(part for c in checks for part in (c.path.name, c.text))]
    return Table(
        name=path.stem,
        layer=path.parent.name,
        path=path,
        description=header.description,
        version=hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16],
        columns=columns,
        primary_key=primary_key,
        sort_key=tuple(column.name.lower() for column in sort_key.this) if sort_key else (),
        create=_without_keys(create, columns),
        insert=None if is_repair else text or None,
        suspects=text if is_repair else None,
        source=header.directives.get("loaded from"),
        may_be_empty="may be empty" in header.directives,
        shown_rows=int(shown_rows) or None,
        shown_columns=shown_columns,
        plots=plots,
        reads=tuple(sorted(reads)),
        upstream=tuple(sorted((reads | others) - {path.stem})),
        checks=checks,
        key=key,
        ties=ties,
        ways=ways,
    )


def _without_keys(create: exp.Create, columns: Sequence[Column]) -> str:
    """The statement that creates a table: Redshift would not enforce its keys, but trust them."""
    bare = create.copy()
    definitions = list(bare.find_all(exp.ColumnDef))
    for definition, column in zip(definitions, columns, strict=True):
        kept = [c for c in definition.constraints if isinstance(c.kind, ENCODE)]
        if not column.nullable:
            kept.insert(0, exp.ColumnConstraint(kind=exp.NotNullColumnConstraint()))
        definition.set("constraints", kept)
        definition.set("kind", exp.var(column.type))
    bare.this.set("expressions", definitions)
    return bare.sql(DIALECT, comments=False)


def _query_of(insert: exp.Expr, path: Path, columns: Sequence[Column]) -> exp.Query:
    """The query of the INSERT; an error unless it fills the declared columns in order."""
    if not isinstance(insert, exp.Insert) or not isinstance(insert.expression, exp.Query):
        raise wrong(path, "expected INSERT INTO ... SELECT as the second statement")
    target = insert.this
    declared = [column.name for column in columns]
    named = [c.name.lower() for c in target.expressions] if isinstance(target, exp.Schema) else None
    selected = [c.lower() for c in insert.expression.named_selects]
    if insert.find(exp.Table).name.lower() != path.stem:  # type: ignore[union-attr]
        raise wrong(path, f"the INSERT fills another table than {path.stem}")
    for which, found in (("INSERT INTO names", named), ("SELECT gives", selected)):
        if found != declared:
            raise wrong(
                path,
                f"{which} the columns ({', '.join(found or ['none'])}), but CREATE TABLE declares "
                f"({', '.join(declared)}): name the same columns in the same order",
            )
    return insert.expression


def _read_columns(schema: exp.Schema, path: Path) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    """The primary key, and the columns."""
    definitions = [d for d in schema.expressions if isinstance(d, exp.ColumnDef)]
    if not definitions:
        raise wrong(path, "declares no columns")
    for constraint in schema.find_all(exp.Constraint, exp.ColumnConstraintKind):
        if not isinstance(constraint, UNDERSTOOD):
            said = constraint.sql(DIALECT, comments=False)
            raise wrong(path, f"nothing heeds {said}: declare keys and NOT NULL, without a name")
    primary_key: list[str] = []
    references: dict[str, Reference] = {}
    required = set[str]()
    kinds = [(str(d.name).lower(), c.kind) for d in definitions for c in d.constraints]
    for name, kind in [*kinds, *(("", e) for e in schema.expressions)]:
        if isinstance(kind, exp.PrimaryKeyColumnConstraint):
            primary_key.append(name)
        elif isinstance(kind, exp.PrimaryKey):
            primary_key += [part.name.lower() for part in kind.expressions]
        elif isinstance(kind, exp.NotNullColumnConstraint) and not kind.args.get("allow_null"):
            required.add(name)
        elif isinstance(kind, exp.Reference):
            references[name] = _reference(kind, path)
        elif isinstance(kind, exp.ForeignKey):
            own = [part.name.lower() for part in kind.expressions]
            references["+".join(own)] = _reference(kind.args["reference"], path)
    columns = []
    for definition in definitions:
        name = definition.name.lower()
        if definition.kind is None:
            raise wrong(path, f"column {definition.name} has no type")
        if (spelling := spelled(definition.kind)) is None:
            said = definition.kind.sql(DIALECT)
            raise wrong(path, f"column {name}: not both engines have the type {said}")
        # the last column's comment hangs on nodes below it, sometimes on two of them
        comments = dict.fromkeys(c.strip() for n in definition.walk() for c in n.comments or [])
        nullable = name not in required and name not in primary_key
        columns.append(
            Column(
                name, definition.name, spelling, nullable, " ".join(comments), references.get(name)
            )
        )
    names = [c.name for c in columns]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise wrong(path, f"declares {', '.join(twice)} twice")
    if nowhere := sorted({*primary_key, *references} - set(names)):
        raise wrong(path, f"a key names {', '.join(nowhere)}, which is no column")
    return tuple(primary_key), tuple(columns)


def _reference(reference: exp.Expression, path: Path) -> Reference:
    target = reference.this
    columns = target.expressions if isinstance(target, exp.Schema) else []
    if len(columns) != 1:
        raise wrong(path, "a reference names one column of one table: REFERENCES songs (song_id)")
    return Reference(target.this.name.lower(), columns[0].name.lower())
