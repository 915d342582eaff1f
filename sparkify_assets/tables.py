"""The data classes for what `sql/` declares: tables, columns, references and checks.

`table_files.py` reads them from files, `catalog.py` puts the tables together.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Reference(NamedTuple):
    """The column of another table that a column references."""

    table: str
    column: str


@dataclass(frozen=True)
class Column:
    """A declared column: `key` as spelled in the file, and `name` in lower case."""

    name: str
    key: str
    type: str
    nullable: bool
    description: str
    references: Reference | None


@dataclass(frozen=True)
class Check:
    """A file `sql/checks/<table>__<name>.sql`, whose query returns violations.

    Directives: `-- severity: warn` or error (`blocking`, the default); `-- counts: <unit>`, what a
    violation is called; `-- on: new rows` or all rows (`rows`). By default a blocking check that
    reads only tied tables runs on the rows written, any other on all rows. A row with a column
    `copies` counts as that many violations: `count` is the SQL that adds them up.
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
    """One file of `sql/`.

    `create` is its CREATE TABLE without keys. Its rows come from one of three: `insert`, the INSERT
    of a derived table; `suspects`, the query for texts to repair; `source`, the name of a staging
    table's source. A table with none of these is a ledger that this program writes itself.
    A run shows its first `shown_rows` by sort key with their `shown_columns`. Dagster plots the
    column `plots`, one line per primary key. `person` has the columns that identify a person: the
    id, then names. `reads` are the tables it is made from; `upstream` adds those that its checks
    and references need.
    The rows with a given value of `key` are made only from those rows of each tied table whose
    expression in `ties` has that value. `ways` maps other tables to (a tied table, an expression
    on it, an expression on the other): rows with equal values change together.
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
    person: tuple[str, ...]
    reads: tuple[str, ...]
    upstream: tuple[str, ...]
    checks: tuple[Check, ...]
    key: str | None
    ties: dict[str, str]
    ways: dict[str, tuple[str, str, str]]

    @property
    def references(self) -> dict[str, Reference]:
        """The references by column name."""
        return {c.name: c.references for c in self.columns if c.references}

    @property
    def required(self) -> tuple[str, ...]:
        """The NOT NULL columns, which include the primary key."""
        return tuple(c.name for c in self.columns if not c.nullable)
