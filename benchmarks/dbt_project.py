"""The same tables as a dbt project: written from `sql/`, so that both do the same work.

A derived table is a model with its own SELECT; NOT NULL, PRIMARY KEY and REFERENCES are dbt's
tests `not_null`, `unique` and `relationships`, and `sql/checks/` its singular tests. What dbt has
no means for is left out: accounting for records, history, repair of texts, the report.
"""

import json
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

from benchmarks.contenders import STAGED
from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets.dialect import DIALECT
from sparkify_assets.tables import Table

LEFT_OUT = {"load_history", "rejected_records", "load_summary", "newest_day"}
READ = {  # of the one column each that is not kept as it is found
    "staging_events": "* REPLACE (epoch_ms(ts) AS ts, TRY_CAST(userId AS BIGINT) AS userId)",
    "staging_songs": "*",
}
FOLDERS = {"staging_events": "log_data", "staging_songs": "song_data"}
SETTINGS = {
    "integer_division": True,
    "preserve_insertion_order": False,
    "default_null_order": "nulls_last_on_asc_first_on_desc",
}


def write_project(into: Path, data: Path) -> int:
    """Writes a dbt project that makes `star.duckdb` beside it from a folder of data.

    Returns:
        The number of its tests.
    """
    catalog = Catalog.load(SQL)
    tables = [t for t in catalog.assets if t.name not in LEFT_OUT]
    for folder in ("models", "tests"):
        (into / folder).mkdir(parents=True)
    described = [_described(table, {t.name for t in tables}) for table in tables]
    count = sum(len(c["data_tests"]) for m in described for c in m["columns"])
    for table in tables:
        (into / "models" / f"{table.name}.sql").write_text(_model(table, data))
        for check in table.checks:
            if not LEFT_OUT & set(check.reads):
                warn = "{{ config(severity='warn') }}\n"  # damaged texts are as they were found
                text = warn + _with_refs(check.sql, "")
                (into / "tests" / f"{table.name}__{check.name}.sql").write_text(text)
                count += 1
    output = {"type": "duckdb", "path": "star.duckdb", "threads": 2, "settings": SETTINGS}
    project = {"name": "star", "profile": "star", "models": {"star": {"+materialized": "table"}}}
    for name, content in (
        ("models/schema.yml", {"version": 2, "models": described}),
        ("profiles.yml", {"star": {"target": "made", "outputs": {"made": output}}}),
        ("dbt_project.yml", project | {"flags": {"send_anonymous_usage_stats": False}}),
    ):
        (into / name).write_text(json.dumps(content))  # which is YAML
    return count


def _model(table: Table, data: Path) -> str:
    if table.source:
        files = f"'{data / FOLDERS[table.name]}/**/*.json'"
        options = f"columns = {STAGED[table.name]}, format = 'newline_delimited'"
        return f"SELECT {READ[table.name]}, 1 AS object_id FROM read_json({files}, {options})"
    if table.suspects:
        return "SELECT '' AS raw_text, '' AS repaired_text WHERE FALSE"
    referred = {r.table for r in table.references.values()} - LEFT_OUT
    needed = "".join(f"-- depends_on: {{{{ ref('{name}') }}}}\n" for name in sorted(referred))
    return needed + _with_refs(table.insert or "", table.name)


def _with_refs(sql: str, filled: str) -> str:
    """The query of a statement, with each table named as dbt wants it."""
    [statement] = sqlglot.parse(sql, dialect=DIALECT)
    assert statement
    query = statement.expression if filled else statement
    ctes = {cte.alias for cte in query.find_all(exp.CTE)}
    for found in list(query.find_all(exp.Table)):
        if found.name.lower() not in ctes:
            found.set("this", exp.to_identifier(f"ref_{found.name.lower()}_"))
    text = query.sql("duckdb")
    for table in Catalog.load(SQL).tables:
        text = text.replace(f"ref_{table}_", f"{{{{ ref('{table}') }}}}")
    return text


def _described(table: Table, known: set[str]) -> dict[str, Any]:
    columns = []
    for column in table.columns:
        tests: list[Any] = [] if column.nullable or column.name == "object_id" else ["not_null"]
        if table.primary_key == (column.name,):
            tests.append("unique")
        if column.references and column.references.table in known:
            to, field = f"ref('{column.references.table}')", column.references.column
            tests.append({"relationships": {"arguments": {"to": to, "field": field}}})
        columns.append({"name": column.name, "data_tests": tests})
    return {"name": table.name, "columns": columns}
