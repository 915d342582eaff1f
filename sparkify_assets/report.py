"""The listening report: one self-contained HTML page, from rows of the marts.

This file reads the rows and defines template filters. `report.html.jinja` is the page,
`figures.html.jinja` has its figures, and `charts.html.jinja` draws them. To add a figure, extend
`figures.html.jinja`, and RANKINGS or OTHERS here by its mart.
"""

import csv
import io
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sparkify_assets.audit import AuditResult, audits_of, run_audits
from sparkify_assets.catalog import Catalog
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.formats import counted
from sparkify_assets.maintenance import last_published, recorded
from sparkify_assets.output_files import replace
from sparkify_assets.sources.base import SAMPLE
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Row, Session

RANKINGS = ("most_played_artists", "most_played_songs", "plays_by_location")
OTHERS = (
    *("catalogue_coverage", "level_changes", "load_summary", "plays_by_day", "plays_by_hour"),
    *("plays_by_level", "retention_by_week", "visits_by_device"),
)
READS = dict.fromkeys(RANKINGS, 10) | dict.fromkeys(OTHERS, 1_000_000)  # rows of marts
DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
SONG = ("rank", "song", "artist", "plays", "listeners")  # columns of the top songs
FORMULA = {*"=+-@\uff1d\uff0b\uff0d\uff20"}  # spreadsheets run fields that begin with one of these


@dataclass(frozen=True)
class ReportData:
    """The data of the report."""

    rows: dict[str, list[Row]]  # the first rows of each mart in READS, by its name
    counts: dict[str, int]  # all rows of each table shown, by its name
    checks: list[tuple[str, AuditResult]]  # with the table's name, as it was published
    sources: dict[str, str | None]  # of staging tables, by their names

    @classmethod
    def read(cls, session: Session, catalog: Catalog, tables: list[Table]) -> "ReportData":
        """Reads the data of these tables; runs the checks of those without recorded results.

        Raises:
            SparkifyError: `sql/` lacks a mart that the report shows.
        """
        if missing := sorted(READS.keys() - catalog.tables.keys()):
            raise SparkifyError(
                f"listening_report shows {', '.join(missing)}, which no file of sql/ declares. "
                "Put it back, or take it out of report.py and figures.html.jinja."
            )
        published = last_published(session, catalog)
        results = {
            t.name: recorded(t, published[t.name])[0]
            if t.name in published and published[t.name]["file_version"]
            else run_audits(session, audits_of(t))
            for t in tables
        }
        return cls(
            {
                name: [_fit_to_show(row) for row in session.first(catalog.tables[name], limit)]
                for name, limit in READS.items()
            },
            {table.name: session.count(table.name) for table in tables},
            [(name, result) for name, found in results.items() for result in found],
            {table.name: table.source for table in catalog.staging},
        )


def page_of(data: ReportData, made_at: datetime | None = None) -> str:
    """The report as HTML; `made_at` is in UTC, by default now."""
    loads = data.rows["load_summary"]
    page: str = _template().render(
        vars(data),
        is_sample=any(load["source_root"].startswith(SAMPLE) for load in loads),
        made_at=made_at or datetime.now(UTC),
    )
    return page


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # needed by no other asset

    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "number": "{:,}".format,
        "decimal": "{:,.1f}".format,
        "counted": counted,
        "share": _share,
        "date": _date,
        "only": only,
        "by_hour": _by_hour,
        "ticks": ticks,
        "csv": as_csv,
    }
    templates.globals |= {"timedelta": timedelta, "weekdays": DAYS, "song_columns": SONG}
    return templates.get_template("report.html.jinja")


def write(page: str, path: Path) -> None:
    """Writes the page to its file, whole or not at all; raises SparkifyError if it cannot."""
    try:
        replace(path, page)
    except OSError as error:
        raise SparkifyError(
            f"{path} cannot be written: {error.strerror}. The old file was left unchanged. "
            "SPARKIFY_REPORT_PATH sets the file."
        ) from None


def only(rows: list[Row], *names: str) -> list[Row]:
    """The rows with only these columns."""
    return [{name: row[name] for name in names} for row in rows]


def ticks(rows: list[Row], up: list[str], down: list[str]) -> list[int]:
    """About four round numbers, including zero, that cover all bars.

    The bar of a row is the sum of its columns `up`, drawn upwards, and of `down`, downwards.
    """
    high = max([1, *(sum(row[name] for name in up) for row in rows)])
    low = -max([0, *(sum(row[name] for name in down) for row in rows)])
    rough = max(1.0, (high - low) / 4)
    power = 10 ** math.floor(math.log10(rough))
    step = int(next(n * power for n in (1, 2, 5, 10) if n * power >= rough))
    return [*range(math.floor(low / step) * step, math.ceil(high / step) * step + 1, step)]


def as_csv(rows: list[Row]) -> str:
    """The rows as CSV with a BOM, so that spreadsheets read it as UTF-8."""
    file = io.StringIO("\ufeff")
    file.seek(1)
    lines = csv.DictWriter(file, rows[0])
    lines.writeheader()
    for row in rows:
        texts = {n: f"'{v}" for n, v in row.items() if isinstance(v, str) and v[:1] in FORMULA}
        lines.writerow(row | texts)
    return file.getvalue()


def _by_hour(rows: list[Row]) -> list[Row]:
    """A row per hour with the mean number of plays on each weekday."""
    means = {(row["weekday"], row["hour"]): row["plays"] / row["days"] for row in rows}
    return [
        {"hour": hour} | {name: means.get((day, hour), 0.0) for day, name in enumerate(DAYS)}
        for hour in range(24)
    ]


def _fit_to_show(row: Row) -> Row:
    """The row with each text on one line, without unsafe characters."""
    return {
        name: printable(" ".join(value.split())) if isinstance(value, str) else value
        for name, value in row.items()
    }


def _date(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _share(part: int, whole: int) -> str:
    if not whole:
        return "none"
    percent = 100 * part / whole
    shown = f"{percent:.1f}" if percent >= 0.1 or not part else f"{percent:.2g}"
    return f"{shown}%"
