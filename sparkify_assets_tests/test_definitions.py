"""The definitions as a server loads them: what the UI shows before and after a run."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from sparkify_assets.definitions import PACKAGE, SQL, defs
from sparkify_assets.errors import SparkifyError
from sparkify_assets_tests.platform import GROUPS, Platform

ROOT = PACKAGE.parent


def specs_of(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_what_the_server_loads() -> None:
    """Without any setting: the two roots of the graph are the sample data."""
    loaded = defs()
    specs = specs_of(loaded)
    groups: dict[str, set[str]] = {}
    for name, spec in specs.items():
        groups.setdefault(spec.group_name or "", set()).add(name)
    assert groups == GROUPS
    graph = loaded.resolve_asset_graph()
    external = {key.to_user_string() for key in graph.external_asset_keys}
    assert external == GROUPS["source"]
    assert "Made-up sample data" in (specs["event_files"].description or "")
    assert {job.name for job in loaded.resolve_all_job_defs()} >= {"refresh", "create_tables"}
    dg.Definitions.validate_loadable(loaded)


def test_folders_of_the_user_say_where_they_are(platform: Platform) -> None:
    spec = specs_of(platform.defs())["event_files"]
    assert spec.metadata["dagster/uri"] == f"file://{platform.log_data}"
    assert "Made-up" not in (spec.description or "")


def test_every_table_carries_what_the_ui_shows(platform: Platform) -> None:
    for name, spec in specs_of(platform.defs()).items():
        assert spec.owners == ["team:data-platform"]
        assert spec.description
        if name in GROUPS["source"] | GROUPS["report"]:
            continue
        made_of = {"staging_events": "json", "staging_songs": "json", "repaired_text": "python"}
        assert spec.kinds == {"duckdb", made_of.get(name, "sql")}
        assert spec.code_version
        assert spec.metadata["dagster/table_name"] == f"warehouse.main.{name}"
        assert spec.metadata["dagster/storage_kind"] == "duckdb"
        (reference,) = spec.metadata["dagster/code_references"].code_references
        assert Path(reference.file_path) == SQL / (spec.group_name or "") / f"{name}.sql"


def test_columns_show_their_constraints(platform: Platform) -> None:
    schema = specs_of(platform.defs())["songplays"].metadata["dagster/column_schema"]
    columns = {column.name: column for column in schema.columns}
    assert columns["songplay_id"].constraints.unique
    assert columns["songplay_id"].constraints.other == ["primary key"]
    assert not columns["songplay_id"].constraints.nullable
    assert columns["user_id"].constraints.other == ["references users.user_id"]
    assert columns["location"].description == "where the user was"


def test_keys_are_blocking_checks(platform: Platform) -> None:
    specs = {
        (spec.asset_key.to_user_string(), spec.name): spec
        for checks in platform.defs().resolve_asset_graph().assets_defs
        for spec in checks.check_specs
    }
    assert specs["songplays", "every_play_once"].blocking
    assert not specs["songplays", "known_user"].blocking
    for table in GROUPS["star"]:
        for check in ("row_count", "null_keys", "unique_key"):
            assert specs[table, check].blocking
    for table in GROUPS["staging"]:
        assert specs[table, "records_accounted"].blocking


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_what_a_load_reports(made: Platform) -> None:
    made.write_events([{"ts": "soon", "artist": "<b>"}], name="bad.json")
    made.settings["max_rejected_share"] = 1
    result = made.make("most_played_songs")
    loaded = metadata_of(result, "staging_events")
    assert loaded["dagster/row_count"] == 5
    assert (loaded["objects_read"], loaded["objects_new"]) == (2, 2)
    assert (loaded["records_read"], loaded["rows_loaded"], loaded["rows_rejected"]) == (6, 5, 1)
    assert loaded["bytes_read"] == sum(p.stat().st_size for p in made.log_data.iterdir())
    assert loaded["seconds"] > 0
    assert "bad.json, line 1: ts is" in loaded["rejected_samples"]
    assert len(loaded["preview"].records) == 5
    assert metadata_of(result, "most_played_songs")["preview"].records[0].data["plays"] == 2


def test_nothing_new_changes_no_data_version(made: Platform) -> None:
    def version() -> str | None:
        (event,) = made.run("staging_events").asset_materializations_for_node("staging_events")
        return (event.tags or {}).get("dagster/data_version")

    first = version()
    assert first
    assert version() == first
    made.write_events([{"sessionId": 5}], name="more.json")
    assert version() != first


def test_a_wrong_setting_fails_loading_with_the_message_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "tracebacklimit", 1_000, raising=False)
    monkeypatch.setenv("SPARKIFY_TARGET", "nowhere")
    with pytest.raises(SparkifyError, match="SPARKIFY_TARGET"):
        defs()
    assert sys.tracebacklimit == 0


def test_both_servers_load_the_same_location() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    (target,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert target["python_module"] == {
        "module_name": project["code_location_target_module"],
        "location_name": project["code_location_name"],
    }


def test_the_package_finds_its_tables() -> None:
    assert (SQL / "star" / "songplays.sql").is_file()
