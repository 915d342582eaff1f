"""The listening report: charts and one HTML page that needs nothing else, from rows of the marts.

What the figures are is said in `sql/marts/`; here is how they are shown. Charts become drawings
inside the page; their colours follow the reader's light or dark theme. Text from data reaches the
page by way of the template, which escapes it, or of Vega, which does the same.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sparkify_assets.audit import AuditResult, audits_of, run_audits
from sparkify_assets.catalog import Catalog
from sparkify_assets.console import counted
from sparkify_assets.errors import SparkifyError
from sparkify_assets.sources.base import SAMPLE, address_of
from sparkify_assets.warehouse.base import Row, Session

FONT = "Arial, Helvetica, Liberation Sans, sans-serif"  # as wide as where charts are laid out
INK = "currentColor"  # of the page, whatever its theme
MAIN, SECOND = "#11845b", "#c2570c"  # the template lightens them on a dark page
WIDTH = 345  # of a chart with its labels: a phone's
SHORT = "format(abs(datum.value), '~s')"  # 2k for 2,000; downwards counts too
DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
LABELS = 40  # of them those of a number, for charts that Vega does not fit into a width
BUSY_DAYS = 62  # with more, points would hide the line, and gaps the bars
TOP, ALL = 10, 1_000_000
READS = {  # how many rows of which marts
    "catalogue_coverage": 1,
    "level_changes": ALL,
    "load_summary": ALL,
    "most_played_artists": TOP,
    "most_played_songs": TOP,
    "plays_by_day": ALL,
    "plays_by_hour": ALL,
    "plays_by_level": ALL,
    "plays_by_location": TOP,
}


@dataclass(frozen=True)
class Findings:
    """What the report tells of.

    Attributes:
        rows: the first rows of tables, by table.
        counts: the numbers of all their rows, by table.
        checks: every check, by table, evaluated on the published tables.
        address: the warehouse.
    """

    rows: dict[str, list[Row]]
    counts: dict[str, int]
    checks: dict[str, list[AuditResult]]
    address: str

    @classmethod
    def read(cls, session: Session, catalog: Catalog, address: str) -> "Findings":
        """Reads what the report needs, and evaluates every check.

        Raises:
            SparkifyError: `sql/` lacks a mart that the report shows.
        """
        if missing := sorted(READS.keys() - catalog.tables.keys()):
            raise SparkifyError(
                f"listening_report shows {', '.join(missing)}, which no file of sql/ declares. "
                "Put it back, or take it out of report.py."
            )
        tables = [t for t in catalog.tables.values() if t not in catalog.ledgers]
        return cls(
            {name: session.first(catalog.tables[name], limit) for name, limit in READS.items()},
            {table.name: session.count(table.name) for table in tables},
            {table.name: run_audits(session, audits_of(table)) for table in tables},
            address,
        )


@dataclass(frozen=True)
class Figure:
    """A chart: `says` is its text alternative, the table below it has all its figures."""

    title: str
    chart: alt.TopLevelMixin
    says: str
    rows: list[Row]

    @property
    def drawing(self) -> Markup:
        """The chart as SVG."""
        return Markup(vl_convert.vegalite_to_svg(_themed(self.chart, INK)))  # noqa: S704  # Vega escapes

    @property
    def picture(self) -> bytes:
        """The chart with its title, as PNG on white."""
        spec = _themed(self.chart, "#1c1f23") | {"title": self.title, "background": "white"}
        return vl_convert.vegalite_to_png(spec, scale=2)


def figures_of(rows: dict[str, list[Row]]) -> list[Figure]:
    """The charts of the report, the main one first."""
    return [
        _most_played_songs(rows["most_played_songs"]),
        _most_played_artists(rows["most_played_artists"]),
        _plays_by_day(rows["plays_by_day"]),
        _plays_by_hour(rows["plays_by_hour"]),
        _paid_and_free(rows["plays_by_day"], rows["plays_by_level"]),
        _level_changes(rows["plays_by_day"], rows["level_changes"]),
        _plays_by_location(rows["plays_by_location"]),
    ]


def page_of(findings: Findings, figures: Sequence[Figure]) -> str:
    """The report as the text of an HTML file."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": _number, "share": _share, "cell": _cell}
    templates.filters |= {"date": _date, "place": _place}
    rows = findings.rows
    days = rows["plays_by_day"]
    return templates.get_template("report.html.jinja").render(
        main=MAIN,
        second=SECOND,
        figures=figures,
        songs=[song for song in rows["most_played_songs"] if song["rank"] == 1],
        counts=findings.counts,
        first_day=days[0]["date"],
        last_day=days[-1]["date"],
        levels={row["level"]: row for row in rows["plays_by_level"]},
        coverage=rows["catalogue_coverage"][0],
        loads=rows["load_summary"],
        checks=sum(map(len, findings.checks.values())),
        failed=[
            (table, result)
            for table, of_table in findings.checks.items()
            for result in of_table
            if not result.passed
        ],
        address=findings.address,
        made_at=datetime.now(UTC),
    )


