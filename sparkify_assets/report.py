"""The listening report: one HTML page that needs nothing else, from rows of the marts.

To add a chart, extend `figures_of`, and `READS` for a new mart. What the figures are is said in
`sql/marts/`; here is what is shown and said of them, and
`charts.html.jinja` draws it. Text from data is made fit to show where rows enter, and reaches the
page by way of templates, which escape it.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sparkify_assets.audit import AuditResult, audits_of, run_audits
from sparkify_assets.catalog import Catalog
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.files import replace
from sparkify_assets.maintenance import recorded
from sparkify_assets.sources.base import SAMPLE, address_of
from sparkify_assets.warehouse.base import Row, Session
from sparkify_assets.wording import counted

RANKINGS = ("most_played_artists", "most_played_songs", "plays_by_location")
BY_TIME = ("level_changes", "plays_by_day", "plays_by_hour", "plays_by_level")
ABOUT = ("catalogue_coverage", "load_summary")
READS = dict.fromkeys(RANKINGS, 10) | dict.fromkeys(BY_TIME + ABOUT, 1_000_000)  # rows of marts
DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
RANKED = ("rank", "song", "artist", "location", "plays", "listeners", "songs")  # of a ranking


@dataclass(frozen=True)
class Findings:
    """What the report tells of."""

    rows: dict[str, list[Row]]  # the first of tables, by table
    counts: dict[str, int]  # of all rows, by table
    checks: list[tuple[str, AuditResult]]  # with their tables, as these were published
    address: str  # of the warehouse

    @classmethod
    def read(cls, session: Session, catalog: Catalog, address: str) -> "Findings":
        """Reads what the report needs; a check that no publishing evaluated is evaluated now.

        Raises:
            SparkifyError: `sql/` lacks a mart that the report shows.
        """
        if missing := sorted(READS.keys() - catalog.tables.keys()):
            raise SparkifyError(
                f"listening_report shows {', '.join(missing)}, which no file of sql/ declares. "
                "Put it back, or take it out of report.py."
            )
        tables = catalog.assets
        published = {}
        if session.shape(catalog.tables["published_tables"]) == "":
            rows = session.rows("SELECT table_name, details FROM published_tables")
            published = {row["table_name"]: row for row in rows}
        results = {
            t.name: recorded(t, published[t.name])[0]
            if t.name in published
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
            address,
        )


@dataclass(frozen=True)
class Figure:
    """A chart: `says` is its text alternative, the table below it has all its figures."""

    title: str
    says: str
    rows: list[Row]
    chart: str  # the macro of `charts.html.jinja` that draws it, from
    data: tuple[Any, ...]


@dataclass(frozen=True)
class Panel:
    """Bars over days: a value a day for each series; stacked, those below zero downwards."""

    title: str
    series: dict[str, list[int]]

    @property
    def ticks(self) -> list[int]:
        """About four round numbers from the lowest bar to the highest, zero among them."""
        days = [*zip(*self.series.values(), strict=True)]
        high = max(1, *(sum(value for value in day if value > 0) for day in days))
        low = min(0, *(sum(value for value in day if value < 0) for day in days))
        rough = max(1.0, (high - low) / 4)
        power = 10 ** math.floor(math.log10(rough))
        step = int(next(n * power for n in (1, 2, 5, 10) if n * power >= rough))
        return [*range(math.floor(low / step) * step, math.ceil(high / step) * step + 1, step)]


def figures_of(rows: dict[str, list[Row]]) -> list[Figure]:
    """The charts of the report, the main one first."""
    return [
        _ranking("Most played songs", rows["most_played_songs"], "song", "artist"),
        _ranking("Most played artists", rows["most_played_artists"], "artist"),
        _plays_by_day(rows["plays_by_day"]),
        _plays_by_hour(rows["plays_by_hour"]),
        _paid_and_free(rows["plays_by_day"], rows["plays_by_level"]),
        _level_changes(rows["plays_by_day"], rows["level_changes"]),
        *_cancellations(rows),
        _ranking("Where most is played", rows["plays_by_location"], "location"),
    ]


def page_of(findings: Findings, figures: list[Figure]) -> str:
    """The report as the text of an HTML file."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": "{:,}".format, "share": _share, "date": _date, "place": _place}
    page = templates.get_template("report.html.jinja")
    return page.render(vars(findings), figures=figures, made_at=datetime.now(UTC))


def write(page: str, path: Path) -> None:
    """Puts the page into its file, whole or not at all.

    Raises:
        SparkifyError: the file cannot be written.
    """
    try:
        replace(path, page)
    except OSError as error:
        raise SparkifyError(
            f"{path} cannot be written: {error.strerror}. What is there stays as it was. "
            "SPARKIFY_REPORT_PATH names the file."
        ) from None


def _fit_to_show(row: Row) -> Row:
    """A row whose texts are each one line, and hold nothing that aborts whoever draws them."""
    return {
        name: printable(" ".join(value.split())) if isinstance(value, str) else value
        for name, value in row.items()
    }


# --- Charts ----------------------------------------------------------------------------------


