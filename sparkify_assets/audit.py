"""Turns what a table declares into audits: queries that return the violating rows.

Redshift does not enforce keys and DuckDB is not told of them, so every declared constraint is
proved here, before the table is published. What an audit's result means for Dagster is said in
`assets.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sparkify_assets.catalog import Table
from sparkify_assets.console import counted
from sparkify_assets.errors import SparkifyError, launch_command, printable
from sparkify_assets.warehouse.base import Row, Session, quote

SAMPLES = 3


@dataclass(frozen=True)
class Audit:
    """A named query that returns the rows that violate a rule; `remedy` says what to do then."""

    name: str
    description: str
    query: str
    blocking: bool = True
    remedy: str = ""


@dataclass(frozen=True)
class AuditResult:
    """How many rows violate an audit, and the first of them."""

    audit: Audit
    violations: int
    samples: list[Row]

    @property
    def passed(self) -> bool:
        """Whether no row violates the rule."""
        return not self.violations

    def in_words(self) -> str:
        """What was found, as one sentence with samples."""
        samples = "; ".join(
            ", ".join(f"{name} = {printable(str(value))}" for name, value in row.items())
            for row in self.samples
        )
        rows = counted(self.violations, "violating row")
        return f"Check {self.audit.name}: {rows}. ({self.audit.description}) Such as: {samples}."


def audits_of(table: Table) -> list[Audit]:
    """Every audit that a table's file asks for."""
    name = quote(table.name)
    audits = []
    if not table.may_be_empty:
        query = f"SELECT COUNT(*) AS row_count FROM {name} HAVING COUNT(*) = 0"
        remedy = f"Make sure that the files of {table.source} hold records." if table.source else ""
        audits.append(Audit("row_count", "The table has at least one row.", query, remedy=remedy))
    if table.required:
        audits.append(_null_keys(table))
    if table.primary_key:
        audits.append(_unique_key(table))
    if table.references:
        audits.append(_foreign_keys(table))
    if table.source:
        audits += [_records_accounted(table), _files_read(table)]
    audits += [Audit(c.name, c.description, c.sql, c.blocking) for c in table.checks]
    names = [audit.name for audit in audits]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SparkifyError(
            f"sql/checks/{table.name}__{twice.pop()}.sql: {table.path} asks for a check of that "
            "name already. Give it another."
        )
    return audits


def run_audits(session: Session, audits: Sequence[Audit]) -> list[AuditResult]:
    """Counts and samples what violates each audit, in the session's view of the tables."""
    results = []
    for audit in audits:
        violating = f"FROM (\n{audit.query}\n) AS violating"
        try:
            count = int(session.rows(f"SELECT COUNT(*) AS n {violating}")[0]["n"])
            samples = session.rows(f"SELECT * {violating} LIMIT {SAMPLES}") if count else []
        except SparkifyError as error:
            raise SparkifyError(f"check {audit.name} does not run: {error}") from None
        results.append(AuditResult(audit, count, samples))
    return results


def _null_keys(table: Table) -> Audit:
    shown = dict.fromkeys([*table.primary_key, *table.required])
    is_null = " OR ".join(f"{quote(column)} IS NULL" for column in table.required)
    return Audit(
        "null_keys",
        f"Never null: {', '.join(table.required)}.",
        f"SELECT {', '.join(map(quote, shown))} FROM {quote(table.name)} WHERE {is_null}",
    )


def _unique_key(table: Table) -> Audit:
    """For a staging table it names the files of the copies: the first of them, and the last."""
    keys = ", ".join(map(quote, table.primary_key))
    description = f"No two rows have the same {', '.join(table.primary_key)}."
    found, copies = f"SELECT {keys}, COUNT(*) AS copies", f"GROUP BY {keys} HAVING COUNT(*) > 1"
    if not table.source:
        return Audit("unique_key", description, f"{found} FROM {quote(table.name)} {copies}")
    return Audit(
        "unique_key",
        description,
        f"SELECT {keys}, copies, f.uri AS first_file, l.uri AS last_file FROM (\n"
        f"{found}, MIN(object_id) AS first_id, MAX(object_id) AS last_id\n"
        f"FROM {quote(table.name)} {copies}\n) AS copied\n"
        "LEFT JOIN load_history AS f ON copied.first_id = f.object_id\n"
        "LEFT JOIN load_history AS l ON copied.last_id = l.object_id",
        remedy="If a file was copied or renamed, undo that; if one file holds both, take one out "
        f"of it; or load all anew: {launch_command(table.name, full_reload=True)}",
    )


def _foreign_keys(table: Table) -> Audit:
    orphans = []
    for column, reference in table.references.items():
        orphans.append(
            f"SELECT CAST('{column}' AS VARCHAR(128)) AS column_name, "
            f"CAST(child.{quote(column)} AS VARCHAR(1024)) AS orphan, COUNT(*) AS copies\n"
            f"FROM {quote(table.name)} AS child LEFT JOIN {quote(reference.table)} AS parent "
            f"ON child.{quote(column)} = parent.{quote(reference.column)}\n"
            f"WHERE child.{quote(column)} IS NOT NULL "
            f"AND parent.{quote(reference.column)} IS NULL\n"
            f"GROUP BY child.{quote(column)}"
        )
    targets = (f"{c} in {r.table}" for c, r in table.references.items())
    return Audit(
        "foreign_keys",
        f"Found, where not null: {', '.join(targets)}.",
        "\nUNION ALL\n".join(orphans),
    )


def _files_read(table: Table) -> Audit:
    return Audit(
        "files_read",
        "Every file that holds something gave at least one row; rejected_records says why not.",
        "SELECT uri, bytes, rows_rejected FROM load_history "
        f"WHERE table_name = '{table.name}' AND rows_loaded = 0 AND rows_rejected > 0",
        blocking=False,
    )


def _records_accounted(table: Table) -> Audit:
    """The balances of loading: what was read is kept, and the ledger agrees with the tables."""
    history = f"FROM load_history WHERE table_name = '{table.name}'"
    rejected = (
        f"SELECT COUNT(*) FROM rejected_records WHERE object_id IN (SELECT object_id {history})"
    )
    balances = {
        "records read = rows loaded + rejected": (
            f"SELECT COALESCE(SUM(records), 0) {history}",
            f"SELECT COALESCE(SUM(rows_loaded + rows_rejected), 0) {history}",
        ),
        f"rows loaded = rows of {table.name}": (
            f"SELECT COALESCE(SUM(rows_loaded), 0) {history}",
            f"SELECT COUNT(*) FROM {quote(table.name)}",
        ),
        "rows rejected = rows of rejected_records": (
            f"SELECT COALESCE(SUM(rows_rejected), 0) {history}",
            rejected,
        ),
    }
    sides = "\nUNION ALL\n".join(
        f"SELECT CAST('{name}' AS VARCHAR(256)) AS balance, "
        f"({left}) AS expected, ({right}) AS found"
        for name, (left, right) in balances.items()
    )
    return Audit(
        "records_accounted",
        "Every record read is a row of the table or of rejected_records.",
        f"SELECT balance, expected, found FROM (\n{sides}\n) AS balances WHERE expected <> found",
        remedy="If somebody changed the rows of these tables, load all anew: "
        f"{launch_command(table.name, full_reload=True)}",
    )