def write(page: str, path: Path) -> None:
    """Puts the page into its file, whole or not at all.

    Raises:
        SparkifyError: the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(page, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise SparkifyError(
            f"{path} cannot be written: {error.strerror}. SPARKIFY_REPORT_PATH names the file."
        ) from None


# --- Charts ----------------------------------------------------------------------------------


def _most_played_songs(rows: list[Row]) -> Figure:
    shown = [_only(row, "rank", "song", "artist", "plays", "listeners") for row in rows]
    labels = [f"{_line(r['song'])}\n{_line(r['artist'])}" for r in rows]
    chart = _bars("song, artist", zip(labels, (r["plays"] for r in rows), strict=True), lines=2)
    says = _best(f"{r['song']} by {r['artist']}, {counted(r['plays'], 'play')}" for r in rows)
    return Figure("Most played songs", chart, says, shown)


def _most_played_artists(rows: list[Row]) -> Figure:
    shown = [_only(row, "rank", "artist", "plays", "listeners", "songs") for row in rows]
    chart = _bars("artist", [(_line(r["artist"]), r["plays"]) for r in rows])
    says = _best(f"{r['artist']}, {counted(r['plays'], 'play')}" for r in rows)
    return Figure("Most played artists", chart, says, shown)


def _plays_by_location(rows: list[Row]) -> Figure:
    chart = _bars("place", [(_line(r["location"]), r["plays"]) for r in rows])
    says = _best(f"{r['location']}, {counted(r['plays'], 'play')}" for r in rows)
    return Figure("Where most is played", chart, says, rows)


def _plays_by_day(days: list[Row]) -> Figure:
    shown = [_only(day, "date", "plays", "listeners", "active_users") for day in days]
    plays = _daily(shown, "plays:Q", "plays a day", 110).mark_bar(color=MAIN, binSpacing=_gap(days))
    active = _daily(_broken(shown), "active_users:Q", "active users a day", 80).mark_line(
        color=SECOND, point={"color": SECOND} if len(days) <= BUSY_DAYS else False
    )
    most = max(days, key=lambda day: day["plays"])
    busy = max(days, key=lambda day: day["active_users"])
    says = (
        f"{counted(sum(day['plays'] for day in days), 'play')} on {counted(len(days), 'day')}; "
        f"most of them, {most['plays']:,}, on {_date(most['date'])}. "
        f"Most users, {busy['active_users']:,}, were active on {_date(busy['date'])}."
    )
    both = alt.vconcat(*(chart.properties(width=WIDTH - LABELS) for chart in (plays, active)))
    return Figure("Plays and active users by day", both, says, shown)


def _plays_by_hour(rows: list[Row]) -> Figure:
    plays = {(row["weekday"], row["hour"]): row["plays"] / row["days"] for row in rows}
    cells: list[Row] = [
        {"weekday": name, "hour": hour, "plays": plays.get((weekday, hour), 0.0)}
        for weekday, name in enumerate(DAYS)
        for hour in range(24)
    ]
    most = max(cells, key=lambda cell: cell["plays"])
    chart = (
        _chart(cells, alt.Step(18))
        .mark_rect(fill=MAIN)
        .encode(
            x=alt.X(
                "hour:O",
                title="hour of the day, UTC",
                axis=alt.Axis(values=list(range(0, 24, 3)), labelAngle=0),
            ),
            y=alt.Y("weekday:N", sort=None, title="weekday"),
            opacity=alt.Opacity(
                "plays:Q",
                scale=alt.Scale(range=[0.06, 1]),
                legend=alt.Legend(
                    title="plays in the hour, mean of such days",
                    orient="bottom",
                    values=[0, round(most["plays"] / 2, 1), round(most["plays"], 1)],
                    format=",.1f",
                    symbolType="square",
                    symbolFillColor=MAIN,
                    symbolStrokeWidth=0,
                ),
            ),
        )
    )
    says = (
        f"Most is played on {most['weekday']}s from {most['hour']}:00 to {most['hour'] + 1}:00 "
        f"UTC: {most['plays']:,.1f} plays, the mean of such days."
    )
    table: list[Row] = [
        {"hour": hour}
        | {name: f"{plays.get((day, hour), 0):,.1f}" for day, name in enumerate(DAYS)}
        for hour in range(24)
    ]
    return Figure("When people listen", chart, says, table)


def _paid_and_free(days: list[Row], levels: list[Row]) -> Figure:
    parts = [
        {"date": day["date"], "level": level, "plays": day[f"{level}_plays"]}
        for day in days
        for level in ("paid", "free")
    ]
    chart = (
        _daily(parts, "plays:Q", "plays a day", 130)
        .mark_bar(binSpacing=_gap(days))
        .encode(color=_colors("level", ["paid", "free"]))
    )
    plays = sum(row["plays"] for row in levels)
    says = " ".join(
        f"{counted(row['users'], 'user')} now on the level {row['level']}; "
        f"{_share(row['plays'], plays)} of all plays were at it."
        for row in levels
    )
    return Figure("Paid against free", chart, says, levels)


def _level_changes(days: list[Row], changes: list[Row]) -> Figure:
    by_day = {row["date"]: row for row in changes}
    parts = [
        {"date": day["date"], "change": change, "users": sign * found}
        for day in days
        for change, sign in (("upgrades", 1), ("downgrades", -1))
        for found in [by_day.get(day["date"], {}).get(change, 0)]
    ]
    chart = (
        _daily(parts, "users:Q", "users a day", 110)
        .mark_bar(binSpacing=_gap(days))
        .encode(color=_colors("change", ["upgrades", "downgrades"]))
    )
    up, down = (sum(row[name] for row in changes) for name in ("upgrades", "downgrades"))
    says = (
        f"{counted(up, 'upgrade')} from free to paid, drawn upwards; "
        f"{counted(down, 'downgrade')} from paid to free, drawn downwards."
    )
    return Figure("Users who change their level", chart, says, changes)


def _bars(what: str, bars: Iterable[tuple[str, int]], lines: int = 1) -> Any:
    """A bar for each label, which may have several lines; each is as long as fits."""
    values: list[Row] = [{"label": label, "plays": plays} for label, plays in bars]
    most = max(value["plays"] for value in values)
    base = _chart(values, alt.Step(8 + 13 * lines)).encode(
        x=alt.X(
            "plays:Q",
            title="plays",
            scale=alt.Scale(domain=[0, most * 1.35]),  # leaves room for the numbers
            axis=alt.Axis(tickCount=3, labelExpr=SHORT),
        ),
        y=alt.Y(
            "label:N",
            sort=None,
            title=what,
            axis=alt.Axis(
                labelLimit=190,
                labelExpr="split(datum.label, '\\n')",
                labelBaseline="middle",
                labelOffset=-6.5 * (lines - 1),
                domain=False,
                ticks=False,
                titleAngle=0,
                titleAlign="right",
                titleAnchor="start",
                titleX=-6,
                titleY=-8,
            ),
        ),
    )
    numbers = base.mark_text(align="left", dx=3).encode(text=alt.Text("plays:Q", format=","))
    return base.mark_bar(color=MAIN) + numbers


def _daily(rows: list[Row], y: str, title: str, height: int) -> alt.Chart:
    """A chart over days, without its mark."""
    whole = alt.Axis(tickMinStep=1, tickCount=4, labelExpr=SHORT)
    years = len({row["date"].year for row in rows}) > 1
    dates = alt.Axis(tickCount=4, format="%b %Y" if years else "%-d %b", labelOverlap=True)
    return _chart(rows, height).encode(
        x=alt.X("utcyearmonthdate(date):T", title="day, UTC", axis=dates),
        y=alt.Y(y, title=title, axis=whole),
    )


def _broken(days: list[Row]) -> list[Row]:
    """The same days, and one of which nothing is known where some are missing: it breaks a line."""
    rows = []
    for day, after in zip(days, [*days[1:], None], strict=True):
        rows.append(day)
        if after and after["date"] - day["date"] > timedelta(1):
            rows.append({"date": day["date"] + timedelta(1), "active_users": None})
    return rows


def _gap(days: list[Row]) -> int:
    """Pixels between the bars of two days."""
    return int(len(days) <= BUSY_DAYS)


def _chart(rows: list[Row], height: Any) -> alt.Chart:
    """A chart of rows, without its mark; what is no JSON value (a date) is given as text."""
    values = [
        {name: str(v) if isinstance(v, date) else v for name, v in row.items()} for row in rows
    ]
    return alt.Chart(alt.Data(values=values), width=WIDTH, height=height)  # type: ignore[no-untyped-call]


def _colors(field: str, names: list[str]) -> alt.Color:
    return alt.Color(
        f"{field}:N",
        scale=alt.Scale(domain=names, range=[MAIN, SECOND]),
        legend=alt.Legend(title=None, orient="top"),
    )


def _themed(chart: alt.TopLevelMixin, ink: str) -> dict[str, Any]:
    """The chart's specification, its text and lines in one colour."""
    faint: dict[str, Any] = {
        "gridColor": ink,
        "gridOpacity": 0.12,
        "domainColor": ink,
        "tickColor": ink,
    }
    text: dict[str, Any] = {
        "labelColor": ink,
        "titleColor": ink,
        "labelFontSize": 11,
        "titleFontSize": 11,
    }
    text |= {"titleFontWeight": "normal", "titlePadding": 8}
    spec: dict[str, Any] = chart.to_dict()
    if "vconcat" not in spec:
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["config"] = {
        "font": FONT,
        "background": "transparent",
        "padding": {"left": 12, "right": 5, "top": 5, "bottom": 5},
        "view": {"stroke": None},
        "axis": text | faint | {"domainOpacity": 0.4, "tickOpacity": 0.4},
        "legend": text,
        "text": {"color": ink, "fontSize": 11},
        "title": {"color": ink, "fontSize": 15, "anchor": "start", "offset": 14},
    }
    return spec


# --- Words -----------------------------------------------------------------------------------


def _best(entries: Iterable[str]) -> str:
    return "; ".join(list(entries)[:3]) + "."


def _line(text: str) -> str:
    return " ".join(text.split())


def _only(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}


def _number(value: int) -> str:
    return f"{value:,}"


def _date(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _place(source_root: str) -> str:
    place = address_of(source_root.removeprefix(SAMPLE))
    return f"the sample data in {place}" if source_root.startswith(SAMPLE) else place


def _share(part: int, whole: int) -> str:
    if not whole:
        return "none"
    percent = 100 * part / whole
    shown = f"{percent:.1f}" if percent >= 0.1 or not part else f"{percent:.2g}"
    return f"{shown}\N{NO-BREAK SPACE}%"


def _cell(value: object) -> str:
    return _number(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
