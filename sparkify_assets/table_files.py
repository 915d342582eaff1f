"""Reads one file of `sql/` into a `Table` or a `Check`; `catalog.py` looks at other files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sqlglot import exp

from sparkify_assets.dialect import (
    DIALECT,
    maybe,
    spelled,
    statements_of,
    tables_read,
    ties_in,
    wrong,
)
from sparkify_assets.errors import warn_once
from sparkify_assets.tables import Check, Column, Reference, Table
from sparkify_assets.text_repair import VERSION as REPAIR_VERSION

DIRECTIVES = (
    *("loaded from", "may be empty", "repaired in python", "show rows", "plots"),
    *("maintained by", "a person"),  # up to here in tables
    *("severity", "counts", "on"),  # in checks
)

VIOLATION = "violating row"  # the default unit of a check
ROWS, COPIES = "COUNT(*)", "COALESCE(SUM(copies), 0)"  # how violations are counted
# these survive a cast to text
KEY_TYPES = ("VARCHAR", "SMALLINT", "INTEGER", "BIGINT", "DATE", "TIMESTAMP")
ENCODE = exp.EncodeColumnConstraint
UNDERSTOOD = exp.NotNullColumnConstraint | exp.PrimaryKeyColumnConstraint | ENCODE


def _names_read(query: exp.Expr, path: Path) -> set[str]:
    tables = tables_read(query)
    for table in tables:
        if table.db:
            raise wrong(path, f"name tables without a schema: {table.sql(DIALECT)}")
    return {table.name.lower() for table in tables}


def _header_of(statement: exp.Expr, path: Path) -> tuple[str, dict[str, str]]:
    """The comment above a statement: its description, and its directives."""
    text, directives = [], {}
    for line in (comment.strip() for comment in statement.comments or []):
        name, _, value = line.partition(":")
        if name.lower() in DIRECTIVES:
            directives[name.lower()] = value.strip()
            continue
        text.append(line)
        if guess := maybe(name.lower(), DIRECTIVES, 0.8):
            warn_once(f"{path}: -- {name} is no directive{guess}")
    if not text:
        warn_once(f"{path}: lacks a description: one sentence in the comment above the statement")
    return " ".join(text), directives


def read_check(path: Path, content: str) -> Check:
    """Reads a check; raises SparkifyError with path and line if the file is wrong."""
    table, _, name = path.stem.partition("__")
    statements = statements_of(path, content)
    if not name:
        raise wrong(path, "name the file <table>__<check>.sql")
    query, text = statements[0] if len(statements) == 1 else (None, "")
    if not isinstance(query, exp.Query):
        raise wrong(path, "expected one SELECT that returns the violating rows")
    says, directives = _header_of(query, path)
    severity = directives.get("severity", "error")
    if severity not in ("warn", "error"):
        raise wrong(path, f"severity is {severity!r}: expected warn or error")
    rows = directives.get("on", "")
    if rows not in ("", "new rows", "all rows"):
        raise wrong(path, f"on is {rows!r}: expected new rows or all rows")
    reads = tuple(sorted(_names_read(query, path)))
    unit = directives.get("counts") or VIOLATION
    count = COPIES if "copies" in query.named_selects else ROWS
    is_blocking = severity == "error"
    return Check(name, table, path, content, says, text, reads, is_blocking, unit, count, rows)


def read_table(path: Path, content: str, checks: tuple[Check, ...]) -> Table:
    """Reads a table; raises SparkifyError with path and line if the file is wrong."""
    (create, _), *fillings = statements_of(path, content) or [(exp.null(), "")]
    schema = create.this
    if not isinstance(create, exp.Create) or not isinstance(schema, exp.Schema):
        what = "expected CREATE TABLE with its columns, and a ; after it, as the first statement"
        raise wrong(path, what)
    if schema.this.name.lower() != path.stem:
        raise wrong(path, f"declares the table {schema.this.name}: name file and table alike")
    description, directives = _header_of(create, path)
    primary_key, columns = _read_columns(schema, path)
    is_repair = "repaired in python" in directives
    if len(fillings) > 1:
        raise wrong(path, "expected CREATE TABLE and at most one INSERT INTO")
    text, reads = "", set[str]()
    if fillings:
        filling, text = fillings[0]
        # an engine that names a line shall mean that of the file
        text = "\n" * content[: content.index(text)].count("\n") + text
        is_sound = isinstance(filling, exp.Query) and len(filling.named_selects) == 1
        if is_repair and not (is_sound and len(columns) == 2):
            raise wrong(
                path,
                "a table repaired in Python has two columns, a text and its repair: expected a "
                "SELECT of the texts as the second statement",
            )
        reads = _names_read(filling if is_repair else _query_of(filling, path, columns), path)
    others = {name for check in checks for name in check.reads}
    others |= {c.references.table for c in columns if c.references and reads and not is_repair}
    key, ties, ways = ties_in(directives.get("maintained by", ""), path)
    kept = [c for c in columns if not c.nullable and c.type.startswith(KEY_TYPES)]
    if key and key not in (column.name for column in kept):
        raise wrong(path, f"maintained by: {key} is not a NOT NULL column of a type for keys")
    tied = {*ties, *ways, *(by for by, _, _ in ways.values())}
    if (ties and not key and not is_repair) or {by for by, _, _ in ways.values()} - ties.keys():
        raise wrong(path, "maintained by: expected column = table.column for each table on a way")
    if unread := sorted(tied - reads - others):
        raise wrong(path, f"maintained by: the query does not read {', '.join(unread)}")
    shown_rows, _, of = directives.get("show rows", "0").partition(" of ")
    names = [column.name for column in columns]
    shown_columns = tuple(of.replace(",", " ").split()) or tuple(names)
    if not shown_rows.isdigit() or not set(shown_columns) <= set(names):
        what = f"expected 10, or 10 of {', '.join(names)}, not {directives['show rows']}"
        raise wrong(path, f"show rows: {what}")
    plots = directives.get("plots")
    if plots and (plots not in names or len(primary_key) != 1):
        raise wrong(path, f"plots {plots!r}: expected a column, and a primary key of one column")
    person = tuple(directives.get("a person", "").lower().replace(",", " ").split())
    if len(person) == 1 or not set(person) <= set(names):
        raise wrong(path, f"a person: expected columns, the id and then names, not {person}")
    sort_key = create.find(exp.SortKeyProperty)
    parts = [path.name, content, *(part for c in checks for part in (c.path.name, c.text))]
    parts += [REPAIR_VERSION] if is_repair else []
    return Table(
        name=path.stem,
        layer=path.parent.name,
        path=path,
        description=description,
        version=hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16],
        columns=columns,
        primary_key=primary_key,
        sort_key=tuple(column.name.lower() for column in sort_key.this) if sort_key else (),
        create=_without_keys(create, columns),
        insert=None if is_repair else text or None,
        suspects=text if is_repair else None,
        source=directives.get("loaded from"),
        may_be_empty="may be empty" in directives,
        shown_rows=int(shown_rows) or None,
        shown_columns=shown_columns,
        plots=plots,
        person=person,
        reads=tuple(sorted(reads)),
        upstream=tuple(sorted((reads | others) - {path.stem})),
        checks=checks,
        key=key,
        ties=ties,
        ways=ways,
    )


def _without_keys(create: exp.Create, columns: Sequence[Column]) -> str:
    """CREATE TABLE without keys, which Redshift would trust but not enforce."""
    bare = create.copy()
    definitions = list(bare.find_all(exp.ColumnDef))
    for definition, column in zip(definitions, columns, strict=True):
        kept = [c for c in definition.constraints if isinstance(c.kind, ENCODE)]
        if not column.nullable:
            kept.insert(0, exp.ColumnConstraint(kind=exp.NotNullColumnConstraint()))
        definition.set("constraints", kept)
        definition.set("kind", exp.DataType.build(column.type, dialect=DIALECT))
    bare.this.set("expressions", definitions)
    return bare.sql(DIALECT, comments=False)


def _query_of(insert: exp.Expr, path: Path, columns: Sequence[Column]) -> exp.Query:
    """The query of an INSERT; raises unless it fills the declared columns in order."""
    if not isinstance(insert, exp.Insert) or not isinstance(insert.expression, exp.Query):
        raise wrong(path, "expected INSERT INTO ... SELECT as the second statement")
    target = insert.this
    declared = [column.name for column in columns]
    named = [c.name.lower() for c in target.expressions] if isinstance(target, exp.Schema) else None
    selected = [c.lower() for c in insert.expression.named_selects]
    if insert.find(exp.Table).name.lower() != path.stem:  # type: ignore[union-attr]
        raise wrong(path, f"the INSERT fills another table, not {path.stem}")
    for which, found in (("INSERT INTO names", named), ("SELECT gives", selected)):
        if found != declared:
            raise wrong(
                path,
                f"{which} the columns ({', '.join(found or ['none'])}), but CREATE TABLE declares "
                f"({', '.join(declared)}): name the same columns in the same order",
                insert,
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
            raise wrong(path, f"{said} has no effect: declare only keys and NOT NULL, unnamed")
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
            raise wrong(path, f"column {name}: the engines do not share the type {said}")
        # sqlglot attaches the last column's comment to nodes below it, sometimes to two
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
        raise wrong(path, f"a key names {', '.join(nowhere)}, which is not a column")
    return tuple(primary_key), tuple(columns)


def _reference(reference: exp.Expression, path: Path) -> Reference:
    target = reference.this
    columns = target.expressions if isinstance(target, exp.Schema) else []
    if len(columns) != 1:
        raise wrong(path, "a reference names one column of one table: REFERENCES songs (song_id)")
    return Reference(target.this.name.lower(), columns[0].name.lower())
