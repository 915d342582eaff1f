"""What only a cluster can tell: `pytest -m redshift -rP` runs this and shows what is printed."""

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sparkify_assets.errors import SparkifyError
from sparkify_assets.warehouse import redshift, redshift_copy
from sparkify_assets_tests.conftest import write_made_data
from sparkify_assets_tests.platform import (
    LivePlatform,
    RedshiftPlatform,
)
from sparkify_assets_tests.redshift_work import load


@pytest.mark.redshift
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("EXTRACT(week FROM TIMESTAMP '2018-12-31 10:00:00')", 1),
        ("EXTRACT(week FROM TIMESTAMP '2021-01-03 10:00:00')", 53),
        ("EXTRACT(dow FROM TIMESTAMP '2018-11-04 10:00:00')", 0),
        ("CASE WHEN 'a ' = 'a' THEN 1 ELSE 0 END", 1),
        ("LEN(TRIM(BOTH ' ' FROM ' a ' || CHR(160) || ' '))", 3),
        ("7 / 2", 3),
    ],
)
def test_expressions(live: LivePlatform, expression: str, expected: int) -> None:
    assert int(live.rows(f"SELECT {expression}")[0][0]) == expected


@pytest.mark.redshift
def test_loads_at_once_do_not_conflict(live: LivePlatform) -> None:
    write_made_data(live)
    load(live)
    live.write_events([{"sessionId": 77}], "later.json")
    with ThreadPoolExecutor() as pool:
        done = [run.result() for run in [pool.submit(load, live) for _ in range(3)]]
    assert sorted(one.new for one in done) == [0, 0, 1]


# What the three tests below print is shown by `pytest -m redshift -rP`.


def test_what_a_failed_copy_says(
    made_on_redshift: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upload(folder: redshift_copy.WorkFolder, path: Path) -> str:
        path.write_bytes(gzip.compress(b'{"sessionid": "x"}'))
        return engine_upload(folder, path)

    engine_upload = redshift_copy.WorkFolder.upload
    monkeypatch.setattr(redshift_copy.WorkFolder, "upload", upload)
    with pytest.raises(SparkifyError) as said:
        load(made_on_redshift)
    print("said:", str(said.value))
    assert "staging_events" not in made_on_redshift.table_names()


def test_what_is_noticed_of_a_copy(
    made_on_redshift: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(session: redshift.RedshiftSession, *arguments: Any, **options: Any) -> None:
        copy_landed(session, *arguments, **options)
        print("notices:", list(session._connection.notices))

    copy_landed = redshift_copy.copy_landed
    monkeypatch.setattr(redshift, "copy_landed", copy)
    assert load(made_on_redshift).loaded == 5


@pytest.mark.redshift
def test_the_default_role_of_the_cluster(
    live: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(role,)] = live.rows("SELECT default_iam_role()")
    print("role:", role)
    if not role or not str(role).startswith("arn:"):
        pytest.skip("the cluster or workgroup has no default role")
    write_made_data(live)
    monkeypatch.setenv("REDSHIFT_COPY_ROLE", "default")
    assert load(live).loaded == 5
