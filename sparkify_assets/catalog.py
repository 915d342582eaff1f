"""Reads `sql/`: one file is one table's whole contract, and this module turns it into a `Table`.

A table's name, layer, columns, keys, references, upstream tables, descriptions and checks all come
from its file, parsed by sqlglot. What does not belong here: anything about an engine, about Dagster
or about a particular table.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from sparkify_assets.dialect import DIALECT, Header, spelled, statements_of, wrong
from sparkify_assets.errors import SparkifyError

CHECKS = "checks"
QUESTIONS = "analysis"  # queries for people: no tables
LEDGERS = "loading"
VIOLATION = "violating row"  # what a check counts, if its file says nothing else
NOT_NULL = exp.ColumnConstraint(kind=exp.NotNullColumnConstraint())
ENCODE = exp.EncodeColumnConstraint
UNDERSTOOD = exp.NotNullColumnConstraint | exp.PrimaryKeyColumnConstraint | ENCODE


@dataclass(frozen=True)
class Reference:
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
    """A file of `sql/checks/`: its query returns violations, each of them a `unit`."""

    name: str
    table: str
    description: str
    sql: str
    reads: tuple[str, ...]
    blocking: bool
    unit: str


@dataclass(frozen=True)
class Table:
    """One file of `sql/`, read.

    `create` is the statement that creates the table, without keys. `insert` is the one that fills a
    derived table; `suspects` the query for the texts that a table of repairs is made of; `source`
    the name of what a staging table is loaded from. A table with none of these three is a ledger
    that the loading itself writes.
    `shown_rows` is how many of its first rows (by sort key) a run reports as its answer.
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
    upstream: tuple[str, ...]
    checks: tuple[Check, ...]

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
        checks: dict[str, list[Check]] = {}
        needs: list[tuple[Path, set[str]]] = []
        for path in (f for f in files if f.parent.name == CHECKS):
            check = _read_check(path)
            checks.setdefault(check.table, []).append(check)
            needs.append((path, {*check.reads, check.table}))
        tables: dict[str, Table] = {}
        for path in (f for f in files if f.parent.name != CHECKS):
            table = _read_table(path, tuple(checks.get(path.stem, ())))
            if table.name in tables:
                raise wrong(path, f"{table.name} is declared in {tables[table.name].path} too")
            tables[table.name] = table
        needed = {
            table.name: {*table.upstream, *(r.table for r in table.references.values())}
            for table in tables.values()
        }
        needs += [(tables[name].path, others) for name, others in needed.items()]
        for path, reads in needs:
            if unknown := sorted(reads - tables.keys()):
                raise wrong(
                    path, f"unknown table {', '.join(unknown)}; known: {', '.join(sorted(tables))}"
                )
        for table in tables.values():
            for column, reference in table.references.items():
                if reference.column not in (c.name for c in tables[reference.table].columns):
                    raise wrong(
                        table.path,
                        f"{column} refers to {reference.table}.{reference.column}, "
                        "which does not exist",
                    )
            if not (table.insert or table.suspects or table.source or table.layer == LEDGERS):
                raise wrong(table.path, "has no INSERT, and no line such as -- loaded from: x")
        try:
            order = list(TopologicalSorter(needed).static_order())
        except CycleError as error:
            raise SparkifyError(
                f"{folder}: tables depend on each other in a circle: {' <- '.join(error.args[1])}"
            ) from None
        return cls({name: tables[name] for name in order})


def _tables_read(query: exp.Query, path: Path) -> set[str]:
    found = [s for scope in traverse_scope(query) for s in scope.sources.values()]
    tables = [source for source in found if isinstance(source, exp.Table)]  # not a CTE, a subquery
    for table in tables:
        if table.db:
            raise wrong(path, f"name tables without a schema: {table.sql(DIALECT)}")
    return {table.name.lower() for table in tables}


