"""Incremental maintenance: which rows of a table are stale, and how only they are rebuilt.

`published_tables` records how each table was last published, `stale_keys` which rows have become
stale since. Publishing a table notes the stale keys of every downstream table. The next publish of
that one rebuilds those rows, by its own SELECT on the upstream rows that its `-- maintained by:`
ties to them. A table without ties, or with too many stale rows, is rebuilt as a whole.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum

from sparkify_assets.audit import Audit, AuditResult, audits_of
from sparkify_assets.catalog import Catalog
from sparkify_assets.dialect import names_in, on_tables, quote
from sparkify_assets.errors import SparkifyError
from sparkify_assets.formats import as_text
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Row, Session
from sparkify_assets.warehouse.landing import bare_columns

# Temporary tables: stale keys, their rows before and now, and the rows that differ.
STALE, BEFORE, NOW, CHANGED = "stale keys", "rows before", "rows now", "changed rows"
ALIKE = "rows with a key of these"
KEYS = f"(SELECT stale_key FROM {quote(STALE)})"
FEW_KEYS = 1_000  # are maintained by key whatever their share
MOST_STALE = 0.2  # of the rows; beyond, a full rebuild is cheaper
DETAILS_BYTES = 65_000


Scope = Enum("Scope", ["NOTHING", "PART", "ALL"])  # how much of a table is rebuilt


class Upkeep:
    """One publish of a staging or derived table, in a session that can write.

    `rebuild` asks for all rows.
    """

    def __init__(self, session: Session, catalog: Catalog, table: Table, *, rebuild: bool) -> None:
        self.table, self._session, self._catalog = table, session, catalog
        self._is_stale = f"{quote(table.key or '')} IN {KEYS}"
        self._parts = {name: f"{name} in part" for name in table.ties}
        self._now = datetime.now(UTC).replace(tzinfo=None)
        if any(session.shape(book) != "" for book in catalog.maintenance):
            for book in catalog.maintenance:  # one is useless without the other
                session.empty(book)
        this = f"table_name = '{table.name}'"
        self.last = next(iter(session.rows(f"SELECT * FROM published_tables WHERE {this}")), None)
        self._is_known = (
            self.last is not None
            and not rebuild
            and self.last["file_version"] == table.version
            and session.shape(table) == ""
            and session.count(table.name) == self.last["row_count"]
        )
        [stale] = session.rows(
            "SELECT COUNT(*) AS notes, COUNT(stale_key) AS told, COUNT(DISTINCT stale_key) AS keys "
            f"FROM stale_keys WHERE {this}"
        )
        is_told = stale["told"] == stale["notes"] and not self._is_much(stale["keys"])
        self.scope = Scope.PART if self._is_known and table.ties and is_told else Scope.ALL
        if self._is_known and not stale["notes"]:
            self.scope = Scope.NOTHING
        self._changes: bool | None = None  # whether CHANGED has rows; None: not known
        self._has_losses = self._has_before = False

    def is_audit_due(self, days: float) -> bool:
        """Whether all rows were last audited this many days ago."""
        return self.last is None or self._now - self.last["audited_at"] >= timedelta(days=days)

    # --- Build -------------------------------------------------------------------------------

    def build(self) -> None:
        """Builds the stale rows by the table's INSERT."""
        table, name = self.table, quote(self.table.name)
        if self.scope is Scope.PART:
            insert = self.on_stale_part(table.insert or "", {table.name: NOW})
            self._session.execute(f"CREATE TEMP TABLE {quote(NOW)} ({bare_columns(table)})")
            self._session.fill(table, insert)
            astray = f"SELECT * FROM {quote(NOW)} WHERE NOT {self._is_stale}"
            if rows := self._session.rows(f"{astray} LIMIT 1"):
                raise SparkifyError(
                    f"{table.path}: maintained by {table.key} is wrong: for some values of it, the "
                    "query returns rows with other values. Fix or remove that line",
                    f". For example: {rows[0]}",
                )
            self._copy(BEFORE, f"* FROM {name} WHERE {self._is_stale}")
            self._compare(quote(NOW))
            return
        # of a table with ties only the referenced columns: it may be large
        known = [r for other in self._catalog.assets for r in other.references.values()]
        referred = sorted({r.column for r in known if r.table == table.name})
        columns = referred if table.ties else [column.name for column in table.columns]
        self._has_before = self._session.shape(table) == ""
        if self._has_before:
            self._copy(BEFORE, f"{', '.join(map(quote, columns)) or '1 AS nothing'} FROM {name}")
        self._session.build(table)
        if self._has_before and self._is_known and not table.ties:
            self._compare(name)

    def on_stale_part(self, statement: str, others: dict[str, str] | None = None) -> str:
        """The statement, in scope PART on only those rows of tied tables that it needs."""
        if self.scope is not Scope.PART:
            return statement
        types = [column.type for column in self.table.columns if column.name == self.table.key]
        self._copy(
            STALE,
            f"DISTINCT CAST(stale_key AS {types[0] if types else 'BIGINT'}) AS stale_key "
            f"FROM stale_keys WHERE table_name = '{self.table.name}'",
        )
        used = {reference.column for reference in self.table.references.values()}
        used.update(*map(names_in, [statement, *(check.sql for check in self.table.checks)]))
        for name, tie in self.table.ties.items():
            columns = [c.name for c in self._catalog.tables[name].columns if used & {c.name, "*"}]
            tied = f"{', '.join(map(quote, columns)) or '*'} FROM {quote(name)}"
            self._copy(self._parts[name], f"{tied} WHERE {tie} IN {KEYS}")
        return on_tables(statement, self._parts | (others or {}))

    def keep(self, condition: str, *, is_loss: bool = False) -> None:
        """Notes rows that a load is about to delete from a staging table, or has inserted."""
        self._has_losses |= is_loss
        kept, name = quote(CHANGED), quote(self.table.name)
        columns = bare_columns(self.table)
        self._session.execute(f"CREATE TEMP TABLE IF NOT EXISTS {kept} ({columns})")
        self._session.execute(f"INSERT INTO {kept} SELECT * FROM {name} WHERE {condition}")

    def changed_in_place(self, *, is_known: bool) -> None:
        """Reports that a load wrote the table; `is_known` if `keep` was given every change."""
        table = self.table
        self.scope = Scope.ALL
        is_known &= self._is_known
        if not is_known or self._is_much(count := self._session.count(CHANGED)):
            return
        self._changes = count > 0
        if table.key:
            key, self.scope = quote(table.key), Scope.PART
            self._copy(
                NOW,
                f"* FROM {quote(table.name)} WHERE {key} IN (SELECT {key} FROM {quote(CHANGED)})",
            )

    def changed_nothing_below(self) -> None:
        """Reports that the table's new rows make nothing downstream stale."""
        if self._is_known:
            self._changes = False

    # --- Audit -------------------------------------------------------------------------------

    def audits(self, *, is_due: bool) -> tuple[list[Audit], list[Audit]]:
        """The audits to run before publishing and after; `is_due` asks for all rows."""
        audits = audits_of(self.table)
        if self.scope is Scope.ALL:
            return audits, []
        made: list[Audit] = []
        if self.scope is Scope.PART and self.table.key:
            own = {self.table.name: NOW}
            swaps = {"foreign_keys": own, "unique_key": {self.table.name: self._alike()}}
            for audit in audits:
                if audit.is_partial:
                    tables = swaps.get(audit.name, self._parts | own)
                    made.append(replace(audit, query=on_tables(audit.query, tables)))
        done = set() if is_due else {audit.name for audit in made}
        return made, [audit for audit in audits if audit.name not in done]

    # --- Publish -----------------------------------------------------------------------------

    def publish(self) -> None:
        """Publishes the built rows, and notes what they make stale downstream."""
        if self.scope is Scope.NOTHING:
            return
        if self.scope is Scope.PART and self.table.insert:
            self._session.merge(self.table, NOW, self._is_stale)
        else:
            self._session.publish(self.table)
        published = self._session.rows("SELECT table_name, file_version FROM published_tables")
        known = {row["table_name"]: row["file_version"] for row in published}
        books = {ledger.name for ledger in self._catalog.ledgers if self.table.source}
        for other in self._catalog.assets:
            if other is self.table or not known.get(other.name):
                continue
            if known[other.name] != other.version:  # its ties may have changed: rebuild it
                distrust(self._session, f"= '{other.name}'")
            elif books & set(other.reads):
                self._mark(other)
            elif self._changes is not False:
                self._note(other)

    def record(self, results: list[AuditResult], preview: list[Row], *, is_audit: bool) -> int:
        """Records the publish and clears the stale keys; returns the table's number of rows.

        `is_audit` means that the results are of all rows.
        """
        name = self.table.name
        checks = {r.audit.name: (r.violations, list(map(_as_json, r.samples))) for r in results}
        rows = self._session.count(name)
        details = json.dumps({"preview": list(map(_as_json, preview)), "checks": checks})
        if len(details.encode()) > DETAILS_BYTES:
            counts = {check: (violations, ()) for check, (violations, _) in checks.items()}
            details = json.dumps({"preview": [], "checks": counts})
        is_same = self.scope is Scope.NOTHING or self._changes is False
        since = self.last["published_at"] if self.last and is_same else self._now
        audited_at = self._now if is_audit or not self.last else self.last["audited_at"]
        # a removed table is rebuilt if its file comes back: nobody notes its stale keys
        others = [table.name for table in self._catalog.assets if table.name != name]
        known = ", ".join(f"'{other}'" for other in ("", *others))  # never an empty list
        distrust(self._session, f"NOT IN ({known})")
        self._session.execute(f"DELETE FROM published_tables WHERE table_name = '{name}'")
        self._session.execute(
            "INSERT INTO published_tables (table_name, file_version, row_count, published_at, "
            "audited_at, details) VALUES (?, ?, ?, ?, ?, ?)",
            [name, self.table.version, rows, since, audited_at, details],
        )
        for parent in self._catalog.derived:
            if parent.suspects and parent.name in self.table.reads:
                # it was built before its texts were repaired, and must be rebuilt afterwards
                self._mark(self.table, "NULL", f"stale_keys WHERE table_name = '{parent.name}'")
        return rows

    def _note(self, other: Table) -> None:
        """Notes the stale rows of a table that reads this one or references it."""
        name, changed = self.table.name, quote(CHANGED)
        read = {*other.reads, *other.ties, *(n for check in other.checks for n in check.reads)}
        referring = {
            quote(c): quote(r.column) for c, r in other.references.items() if r.table == name
        }
        if name not in read and not referring:
            return
        needed = {other.name, other.ways[name][0]} if name in other.ways else {other.name}
        is_there = all(self._session.shape(self._catalog.tables[n]) == "" for n in needed)
        if name in read:
            if self._changes is None or not is_there or (other.suspects and self._has_losses):
                self._mark(other)
            elif tie := other.ties.get(name):
                self._mark(other, tie, f"{changed} AS {quote(name)}")
            elif name in other.ways:
                by, to, own = other.ways[name]
                reached = f"SELECT {own} FROM {changed} AS {quote(name)}"
                self._mark(other, other.ties[by], f"{quote(by)} WHERE {to} IN ({reached})")
            else:
                self._mark(other)
            return
        if not is_there or (self._changes is None and not self._has_before):
            self._mark(other)
            return
        old = BEFORE if self._changes is None else CHANGED
        for column, key in referring.items():
            lost = f"SELECT {key} FROM {quote(old)} EXCEPT SELECT {key} FROM {quote(name)}"
            orphans = f"{quote(other.name)} WHERE {column} IN ({lost})"
            self._mark(other, quote(other.key) if other.key else "NULL", orphans)

    def _mark(self, other: Table, key: str = "NULL", source: str = "") -> None:
        """Notes the keys in a source as stale, by default every row (NULL)."""
        where = "" if key == "NULL" else " WHERE found.stale_key IS NOT NULL"
        self._session.execute(
            f"INSERT INTO stale_keys SELECT DISTINCT CAST('{other.name}' AS VARCHAR(128)), "
            "found.stale_key FROM (SELECT "
            f"CAST({key} AS VARCHAR(2048)) AS stale_key{f' FROM {source}' if source else ''}"
            f") AS found{where}"
        )

    def _alike(self) -> str:
        """A table of the built rows, and of all other rows that share a primary key with one."""
        keys = ", ".join(map(quote, self.table.primary_key))
        if self.table.key in self.table.primary_key or not keys or not self.table.insert:
            return NOW
        others = f"SELECT {keys} FROM {quote(self.table.name)} WHERE NOT {self._is_stale}"
        self._copy(
            ALIKE,
            f"{keys} FROM {quote(NOW)} UNION ALL {others} "
            f"AND ({keys}) IN (SELECT {keys} FROM {quote(NOW)})",
        )
        return ALIKE

    def _is_much(self, keys: int) -> bool:
        rows = self.last["row_count"] if self.last else 0
        return keys > max(FEW_KEYS, MOST_STALE * rows)

    def _copy(self, name: str, selected: str) -> None:
        self._session.execute(f"CREATE TEMP TABLE {quote(name)} AS SELECT {selected}")

    def _compare(self, now: str) -> None:
        """Finds the rows that differ from before."""
        columns = ", ".join(quote(column.name) for column in self.table.columns)
        # counted, because EXCEPT merges equal rows
        before, after = (
            f'SELECT {columns}, COUNT(*) AS "equal rows" FROM {rows} GROUP BY {columns}'
            for rows in (quote(BEFORE), now)
        )
        gone, new = f"({before} EXCEPT {after})", f"({after} EXCEPT {before})"
        self._copy(CHANGED, f"* FROM ({gone} UNION ALL {new}) AS differing")
        self._changes = self._session.count(CHANGED) > 0


