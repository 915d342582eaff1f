"""Turns a table's declarations into audits: queries that return violations.

Keys are not declared to the engines: DuckDB would stop at the first violation, and Redshift would
trust them without enforcing them, even in an audit. `publishing.py` acts on the results. Two checks
are not of a table's file: the report's is in `assets.py`, that of late data in `freshness.py`.
To add a check of one table, write `sql/checks/<table>__<check>.sql`; of all, see `audits_of`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError
from sparkify_assets.formats import as_text, counted, launch_command
from sparkify_assets.table_files import COPIES, ROWS, VIOLATION
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Row, Session

SAMPLES = 3


@dataclass(frozen=True)
class Audit:
    """A named query that returns violations; `remedy` says what to do about them.

    `unit` names one violation, and `count` is the SQL that counts them. An audit that `is_partial`
    may run on only the rows written.
    """

    name: str
    description: str
    query: str
    blocking: bool = True
    unit: str = VIOLATION
    count: str = ROWS
    is_partial: bool = True
    remedy: str = ""


@dataclass(frozen=True)
class AuditResult:
    """How many violations an audit found, and the first rows of its query."""

    audit: Audit
    violations: int
    samples: list[Row]

    @property
    def passed(self) -> bool:
        """Whether there are no violations."""
        return not self.violations

    @property
    def found(self) -> str:
        """The number of violations with its unit."""
        return counted(self.violations, self.audit.unit)

    @property
    def sentence(self) -> str:
        """The result in words, with samples."""
        samples = "; ".join(
            ", ".join(f"{name} = {as_text(value)}" for name, value in row.items())
            for row in self.samples
        )
        return (
            f"Check {self.audit.name}: {self.found}. ({self.audit.description}) "
            f"For example: {samples}."
        )


def audits_of(table: Table) -> list[Audit]:
    """Every audit that a table's file asks for; raises SparkifyError if two share a name."""
    audits = []
    if not table.may_be_empty:
        query = f"SELECT COUNT(*) AS row_count FROM {quote(table.name)} HAVING COUNT(*) = 0"
        remedy = f"Make sure that the files of {table.source} hold records." if table.source else ""
        says, unit = "It has at least one row.", "empty table"
        audits.append(Audit("row_count", says, query, True, unit, ROWS, False, remedy))
    if table.required:
        audits.append(_null_keys(table))
    if table.primary_key:
        audits.append(_unique_key(table))
    if table.references:
        audits.append(_foreign_keys(table))
    if table.source:
        audits += [_records_accounted(table), _files_read(table)]
    for c in table.checks:
        by_default = c.blocking and {table.name, *table.ties}.issuperset(c.reads)
        is_partial = c.rows == "new rows" or (by_default and not c.rows)
        audits.append(Audit(c.name, c.description, c.sql, c.blocking, c.unit, c.count, is_partial))
    names = [audit.name for audit in audits]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SparkifyError(
            f"sql/checks/{table.name}__{twice.pop()}.sql: {table.path} has a check of that name "
            "already. Choose another name."
        )
    return audits


def run_audits(session: Session, audits: Sequence[Audit]) -> list[AuditResult]:
    """Runs audits in a session; raises SparkifyError if a query fails."""
    results = []
    for audit in audits:
        violating = f"FROM (\n{audit.query}\n) AS violating"
        try:
            count = int(session.rows(f"SELECT {audit.count} AS n {violating}")[0]["n"])
            samples = session.rows(f"SELECT * {violating} LIMIT {SAMPLES}") if count else []
        except SparkifyError as error:
            raise SparkifyError(f"check {audit.name} does not run", f": {error}") from None
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
    """Numbers the rows first: a planner that trusts the key would skip a plain GROUP BY."""
    keys = ", ".join(map(quote, table.primary_key))
    return Audit(
        "unique_key",
        f"No two rows have the same {', '.join(table.primary_key)}.",
        f"SELECT {keys}, COUNT(*) + 1 AS copies FROM (\n"
        f"SELECT {keys}, ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {keys}) AS nth\n"
        f"FROM {quote(table.name)}\n) AS numbered WHERE nth > 1 GROUP BY {keys}",
        unit="surplus row",
        count="COALESCE(SUM(copies - 1), 0)",
    )


def _foreign_keys(table: Table) -> Audit:
    orphans = (
        f"SELECT CAST('{column}' AS VARCHAR(128)) AS column_name, "
        f"CAST(child.{quote(column)} AS VARCHAR(1024)) AS orphan, COUNT(*) AS copies\n"
        f"FROM {quote(table.name)} AS child LEFT JOIN {quote(reference.table)} AS parent "
        f"ON child.{quote(column)} = parent.{quote(reference.column)}\n"
        f"WHERE child.{quote(column)} IS NOT NULL AND parent.{quote(reference.column)} IS NULL\n"
        f"GROUP BY child.{quote(column)}"
        for column, reference in table.references.items()
    )
    targets = (f"{c} in {r.table}" for c, r in table.references.items())
    return Audit(
        "foreign_keys",
        f"Found, where not null: {', '.join(targets)}.",
        "\nUNION ALL\n".join(orphans),
        unit="orphan reference",
        count=COPIES,
    )


def _files_read(table: Table) -> Audit:
    return Audit(
        "files_read",
        "Every file with content gave at least one row; rejected_records says why not.",
        "SELECT uri, bytes, rows_rejected FROM load_history "
        f"WHERE table_name = '{table.name}' AND rows_loaded = 0 AND rows_rejected > 0",
        blocking=False,
        unit="unread file",
        is_partial=False,
    )


def _records_accounted(table: Table) -> Audit:
    """Every record read is kept, and the ledger agrees with the tables."""
    history = f"FROM load_history WHERE table_name = '{table.name}'"
    return Audit(
        "records_accounted",
        "Every record read is a row of the table or of rejected_records.",
        "SELECT * FROM (\nSELECT COALESCE(SUM(records), 0) AS records_read, "
        "COALESCE(SUM(rows_loaded), 0) AS rows_loaded, "
        f"COALESCE(SUM(rows_rejected), 0) AS rows_rejected {history}\n) AS history\n"
        f"CROSS JOIN (SELECT COUNT(*) AS rows_found FROM {quote(table.name)}) AS loaded\n"
        "CROSS JOIN (\nSELECT COUNT(*) AS rejected_found FROM rejected_records "
        f"WHERE object_id IN (SELECT object_id {history})\n) AS rejected\n"
        "WHERE records_read <> rows_loaded + rows_rejected "
        "OR rows_loaded <> rows_found OR rows_rejected <> rejected_found",
        unit="wrong balance",
        is_partial=False,
        remedy="If someone changed the rows of these tables, load everything again: "
        f"{launch_command(table.name, full_reload=True)}",
    )
