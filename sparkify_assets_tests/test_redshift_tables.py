"""Tables on Redshift: how they are created, without keys, and made anew without a loss."""

import re

import pytest

from sparkify_assets_tests.platform import (
    RedshiftPlatform,
    failed_checks,
    failure_of,
)
from sparkify_assets_tests.redshift_work import is_redshift_sql, load, publish, sent, warehouse

RECREATE = {"ops": {"users": {"config": {"recreate": True}}}}


@pytest.fixture
def platform(redshift: RedshiftPlatform) -> RedshiftPlatform:
    return redshift


def test_tables_are_created_as_their_files_say_but_for_keys(made: RedshiftPlatform) -> None:
    """Redshift would not enforce a key, and might answer from the belief in it."""
    made.edit("star/users.sql", "NOT NULL PRIMARY KEY", "PRIMARY KEY ENCODE az64")
    assert made.defs().resolve_job_def("create_tables").execute_in_process().success
    created = [sql for sql in sent(made) if "CREATE TABLE" in sql and "mutex" not in sql]
    assert len(created) == len(made.catalog.tables)
    assert all("DISTSTYLE" in sql or "DISTKEY" in sql for sql in created)
    assert not any(re.search("PRIMARY|FOREIGN|REFERENCES|UNIQUE", sql) for sql in created)
    [users] = [sql for sql in created if sql.startswith("CREATE TABLE users ")]
    assert "(user_id BIGINT NOT NULL ENCODE az64, first_name VARCHAR(1024), " in users
    assert users.endswith(") DISTSTYLE ALL SORTKEY(user_id)")
    for sql in created:
        assert is_redshift_sql(sql), sql


def test_keys_that_an_earlier_version_declared_are_dropped(
    made_on_redshift: RedshiftPlatform,
) -> None:
    """By whatever writes a table first; nothing else is lost, nor anybody else's keys."""
    create_tables = made_on_redshift.defs().resolve_job_def("create_tables")
    assert create_tables.execute_in_process().success
    tables = made_on_redshift.catalog.tables.values()
    for table in tables:
        if table.primary_key:
            key = ", ".join(table.primary_key)
            made_on_redshift.change(f"ALTER TABLE {table.name} ADD PRIMARY KEY ({key})")
    for table in tables:
        for column, parent in table.references.items():
            made_on_redshift.change(
                f"ALTER TABLE {table.name} ADD FOREIGN KEY ({column}) "
                f"REFERENCES {parent.table} ({parent.column})"
            )
    made_on_redshift.change("CREATE TABLE mine (id BIGINT NOT NULL PRIMARY KEY)")
    made_on_redshift.change("CREATE VIEW seen AS SELECT user_id FROM users")

    def keys() -> set[str]:
        query = (
            "SELECT c.relname FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            f"WHERE n.nspname = '{made_on_redshift.schema}' AND k.contype IN ('p', 'f', 'u')"
        )
        return {name for (name,) in made_on_redshift.rows(query)}

    assert keys() == {"mine", *(t.name for t in tables if t.primary_key or t.references)}
    assert made_on_redshift.run("staging_events").success
    assert not {"staging_events", "load_history", "rejected_records"} & keys()
    assert create_tables.execute_in_process().success
    assert keys() == {"mine"}
    assert made_on_redshift.rows("SELECT COUNT(*) FROM seen") == [(0,)]
    made_on_redshift.change("INSERT INTO staging_events SELECT * FROM staging_events")
    assert ("staging_events", "records_accounted") in failed_checks(
        made_on_redshift.run("staging_events")
    )


def test_a_table_that_keys_refer_to_is_made_anew(published: RedshiftPlatform) -> None:
    """Redshift does not drop what others refer to, and CASCADE would take the views with it."""
    published.change("ALTER TABLE users ADD PRIMARY KEY (user_id)")
    published.change("ALTER TABLE songplays ADD FOREIGN KEY (user_id) REFERENCES users (user_id)")
    published.edit("star/users.sql", "level VARCHAR(16)", "level VARCHAR(32)")
    assert published.run("users", config=RECREATE).success
    assert published.rows("SELECT COUNT(*) FROM users") == [(2,)]
    assert published.rows("SELECT COUNT(*) FROM songplays") == [(4,)]
    assert not any("CASCADE" in sql for sql in sent(published))
    for sql in {re.sub(r"\$\d", "NULL", sql) for sql in sent(published)}:
        assert is_redshift_sql(sql), sql


def test_a_table_made_anew_tells_of_its_grants(
    published: RedshiftPlatform, capfd: pytest.CaptureFixture[str]
) -> None:
    published.change("GRANT SELECT ON users TO PUBLIC")
    published.edit("star/users.sql", "level VARCHAR(16)", "level VARCHAR(32)")
    assert "differs from its file" in failure_of(published.run("users"))
    assert published.run("users", config=RECREATE).success
    assert "users: dropped; it had these grants: SELECT to PUBLIC" in capfd.readouterr().err


def test_a_view_over_a_table_made_anew_is_not_lost(published: RedshiftPlatform) -> None:
    published.change("CREATE VIEW seen AS SELECT user_id FROM users")
    published.edit("star/users.sql", "level VARCHAR(16)", "level VARCHAR(32)")
    assert "cannot drop table" in failure_of(published.run("users", config=RECREATE))
    assert published.rows("SELECT COUNT(*) FROM seen") == [(2,)]


def test_what_is_sent_parses_as_redshift_sql(made: RedshiftPlatform) -> None:
    load(made)
    publish(made)
    made.write_events([{"sessionId": 1}], "events.json")
    load(made)
    statements = {re.sub(r"\$\d", "NULL", sql) for sql in sent(made)}
    assert len(statements) > 30
    for sql in statements:
        assert is_redshift_sql(sql), sql


def test_what_the_ui_shows_of_the_warehouse(made: RedshiftPlatform) -> None:
    specs = {spec.key.to_user_string(): spec for spec in made.defs().resolve_all_asset_specs()}
    assert specs["users"].kinds == {"redshift", "sql"}
    assert specs["staging_events"].kinds == {"redshift", "json"}
    assert made.server.password not in f"{warehouse(made)!r} {warehouse(made)}"


# --- What fails ------------------------------------------------------------------------------
