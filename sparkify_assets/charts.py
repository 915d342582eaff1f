"""Draws the charts of the report as static SVG: bars, days, and the hours of a week.

Here is where everything stands in a chart, `charts.svg.jinja` says how it is drawn. Text from data
reaches a drawing by way of the template alone, which escapes it. What a chart is about and what is
said of it belongs to `report.py`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

MAIN, SECOND = "#11845b", "#c2570c"  # the page lightens them where it is dark
WIDTH = 345  # of a chart with its labels: a phone's
LEFT = 40  # of them those of a number
PLOT = WIDTH - LEFT - 5
LABEL_CHARACTERS = 30  # about as many fit beside a bar; the whole text is its tooltip
BUSY_DAYS = 62  # with more, points would hide the line, and gaps the bars
DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Drawing(Markup):
    """A chart as SVG; its height in pixels, where it is `WIDTH` wide."""

    height: float


@dataclass(frozen=True)
class Panel:
    """A chart over days: a value a day for each series, None where there is none.

    Series are stacked as bars, those below zero downwards; or each is a line.
    """

    title: str
    height: int
    series: Mapping[str, Sequence[int | None]]
    is_line: bool = False


def bars(rows: Iterable[tuple[Sequence[str], int]]) -> Drawing:
    """A bar for each value, with the lines of its label; the first is the longest."""
    shown = [([(_cut(line), line) for line in lines], value) for lines, value in rows]
    most = max(value for _, value in shown)
    step = 8 + 13 * len(shown[0][0])
    return _draw("bars", len(shown) * step, rows=shown, most=most, step=step)


def by_day(days: Sequence[date], panels: Sequence[Panel]) -> Drawing:
    """Panels one below the other, over the same days; days that are missing are left empty."""
    span = (days[-1] - days[0]).days + 1
    step = PLOT / span
    places = [LEFT + (day - days[0]).days * step for day in days]
    drawn, top = [], 0.0
    for panel in panels:
        top += 22
        sums = [
            sum(v for v in values if v and v > 0)
            for values in zip(*panel.series.values(), strict=True)
        ]
        lows = [
            sum(v for v in values if v and v < 0)
            for values in zip(*panel.series.values(), strict=True)
        ]
        ticks = _ticks(min(0, *lows), max(1, *sums))
        scale = panel.height / (ticks[-1] - ticks[0])
        zero = top + ticks[-1] * scale
        drawn.append(
            {
                "title": panel.title,
                "top": top,
                "ticks": [(zero - tick * scale, _short(abs(tick))) for tick in ticks],
                "bars": [] if panel.is_line else list(_stacked(panel, places, zero, scale)),
                "lines": list(_lines(panel, days, places, step, zero, scale)),
                "names": [name for name in panel.series if len(panel.series) > 1],
            }
        )
        top += panel.height
    gap = 1 if len(days) <= BUSY_DAYS else 0
    form = "%b %Y" if days[0].year != days[-1].year else "%-d %b"
    marks = [days[0] + (days[-1] - days[0]) * part / 4 for part in range(5 if span > 4 else 1)]
    dates = [(LEFT + ((d - days[0]).days + 0.5) * step, d.strftime(form)) for d in marks]
    width = max(step - gap, 0.4)
    return _draw("by_day", top + 22, panels=drawn, dates=dates, width=width, busy=not gap)


def by_hour(plays: dict[tuple[int, int], float]) -> Drawing:
    """A cell for each hour of a week, from (weekday, hour): the more, the darker."""
    most = max(plays.values())
    cells = [
        (weekday, hour, plays.get((weekday, hour), 0.0), plays.get((weekday, hour), 0.0) / most)
        for weekday in range(7)
        for hour in range(24)
    ]
    return _draw("by_hour", 182, days=DAYS, cells=cells, most=most)


def picture(drawing: Drawing, title: str) -> str:
    """A drawing that stands alone, on white, with its title: the text of an SVG file."""
    return str(_draw("picture", drawing.height + 50, drawing=drawing, title=title))


def _draw(macro: str, height: float, **values: Any) -> Drawing:
    module = TEMPLATES.get_template("charts.svg.jinja").make_module(
        {"main": MAIN, "second": SECOND, "left": LEFT, "whole_width": WIDTH}
    )
    drawing = Drawing(getattr(module, macro)(height=height, **values))  # the template escapes
    drawing.height = height
    return drawing


def _stacked(
    panel: Panel, places: Sequence[float], zero: float, scale: float
) -> Iterator[tuple[float, float, float, int]]:
    """The bars of a panel: left, top, height, and the number of the series."""
    for place, values in zip(places, zip(*panel.series.values(), strict=True), strict=True):
        up = down = zero
        for number, value in enumerate(values):
            height = abs(value or 0) * scale
            if value and value > 0:
                up -= height
                yield place, up, height, number
            elif value:
                yield place, down, height, number
                down += height


def _lines(
    panel: Panel,
    days: Sequence[date],
    places: Sequence[float],
    step: float,
    zero: float,
    scale: float,
) -> Iterator[list[tuple[float, float]]]:
    """The lines of a panel, each broken where days are missing, as points."""
    for values in panel.series.values() if panel.is_line else ():
        line: list[tuple[float, float]] = []
        before = None
        for day, place, value in zip(days, places, values, strict=True):
            if line and before and ((day - before).days > 1 or value is None):
                yield line
                line = []
            if value is not None:
                line.append((place + step / 2, zero - value * scale))
            before = day
        if line:
            yield line


def _ticks(low: int, high: int) -> list[int]:
    """About four round numbers from at most `low` to at least `high`, zero among them."""
    rough = max(1.0, (high - low) / 4)
    power = 10 ** math.floor(math.log10(rough))
    step = int(next(n * power for n in (1, 2, 5, 10) if n * power >= rough))
    return list(range(math.floor(low / step) * step, math.ceil(high / step) * step + 1, step))


def _short(value: int) -> str:
    """2k for 2,000."""
    return f"{value / 1_000:g}k" if value >= 1_000 else str(value)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LABEL_CHARACTERS else f"{text[: LABEL_CHARACTERS - 1]}…"
