"""The listening report: charts and one HTML page that needs nothing else, from rows of the marts.

What the figures are is said in `sql/marts/`; here is how they are shown. Charts become drawings
inside the page; their colours follow the reader's light or dark theme. Text from data is made fit
to show where rows enter, and reaches the page by way of the template or of Vega: both escape it.
"""

from collections.abc import Sequence
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
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.files import replace
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
RANKINGS = ("most_played_artists", "most_played_songs", "plays_by_location")
BY_TIME = ("level_changes", "plays_by_day", "plays_by_hour", "plays_by_level")
ABOUT = ("catalogue_coverage", "load_summary")
READS = dict.fromkeys(RANKINGS, 10) | dict.fromkeys(BY_TIME + ABOUT, 1_000_000)  # rows of marts
RANKED = ("rank", "song", "artist", "location", "plays", "listeners", "songs")  # of a ranking


@dataclass(frozen=True)
class Findings:
    """What the report tells of."""

    rows: dict[str, list[Row]]  # the first of tables, by table
    counts: dict[str, int]  # of all rows, by table
    checks: list[tuple[str, AuditResult]]  # with their tables, evaluated as these are published
    address: str  # of the warehouse

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
            {
                name: [_fit_to_show(row) for row in session.first(catalog.tables[name], limit)]
                for name, limit in READS.items()
            },
            {table.name: session.count(table.name) for table in tables},
            [(t.name, result) for t in tables for result in run_audits(session, audits_of(t))],
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
        _ranking("Most played songs", rows["most_played_songs"], "song", "artist"),
        _ranking("Most played artists", rows["most_played_artists"], "artist"),
        _plays_by_day(rows["plays_by_day"]),
        _plays_by_hour(rows["plays_by_hour"]),
        _paid_and_free(rows["plays_by_day"], rows["plays_by_level"]),
        _level_changes(rows["plays_by_day"], rows["level_changes"]),
        _ranking("Where most is played", rows["plays_by_location"], "location"),
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
    templates.filters |= {"number": "{:,}".format, "share": _share, "date": _date, "place": _place}
    return templates.get_template("report.html.jinja").render(
        vars(findings), figures=figures, main=MAIN, second=SECOND, made_at=datetime.now(UTC)
    )


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
    values: list[Row] = [  # with numbers, since two labels may look the same
        {"label": "\n".join([str(number), *(row[text] for text in texts)]), "plays": row["plays"]}
        for number, row in enumerate(rows)
    ]
    most = max(row["plays"] for row in rows)
    scale = alt.Scale(domain=[0, most * 1.35])  # leaves room for the numbers
    lengths = alt.Axis(tickCount=3, labelExpr=SHORT)
    labels = alt.Axis(
        labelLimit=190,
        labelExpr="slice(split(datum.label, '\\n'), 1)",
        labelBaseline="middle",
        labelOffset=-6.5 * (len(texts) - 1),
        domain=False,
        ticks=False,
        titleAngle=0,
        titleAlign="right",
        titleAnchor="start",
        titleX=-6,
        titleY=-8,
    )
    base = _chart(values, alt.Step(8 + 13 * len(texts))).encode(
        x=alt.X("plays:Q", title="plays", scale=scale, axis=lengths),
        y=alt.Y("label:N", sort=None, title=", ".join(texts), axis=labels),
    )
    numbers = base.mark_text(align="left", dx=3).encode(text=alt.Text("plays:Q", format=","))
    chart: Any = base.mark_bar(color=MAIN) + numbers
    best = [f"{' by '.join(r[t] for t in texts)}, {counted(r['plays'], 'play')}" for r in rows[:3]]
    return Figure(title, chart, f"{'; '.join(best)}.", [_only(row, *RANKED) for row in rows])


