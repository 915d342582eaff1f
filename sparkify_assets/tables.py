"""What `sql/` declares: tables with their columns, keys, references and checks.

How a file is read into one is the business of `table_files.py`, how all of them depend on each
other of `catalog.py`. Nothing here knows an engine, Dagster or a particular table.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


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
    by its primary key. `person` are the columns that tell who somebody is: the id, and the names.
    `reads` are the tables it is made from, `upstream` those that its checks and
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
    person: tuple[str, ...]
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
