"""A transaction on Redshift: how tables are created, filled and replaced there.

A table with an INSERT is built in a temporary table of the same name, without NOT NULL, which
Redshift would enforce instead of counting. Once audited, it replaces the published rows by DELETE
and INSERT: grants, views and the table's identity survive, and readers keep their snapshot until
the commit. Other tables are written in place.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from redshift_connector.error import Error

from sparkify_assets.catalog import Table
from sparkify_assets.dialect import quote, type_named
from sparkify_assets.settings import RedshiftSettings
from sparkify_assets.warehouse.base import Session
from sparkify_assets.warehouse.landing import Landing, bare_columns
from sparkify_assets.warehouse.redshift_copy import copy_landed
from sparkify_assets.warehouse.redshift_errors import translate_error


class RedshiftSession(Session):
    """A transaction on Redshift, begun and ended by `RedshiftWarehouse`."""

    def __init__(
        self,
        connection: Any,
        settings: RedshiftSettings,
        *,
        work_uri: str,
        read_only: bool,
        recreate: bool,
    ) -> None:
        super().__init__(settings.address, recreate=recreate)
        self._connection = connection
        self._settings = settings
        self._work_uri = work_uri
        self._read_only = read_only

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        """Executes one statement; `Interrupted` says that the whole transaction can be repeated."""
        cursor = self._connection.cursor()
        cursor.paramstyle = "qmark"
        try:
            return cursor.execute(statement, list(parameters) or None)
        except (Error, OSError) as error:
            raise translate_error(error, self.address) from None

    def published(self, table: Table) -> str:
        """The name of a table that no temporary table can take."""
        return f"{quote(self._settings.schema_name)}.{quote(table.name)}"

    def columns(self, table: Table) -> list[str]:
        if not self._read_only:
            self._drop_keys(table)
        found = self.rows(
            "SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type "
            "FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = ? AND c.relname = ? AND a.attnum > 0 AND NOT a.attisdropped "
            "ORDER BY a.attnum",
            [self._settings.schema_name, table.name],
        )
        return [f"{row['name']} {type_named(row['type'])}" for row in found]

    def drop(self, table: Table) -> None:
        """Drops a table that is to be recreated, and says which grants go with it."""
        grants = self.rows(
            "SELECT privilege_type AS privilege, grantee "
            "FROM information_schema.table_privileges "
            "WHERE table_schema = ? AND table_name = ? AND grantee <> grantor "
            "ORDER BY grantee, privilege_type",
            [self._settings.schema_name, table.name],
        )
        lost = ", ".join(f"{row['privilege']} to {row['grantee']}" for row in grants) or "none"
        dg.get_dagster_logger().warning(f"{table.name}: recreated; it had these grants: {lost}")
        super().drop(table)

    def insert(self, landing: Landing, after_id: int = 0) -> None:
        copy_landed(self, landing, after_id, self._work_uri, self._settings)

    def candidate(self, table: Table) -> str:
        return f"CREATE TEMP TABLE {quote(table.name)} ({bare_columns(table)})"

    def publish(self, table: Table) -> None:
        if table.insert:
            self.merge(table, table.name, "true")
        else:
            self.written.append(table)

    def _drop_keys(self, table: Table) -> None:
        """Drops the keys that an earlier version declared, which Redshift would trust unproved."""
        keys = self.rows(
            "SELECT n.nspname AS schema_name, c.relname AS table_name, k.conname AS name "
            "FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "JOIN pg_class AS t ON t.oid = k.conrelid OR t.oid = k.confrelid "
            "JOIN pg_namespace AS s ON s.oid = t.relnamespace "
            "WHERE k.contype IN ('f', 'p', 'u') AND s.nspname = ? AND t.relname = ? "
            "ORDER BY k.contype, n.nspname, c.relname, k.conname",  # those that refer come first
            [self._settings.schema_name, table.name],
        )
        for key in keys:
            owner = f"{quote(key['schema_name'])}.{quote(key['table_name'])}"
            self.execute(f"ALTER TABLE {owner} DROP CONSTRAINT {quote(key['name'])}")
            dg.get_dagster_logger().info(f"{owner}: {key['name']} is no longer declared")