def _plays_by_day(days: list[Row]) -> Figure:
    shown = [_only(day, "date", "plays", "listeners", "active_users") for day in days]
    few = len(days) <= BUSY_DAYS
    plays = _daily(shown, "plays:Q", "plays a day", 110).mark_bar(color=MAIN, binSpacing=int(few))
    active = _daily(_broken(shown), "active_users:Q", "active users a day", 80).mark_line(
        color=SECOND, point={"color": SECOND} if few else False
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
    hours = alt.Axis(values=list(range(0, 24, 3)), labelAngle=0)
    legend = alt.Legend(
        title="plays in the hour, mean of such days",
        orient="bottom",
        values=[0, round(most["plays"] / 2, 1), round(most["plays"], 1)],
        format=",.1f",
        symbolType="square",
        symbolFillColor=MAIN,
        symbolStrokeWidth=0,
    )
    shades = alt.Opacity("plays:Q", scale=alt.Scale(range=[0.06, 1]), legend=legend)
    chart = _chart(cells, alt.Step(18)).mark_rect(fill=MAIN)
    chart = chart.encode(
        x=alt.X("hour:O", title="hour of the day, UTC", axis=hours),
        y=alt.Y("weekday:N", sort=None, title="weekday"),
        opacity=shades,
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
    parts = {level: [day[f"{level}_plays"] for day in days] for level in ("paid", "free")}
    chart = _stacked(days, "plays a day", 130, parts)
    plays = sum(row["plays"] for row in levels)
    says = " ".join(
        f"{counted(row['users'], 'user')} now on the level {row['level']}; "
        f"{_share(row['plays'], plays)} of all plays were at it."
        for row in levels
    )
    return Figure("Paid against free", chart, says, levels)


def _level_changes(days: list[Row], changes: list[Row]) -> Figure:
    by_day = {row["date"]: row for row in changes}
    found = [by_day.get(day["date"], {"upgrades": 0, "downgrades": 0}) for day in days]
    parts = {"upgrades": [row["upgrades"] for row in found]}
    parts |= {"downgrades": [-row["downgrades"] for row in found]}
    chart = _stacked(days, "users a day", 110, parts)
    up, down = (sum(row[name] for row in changes) for name in ("upgrades", "downgrades"))
    says = (
        f"{counted(up, 'upgrade')} from free to paid, drawn upwards; "
        f"{counted(down, 'downgrade')} from paid to free, drawn downwards."
    )
    return Figure("Users who change their level", chart, says, changes)


def _daily(rows: list[Row], y: str, title: str, height: int) -> alt.Chart:
    """A chart over days, without its mark."""
    whole = alt.Axis(tickMinStep=1, tickCount=4, labelExpr=SHORT)
    years = len({row["date"].year for row in rows}) > 1
    dates = alt.Axis(tickCount=4, format="%b %Y" if years else "%-d %b", labelOverlap=True)
    return _chart(rows, height).encode(
        x=alt.X("utcyearmonthdate(date):T", title="day, UTC", axis=dates),
        y=alt.Y(y, title=title, axis=whole),
    )


def _stacked(days: list[Row], title: str, height: int, parts: dict[str, list[int]]) -> Any:
    """A bar for each day, in two parts, each in a colour."""
    rows = [
        {"date": day["date"], "part": part, "number": number}
        for part, numbers in parts.items()
        for day, number in zip(days, numbers, strict=True)
    ]
    scale = alt.Scale(domain=list(parts), range=[MAIN, SECOND])
    color = alt.Color("part:N", scale=scale, legend=alt.Legend(title=None, orient="top"))
    gap = int(len(days) <= BUSY_DAYS)
    return _daily(rows, "number:Q", title, height).mark_bar(binSpacing=gap).encode(color=color)


def _broken(days: list[Row]) -> list[Row]:
    """The same days, and one of which nothing is known where some are missing: it breaks a line."""
    rows = []
    for day, after in zip(days, [*days[1:], None], strict=True):
        rows.append(day)
        if after and after["date"] - day["date"] > timedelta(1):
            rows.append({"date": day["date"] + timedelta(1), "active_users": None})
    return rows


def _chart(rows: list[Row], height: Any) -> alt.Chart:
    """A chart of rows, without its mark; what is no JSON value (a date) is given as text."""
    values = [
        {name: str(v) if isinstance(v, date) else v for name, v in row.items()} for row in rows
    ]
    return alt.Chart(alt.Data(values=values), width=WIDTH, height=height)  # type: ignore[no-untyped-call]


def _themed(chart: alt.TopLevelMixin, ink: str) -> dict[str, Any]:
    """The chart's specification, its text and lines in one colour."""
    faint: dict[str, Any] = {"gridColor": ink, "domainColor": ink, "tickColor": ink}
    faint |= {"gridOpacity": 0.12, "domainOpacity": 0.4, "tickOpacity": 0.4}
    text: dict[str, Any] = {"labelColor": ink, "titleColor": ink}
    text |= {"labelFontSize": 11, "titleFontSize": 11}
    text |= {"titleFontWeight": "normal", "titlePadding": 8}
    spec: dict[str, Any] = chart.to_dict()
    if "vconcat" not in spec:
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["config"] = {
        "font": FONT,
        "background": "transparent",
        "padding": {"left": 12, "right": 5, "top": 5, "bottom": 5},
        "view": {"stroke": None},
        "axis": text | faint,
        "legend": text,
        "text": {"color": ink, "fontSize": 11},
        "title": {"color": ink, "fontSize": 15, "anchor": "start", "offset": 14},
    }
    return spec


# --- Words -----------------------------------------------------------------------------------


def _only(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names if name in row}


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