def distrust(session: Session, names: str) -> None:
    """Makes the next publish rebuild tables; `names` is a condition such as `= 'users'`."""
    session.execute(f"DELETE FROM stale_keys WHERE table_name {names}")
    session.execute(
        f"UPDATE published_tables SET file_version = '' WHERE table_name {names} "
        "AND file_version <> ''"
    )


def last_published(session: Session, catalog: Catalog) -> dict[str, Row]:
    """The rows of `published_tables` by table name; empty if there is no such table."""
    if session.shape(catalog.tables["published_tables"]) != "":
        return {}
    rows = session.rows("SELECT * FROM published_tables ORDER BY table_name")
    return {row["table_name"]: row for row in rows}


def removed_tables(session: Session, catalog: Catalog) -> list[str]:
    """Names of published tables that still exist but whose file is gone."""
    names = [name for name in last_published(session, catalog) if name not in catalog.tables]
    return [name for name in names if session.columns(name)]


def recorded(table: Table, last: Row) -> tuple[list[AuditResult], list[Row]]:
    """The audit results and first rows that `published_tables` holds of a table."""
    details = json.loads(last["details"])
    audits = [audit for audit in audits_of(table) if audit.name in details["checks"]]
    results = [AuditResult(audit, *details["checks"][audit.name]) for audit in audits]
    return results, details["preview"]


def _as_json(row: Row) -> Row:
    return {
        name: value if value is None or isinstance(value, int | float) else as_text(value)
        for name, value in row.items()
    }
