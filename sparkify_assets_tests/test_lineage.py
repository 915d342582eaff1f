"""What each column is made from, as Dagster is told: written out by hand, and found by sqlglot."""

import dagster as dg
import pytest

from sparkify_assets.dialect import lineage_of
from sparkify_assets_tests.lineage import GROUPS
from sparkify_assets_tests.platform import Platform, failure_of

LINEAGE = "dagster/column_lineage"
DERIVED = GROUPS["intermediate"] | GROUPS["star"] | GROUPS["marts"]

# a column by which rows are only counted, joined, ordered or filtered is none of these
MADE_FROM = {
    "songplays": {
        "songplay_id": {"events.event_id"},
        "start_time": {"events.ts"},
        "user_id": {"events.user_id"},
        "level": {"events.level"},
        "song_id": {"catalogue.song_id"},  # by either of two joins, through a CTE of a CTE
        "artist_id": {"catalogue.artist_id"},
        "session_id": {"events.session_id"},
        "item_in_session": {"events.item_in_session"},
        "location": {"events.location"},
        "user_agent": {"events.user_agent"},
        "song": {"events.song"},
        "artist": {"events.artist"},
    },
    "most_played_songs": {
        "rank": set(),  # of a count
        "song": {"songplays.song"},
        "artist": {"songplays.artist"},
        "plays": set(),
        "listeners": {"songplays.user_id"},
        "song_id": {"songplays.song_id"},
        "in_catalogue": {"songplays.song_id"},
        "first_play": {"songplays.start_time"},
        "last_play": {"songplays.start_time"},
    },
    "users": {
        name: {f"events.{name}"}
        for name in ("user_id", "first_name", "last_name", "gender", "level")
    },
    "plays_by_level": {
        "level": {"users.level", "songplays.level"},  # of a UNION
        "users": set(),
        "listeners": {"songplays.user_id"},
        "plays": set(),
    },
}
REPAIRED = {  # columns of events
    "song": "song",
    "artist": "artist",
    "location": "location",
    "first_name": "firstname",
    "last_name": "lastname",
}
TEXTS = {
    *(f"staging_events.{column}" for column in REPAIRED.values()),
    *(f"staging_songs.{column}" for column in ("title", "artist_name", "artist_location")),
}


def test_every_column_of_every_derived_table(made: Platform) -> None:
    result = made.run()
    assert result.success, failure_of(result)
    found: dict[str, dict[str, set[str]]] = {}
    for event in result.get_asset_materialization_events():
        metadata = event.step_materialization_data.materialization.metadata
        if LINEAGE in metadata:
            lineage = metadata[LINEAGE].value
            assert isinstance(lineage, dg.TableColumnLineage)
            assert event.asset_key
            found[event.asset_key.to_user_string()] = {
                column: {f"{d.asset_key.to_user_string()}.{d.column_name}" for d in deps}
                for column, deps in lineage.deps_by_column.items()
            }
    columns = {
        spec.key.to_user_string(): [c.name for c in spec.metadata["dagster/column_schema"].columns]
        for spec in made.defs().resolve_all_asset_specs()
        if "dagster/column_schema" in spec.metadata
    }
    assert found.keys() == DERIVED
    assert {table: list(of) for table, of in found.items()} == {t: columns[t] for t in DERIVED}
    there = {f"{table}.{name}" for table, names in columns.items() for name in names}
    assert {d for of in found.values() for deps in of.values() for d in deps} <= there

    assert {table: found[table] for table in MADE_FROM} == MADE_FROM
    events = found["events"]
    assert {name: events[name] for name in REPAIRED} == {
        name: {f"staging_events.{raw}", "repaired_text.repaired_text"}
        for name, raw in REPAIRED.items()
    }
    key = {f"staging_events.{name}" for name in ("sessionid", "iteminsession", "ts", "userid")}
    assert events["event_id"] == key
    assert events["song_before_repair"] == {"repaired_text.raw_text"}
    assert events["deliveries"] == set()
    assert found["repaired_text"] == {"raw_text": TEXTS, "repaired_text": TEXTS}


COLUMNS = tuple(
    (table, column, "INTEGER")
    for table, columns in {"a": "ixy", "b": "ixz"}.items()
    for column in columns
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT a.x, b.z AS x2 FROM a JOIN b ON a.i = b.i", {"x": ["a.x"], "x2": ["b.z"]}),
        ("SELECT b.x FROM a AS b WHERE b.y > 0", {"x": ["a.x"]}),  # named like another table
        ("SELECT y, z FROM a JOIN b ON a.i = b.i", {"y": ["a.y"], "z": ["b.z"]}),
        ("WITH b AS (SELECT a.x, a.y AS z FROM a) SELECT b.z FROM b", {"z": ["a.y"]}),
        ("SELECT q.* FROM (SELECT i, x FROM b) AS q", {"i": ["b.i"], "x": ["b.x"]}),
        ("SELECT x FROM a UNION ALL SELECT x FROM b", {"x": ["a.x", "b.x"]}),
        ("SELECT (SELECT MAX(b.z) FROM b) AS most, a.i FROM a", {"most": ["b.z"], "i": ["a.i"]}),
        (
            "SELECT * FROM a UNION SELECT z, x, i FROM b",
            {"i": ["a.i", "b.z"], "x": ["a.x", "b.x"], "y": ["a.y", "b.i"]},
        ),
        ("SELECT COUNT(*) AS n, MAX(1) AS one FROM a GROUP BY x", {"n": [], "one": []}),
        ("SELECT A.X AS Upper FROM a", {"upper": ["a.x"]}),
        (
            "SELECT SUM(y) OVER (PARTITION BY x ORDER BY i) AS total FROM a",
            {"total": ["a.i", "a.x", "a.y"]},
        ),
        ("SELECT CASE WHEN a.y = 1 THEN a.x ELSE 'no' END AS v FROM a", {"v": ["a.x", "a.y"]}),
        ("INSERT INTO c (v) SELECT COALESCE(a.x, b.x) AS v FROM a, b", {"v": ["a.x", "b.x"]}),
    ],
)
def test_lineage_goes_through_whatever_sql_has(query: str, expected: dict[str, list[str]]) -> None:
    found = lineage_of(query, COLUMNS)
    assert {n: [".".join(dep) for dep in deps] for n, deps in found.items()} == expected