def _ranking(title: str, rows: list[Row], *texts: str) -> Figure:
    """A bar for each row, as long as it has plays; its label has a line for each of its texts."""
    best = [f"{' by '.join(r[t] for t in texts)}, {counted(r['plays'], 'play')}" for r in rows[:3]]
    shown = [_only(row, *RANKED) for row in rows]
    return Figure(title, f"{'; '.join(best)}.", shown, "ranking", (rows, texts))


def _by_day(title: str, says: str, shown: list[Row], days: list[Row], *panels: Panel) -> Figure:
    """Panels one below the other, over the same days; days that are missing are left empty."""
    return Figure(title, says, shown, "by_day", ([day["date"] for day in days], panels))


def _plays_by_day(days: list[Row]) -> Figure:
    plays = Panel("plays a day", {"plays": [day["plays"] for day in days]})
    active = Panel("active users a day", {"active users": [day["active_users"] for day in days]})
    most = max(days, key=lambda day: day["plays"])
    busy = max(days, key=lambda day: day["active_users"])
    says = (
        f"{counted(sum(day['plays'] for day in days), 'play')} on {counted(len(days), 'day')}; "
        f"most of them, {most['plays']:,}, on {_date(most['date'])}. "
        f"Most users, {busy['active_users']:,}, were active on {_date(busy['date'])}."
    )
    shown = [_only(day, "date", "plays", "listeners", "active_users") for day in days]
    return _by_day("Plays and active users by day", says, shown, days, plays, active)


def _plays_by_hour(rows: list[Row]) -> Figure:
    plays = {(row["weekday"], row["hour"]): row["plays"] / row["days"] for row in rows}
    weekday, hour = max(plays, key=lambda cell: (plays[cell], -cell[0], -cell[1]))
    says = (
        f"Most is played on {DAYS[weekday]}s from {hour}:00 to {hour + 1}:00 UTC: "
        f"{plays[weekday, hour]:,.1f} plays, the mean of such days."
    )
    table: list[Row] = [
        {"hour": hour}
        | {name: f"{plays.get((day, hour), 0):,.1f}" for day, name in enumerate(DAYS)}
        for hour in range(24)
    ]
    return Figure("When people listen", says, table, "by_hour", (plays, DAYS))


def _paid_and_free(days: list[Row], levels: list[Row]) -> Figure:
    parts = {level: [day[f"{level}_plays"] for day in days] for level in ("paid", "free")}
    panel = Panel("plays a day", parts)
    plays = sum(row["plays"] for row in levels)
    says = " ".join(
        f"{counted(row['users'], 'user')} now on the level {row['level']}; "
        f"{_share(row['plays'], plays)} of all plays were at it."
        for row in levels
    )
    return _by_day("Paid against free", says, levels, days, panel)


def _level_changes(days: list[Row], changes: list[Row]) -> Figure:
    by_day = {row["date"]: row for row in changes}
    found = [by_day.get(day["date"], {"upgrades": 0, "downgrades": 0}) for day in days]
    parts = {"upgrades": [row["upgrades"] for row in found]}
    parts |= {"downgrades": [-row["downgrades"] for row in found]}
    up, down = (sum(row[name] for row in changes) for name in ("upgrades", "downgrades"))
    says = (
        f"{counted(up, 'upgrade')} from free to paid, drawn upwards; "
        f"{counted(down, 'downgrade')} from paid to free, drawn downwards."
    )
    shown = [_only(row, "date", "upgrades", "downgrades") for row in changes]
    panel = Panel("users a day", parts)
    return _by_day("Users who change their level", says, shown, days, panel)


def _cancellations(rows: dict[str, list[Row]]) -> list[Figure]:
    """Users who left, by day; nothing where the log tells of none."""
    cancelled = {row["date"]: row["cancellations"] for row in rows["level_changes"]}
    if not (left := sum(cancelled.values())):
        return []
    users = sum(row["users"] for row in rows["plays_by_level"])
    worst = max(cancelled, key=lambda day: (cancelled[day], day))
    says = (
        f"{left:,} of {counted(users, 'user')} cancelled ({_share(left, users)}); most on a day, "
        f"{cancelled[worst]:,}, on {_date(worst)}. user_activity tells what they did before."
    )
    days = rows["plays_by_day"]
    panel = Panel("users a day", {"cancelled": [cancelled.get(day["date"], 0) for day in days]})
    shown = [{"date": day, "cancelled": users} for day, users in cancelled.items() if users]
    return [_by_day("Users who cancel", says, shown, days, panel)]


# --- Words -----------------------------------------------------------------------------------


def _only(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names if name in row}


def _date(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _place(source_root: str) -> str:
    return "the sample data" if source_root.startswith(SAMPLE) else address_of(source_root)


def _share(part: int, whole: int) -> str:
    if not whole:
        return "none"
    percent = 100 * part / whole
    shown = f"{percent:.1f}" if percent >= 0.1 or not part else f"{percent:.2g}"
    return f"{shown}\N{NO-BREAK SPACE}%"