def _read_check(path: Path) -> Check:
    table, separator, name = path.stem.partition("__")
    statements = statements_of(path)
    if not separator or not name:
        raise wrong(path, "name the file <table>__<check>.sql")
    query, text = statements[0] if len(statements) == 1 else (None, "")
    if not isinstance(query, exp.Query):
        raise wrong(path, "expected one SELECT that returns the violating rows")
    header = Header.of(query.comments)
    severity = header.directives.get("severity", "error")
    if severity not in ("warn", "error"):
        raise wrong(path, f"severity is {severity!r}: expected warn or error")
    reads = tuple(sorted(_tables_read(query, path)))
    unit = header.directives.get("counts") or VIOLATION
    return Check(name, table, header.description, text, reads, severity == "error", unit)


def _read_table(path: Path, checks: tuple[Check, ...]) -> Table:
    statements = statements_of(path)
    create = statements[0][0] if statements else None
    if (
        not isinstance(create, exp.Create)
        or create.kind != "TABLE"
        or not isinstance(create.this, exp.Schema)
    ):
        raise wrong(path, "expected CREATE TABLE with its columns as the first statement")
    name = create.this.this.name.lower()
    if name != path.stem:
        raise wrong(path, f"declares the table {name}: the file and its table have the same name")
    primary_key, columns = _read_columns(create.this, path)
    header = Header.of(create.comments)
    insert = suspects = None
    reads = set[str]()
    if len(statements) > 2:
        raise wrong(path, "expected CREATE TABLE and at most one INSERT INTO")
    if len(statements) == 2:
        filling, text = statements[1]
        if "repaired in python" in header.directives:
            suspects, reads = text, _read_suspects(filling, columns, path)
        else:
            insert, reads = text, _read_insert(filling, name, [c.name for c in columns], path)
    sort_key = create.find(exp.SortKeyProperty)
    shown_rows = header.directives.get("show rows")
    if shown_rows is not None and not shown_rows.isdigit():
        raise wrong(path, f"show rows is {shown_rows!r}: expected a number")
    check_reads = {table for check in checks for table in check.reads}
    refers_to = {c.references.table for c in columns if c.references and insert}
    contents = [path.read_bytes(), *(repr(check).encode() for check in checks)]
    return Table(
        name=name,
        layer=path.parent.name,
        path=path,
        description=header.description,
        version=hashlib.sha256(b"\0".join(contents)).hexdigest()[:16],
        columns=columns,
        primary_key=primary_key,
        sort_key=tuple(column.name.lower() for column in sort_key.this) if sort_key else (),
        create=_without_keys(create, columns),
        insert=insert,
        suspects=suspects,
        source=header.directives.get("loaded from"),
        may_be_empty="may be empty" in header.directives,
        shown_rows=int(shown_rows) if shown_rows else None,
        upstream=tuple(sorted((reads | refers_to | check_reads) - {name})),
        checks=checks,
    )


def _without_keys(create: exp.Create, columns: Sequence[Column]) -> str:
    """The statement that creates a table: Redshift would not enforce its keys, but believe them."""
    bare = create.copy()
    definitions = list(bare.find_all(exp.ColumnDef))
    for definition, column in zip(definitions, columns, strict=True):
        encoding = [c for c in definition.constraints if isinstance(c.kind, ENCODE)]
        definition.set("constraints", ([] if column.nullable else [NOT_NULL.copy()]) + encoding)
        definition.set("kind", exp.var(column.type))
    bare.this.set("expressions", definitions)
    return bare.sql(DIALECT, comments=False)


def _read_suspects(query: exp.Expr, columns: Sequence[Column], path: Path) -> set[str]:
    """The tables that hold the texts; an error unless one SELECT gives them, for two columns."""
    if not isinstance(query, exp.Query) or len(query.named_selects) != 1 or len(columns) != 2:
        raise wrong(
            path,
            "a table repaired in Python has two columns, a text and its repair: expected a SELECT "
            "of the texts as the second statement",
        )
    return _tables_read(query, path)


