"""Publishing on Redshift: in which order, under which lock, and what readers and grants notice."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from sparkify_assets_tests.platform import (
    RedshiftPlatform,
    failure_of,
)
from sparkify_assets_tests.processes import PATIENCE
from sparkify_assets_tests.redshift_work import sent, warehouse


@pytest.fixture
def platform(redshift: RedshiftPlatform) -> RedshiftPlatform:
    return redshift


def test_a_table_is_audited_under_the_lock_before_readers_see_it(
    published: RedshiftPlatform,
) -> None:
    everything = {"ops": {"users": {"config": {"rebuild": True}}}}
    result = published.run("users", config=everything)
    statements = published.server.statements
    assert {s.application_name for s in statements} == {f"sparkify_assets users {result.run_id}"}
    assert len({s.connection for s in statements}) == 1
    lines = [re.sub(r"\s+", " ", s.sql) for s in statements]
    begin, commit = lines.index("BEGIN"), lines.index("COMMIT")
    assert "SET query_group TO 'sparkify users'" in lines[:begin]
    assert lines[begin + 1] == 'LOCK "sparkify_test".sparkify_mutex'
    audits = [n for n, line in enumerate(lines) if "AS violating" in line]
    writes = [
        n
        for n, line in enumerate(lines)
        if re.match("(DELETE|INSERT|CREATE|DROP)", line)
        and not re.search("published_tables|stale_keys", line)
    ]
    seen = [n for n in writes if '"sparkify_test"."users"' in lines[n]]
    built = [n for n in writes if n not in seen]
    assert begin < min(built) < max(built) < min(audits) < max(audits) < min(seen)
    assert max(seen) < commit
    assert [line.split()[0] for line in lines[commit + 1 :]] == ["ANALYZE"]


def test_reading_locks_and_writes_nothing(published: RedshiftPlatform) -> None:
    """A check alone, the report, and what is fetched from a source need no other run to end."""
    published.change("BEGIN")
    published.change("LOCK sparkify_mutex")
    assert published.run_check("songplays", "unique_key").success
    result = published.run("listening_report")
    assert result.success, failure_of(result)
    published.change("ROLLBACK")
    lines = [re.sub(r"\s+", " ", sql).split("(")[0] for sql in sent(published)]
    assert {line.split()[0] for line in lines} == {"SET", "BEGIN", "SELECT"}
    assert lines.count("BEGIN READ ONLY") == 3  # the check, the report, and its own check


def test_nothing_is_sent_that_commits_or_swaps_unseen(published: RedshiftPlatform) -> None:
    published.write_events([{"sessionId": 5}], "later.json")
    assert published.make("songplays").success
    for sql in sent(published):
        assert not re.match(r"\s*(TRUNCATE|ALTER|VACUUM|DROP)\b", sql, re.IGNORECASE)


def test_grants_views_and_identity_survive(published: RedshiftPlatform) -> None:
    identity = "SELECT oid FROM pg_class WHERE relname = 'users' AND relkind = 'r'"
    published.change("CREATE VIEW seen AS SELECT user_id FROM users")
    published.change("GRANT SELECT ON users TO PUBLIC")
    before = published.rows(identity)
    assert published.make("songplays").success
    assert published.rows(identity) == before
    assert published.rows("SELECT COUNT(*) FROM seen") == [(2,)]
    granted = (
        "SELECT privilege_type FROM information_schema.table_privileges WHERE grantee = 'PUBLIC'"
    )
    assert ("SELECT",) in published.rows(f"{granted} AND table_name = 'users'")


def test_readers_neither_wait_nor_see_what_is_not_published(published: RedshiftPlatform) -> None:
    table = published.catalog.tables["users"]
    with (
        ThreadPoolExecutor() as readers,
        warehouse(published).transaction("test") as session,
    ):
        session.build(table)
        session.publish(table)
        session.rows('DELETE FROM "sparkify_test"."users" WHERE user_id = 7 RETURNING user_id')
        reader = readers.submit(published.rows, "SELECT COUNT(*) FROM users")
        assert reader.result(timeout=PATIENCE) == [(2,)]
    assert published.rows("SELECT COUNT(*) FROM users") == [(1,)]
