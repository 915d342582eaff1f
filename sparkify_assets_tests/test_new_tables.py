"""A table, a column or a check that is added in `sql/` alone."""

import duckdb

from sparkify_assets_tests.platform import Platform, failure_of

NEW_TABLE = """\
-- One row is one user's number of plays: «déjà vu; twice».
CREATE TABLE plays_by_user (
    user_id BIGINT NOT NULL PRIMARY KEY REFERENCES users (user_id), -- who; ever
    plays INTEGER NOT NULL -- how many
)
DISTSTYLE ALL;

INSERT INTO plays_by_user (user_id, plays)
WITH known AS (SELECT p.user_id FROM songplays AS p WHERE p.user_id IS NOT NULL)
SELECT k.user_id, COUNT(*) AS plays
FROM known AS k
GROUP BY k.user_id;
"""


def test_a_table_added_in_sql_alone_is_an_asset_with_its_checks(made: Platform) -> None:
    (made.sql / "marts" / "plays_by_user.sql").write_text(NEW_TABLE, encoding="utf-8")
    (made.sql / "checks" / "plays_by_user__nobody_over_100.sql").write_text(
        "-- Nobody plays more than 100 songs.\n"
        "SELECT m.user_id, m.plays FROM plays_by_user AS m WHERE m.plays > 100\n"
    )
    result = made.make("plays_by_user")
    assert result.success, failure_of(result)
    assert made.rows("SELECT * FROM plays_by_user ORDER BY 1") == [(7, 3), (8, 1)]
    evaluated = {
        e.check_name
        for e in result.get_asset_check_evaluations()
        if e.asset_key.to_user_string() == "plays_by_user" and e.passed
    }
    assert evaluated == {
        "row_count",
        "null_keys",
        "unique_key",
        "foreign_keys",
        "nobody_over_100",
    }
    spec = {s.key.to_user_string(): s for s in made.defs().resolve_all_asset_specs()}[
        "plays_by_user"
    ]
    assert spec.description == "One row is one user's number of plays: «déjà vu; twice»."
    assert {d.asset_key.to_user_string() for d in spec.deps} == {"songplays", "users"}
    assert spec.group_name == "marts"
    columns = spec.metadata["dagster/column_schema"].columns
    assert [(c.name, c.type, c.description) for c in columns] == [
        ("user_id", "BIGINT", "who; ever"),
        ("plays", "INTEGER", "how many"),
    ]


def test_a_plot_has_a_line_for_each_key_of_any_type(made: Platform) -> None:
    date = "CAST('2018-11-0' || u.user_id AS DATE)"
    for kind, value in {"BIGINT": "u.user_id", "DATE": date}.items():
        (made.sql / "marts" / f"by_{kind}.sql".lower()).write_text(
            f"-- One row is one user.\n-- plots: n\nCREATE TABLE by_{kind} (\n"
            f"k {kind} NOT NULL PRIMARY KEY, -- k\nn INTEGER -- n\n);\n"
            f"INSERT INTO by_{kind} (k, n) SELECT {value} AS k, 1 AS n FROM users AS u;".lower()
        )
    result = made.make("by_bigint", "by_date")
    assert result.success, failure_of(result)
    plotted = {
        name: {key for key, shown in event.metadata.items() if shown.value == 1}
        for name in ("by_bigint", "by_date")
        for event in result.asset_materializations_for_node(name)
    }
    assert plotted["by_bigint"] >= {"7", "8"}
    assert plotted["by_date"] >= {"2018-11-07", "2018-11-08"}


def test_a_column_added_in_sql_alone_is_read_from_the_json(made: Platform) -> None:
    made.edit(
        "staging/staging_events.sql",
        "    userId BIGINT,",
        "    deviceId SMALLINT, -- x\n    userId BIGINT,",
    )
    made.write_events([{"deviceId": 3, "sessionId": 9}], name="new.json")
    assert made.run("staging_events").success
    assert made.rows("SELECT deviceid FROM staging_events WHERE sessionid = 9") == [(3,)]
    assert made.rows("SELECT count(*) FROM staging_events WHERE deviceid IS NULL") == [(5,)]


def test_a_mart_of_the_ledgers_follows_the_staging_tables(made: Platform) -> None:
    (made.sql / "marts" / "loads.sql").write_text(
        "-- One row is one table.\nCREATE TABLE loads (table_name VARCHAR(128), files INTEGER);\n"
        "INSERT INTO loads (table_name, files) SELECT h.table_name, COUNT(*) AS files "
        "FROM load_history AS h GROUP BY h.table_name;"
    )
    result = made.make("loads")
    assert result.success, failure_of(result)
    assert made.rows("SELECT * FROM loads ORDER BY 1") == [
        ("staging_events", 1),
        ("staging_songs", 3),
    ]
    specs = {s.key.to_user_string(): s for s in made.defs().resolve_all_asset_specs()}
    assert {d.asset_key.to_user_string() for d in specs["loads"].deps} == {
        "staging_events",
        "staging_songs",
    }


def test_text_in_a_name_is_never_sql(made: Platform) -> None:
    """Identifiers are quoted: a column may have a name that SQL reserves."""
    (made.sql / "marts" / "odd.sql").write_text(
        '-- One row.\nCREATE TABLE odd ("order" INTEGER NOT NULL PRIMARY KEY, "a b" INTEGER);\n'
        'INSERT INTO odd ("order", "a b") SELECT COUNT(*) AS "order", 1 AS "a b" FROM users AS u;'
    )
    result = made.make("odd")
    assert result.success, failure_of(result)
    with duckdb.connect(str(made.warehouse), read_only=True) as connection:
        assert connection.execute('SELECT "order", "a b" FROM odd').fetchall() == [(2, 1)]