def _read_insert(insert: exp.Expr, table: str, columns: list[str], path: Path) -> set[str]:
    """The tables that the INSERT reads; an error unless it fills the declared columns in order."""
    if not isinstance(insert, exp.Insert) or not isinstance(insert.expression, exp.Query):
        raise wrong(path, "expected INSERT INTO ... SELECT as the second statement")
    target = insert.this
    named = [c.name.lower() for c in target.expressions] if isinstance(target, exp.Schema) else None
    selected = [c.lower() for c in insert.expression.named_selects]
    if insert.find(exp.Table).name.lower() != table:  # type: ignore[union-attr]
        raise wrong(path, f"the INSERT fills another table than {table}")
    for which, found in (("INSERT INTO names", named), ("SELECT gives", selected)):
        if found != columns:
            raise wrong(
                path,
                f"{which} the columns ({', '.join(found or ['none'])}), but CREATE TABLE declares "
                f"({', '.join(columns)}): name the same columns in the same order",
            )
    return _tables_read(insert.expression, path)


def _read_columns(schema: exp.Schema, path: Path) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    definitions = [d for d in schema.expressions if isinstance(d, exp.ColumnDef)]
    if not definitions:
        raise wrong(path, "declares no columns")
    primary_key: list[str] = []
    references: dict[str, Reference] = {}
    required: set[str] = set()
    for constraint in schema.find_all(exp.Constraint, exp.ColumnConstraintKind):
        if not isinstance(constraint, UNDERSTOOD):
            said = constraint.sql(DIALECT, comments=False)
            raise wrong(path, f"nothing heeds {said}: declare keys and NOT NULL, without a name")
    for constraint in schema.expressions:
        if isinstance(constraint, exp.PrimaryKey):
            primary_key += [part.name.lower() for part in constraint.expressions]
        elif isinstance(constraint, exp.ForeignKey):
            own = [part.name.lower() for part in constraint.expressions]
            references[own[0]] = _reference(constraint.args["reference"], len(own), path)
    for definition in definitions:
        name = definition.name.lower()
        for constraint in definition.constraints:
            kind = constraint.kind
            if isinstance(kind, exp.PrimaryKeyColumnConstraint):
                primary_key.append(name)
            elif isinstance(kind, exp.NotNullColumnConstraint) and not kind.args.get("allow_null"):
                required.add(name)
            elif isinstance(kind, exp.Reference):
                references[name] = _reference(kind, 1, path)
    columns = []
    for definition in definitions:
        if definition.kind is None:
            raise wrong(path, f"column {definition.name} has no type")
        name = definition.name.lower()
        spelling = spelled(definition.kind)
        if spelling is None:
            said = definition.kind.sql(DIALECT)
            raise wrong(path, f"column {name}: not both engines have the type {said}")
        # the last column's comment hangs on nodes below it, sometimes on two of them
        comments = dict.fromkeys(c.strip() for n in definition.walk() for c in n.comments or [])
        columns.append(
            Column(
                name=name,
                key=definition.name,
                type=spelling,
                nullable=name not in required and name not in primary_key,
                description=" ".join(comments),
                references=references.get(name),
            )
        )
    names = [c.name for c in columns]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise wrong(path, f"declares {', '.join(twice)} twice")
    if nowhere := sorted({*primary_key, *references} - set(names)):
        raise wrong(path, f"a key names {', '.join(nowhere)}, which is no column")
    return tuple(primary_key), tuple(columns)


def _reference(reference: exp.Expression, width: int, path: Path) -> Reference:
    target = reference.this
    columns = target.expressions if isinstance(target, exp.Schema) else []
    if len(columns) != 1 or width != 1:
        raise wrong(path, "a reference names one column of one table: REFERENCES songs (song_id)")
    return Reference(target.this.name.lower(), columns[0].name.lower())
