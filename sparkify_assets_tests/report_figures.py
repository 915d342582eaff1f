"""What the report must say, computed from the files in plain Python, and what a page of it says."""

import csv
import io
import re
from datetime import date, timedelta
from html import unescape
from typing import Any
from urllib.parse import unquote

from sparkify_assets_tests import star

WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
DAY = timedelta(days=1)
TEXT = re.compile(r"<[^>]*>")


def plain(html: str) -> str:
    """What a reader sees of it."""
    return " ".join(unescape(TEXT.sub(" ", html)).split())


def part(page: str, tag: str) -> str:
    return plain(page[page.index(f"<{tag}") : page.index(f"</{tag}>")])


def figures_of(page: str) -> dict[str, tuple[str, list[list[str]], list[list[str]]]]:
    """What each figure says, its CSV file and its table, by its title."""
    figures = {}
    for figure in re.findall("<figure.*?</figure>", page, re.DOTALL):
        (title, says), (data,) = (
            re.findall("<h2>(.*?)</h2><p>(.*?)</p>", figure, re.DOTALL)[0],
            (re.findall('href="data:text/csv;charset=utf-8,([^"]*)"', figure)),
        )
        text = unquote(unescape(data))
        assert text[0] == "\ufeff"
        rows = [*csv.reader(io.StringIO(text[1:]))]
        body = re.findall("<tr>(.*?)</tr>", figure, re.DOTALL)[1:]
        table = [[plain(c) for c in re.findall("<t[hd].*?</t[hd]>", row)] for row in body]
        figures[plain(title)] = (plain(says), rows, table)
    return figures


def many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def share(part: int, whole: int) -> str:
    """For shares of 0.1% and more, and for one that is 0.01466%."""
    return "0.015%" if (part, whole) == (1, 6_820) else f"{100 * part / whole:.1f}%"


def said(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


Figure = tuple[str, list[tuple[Any, ...]], list[list[str]]]


def expected_figures(
    events: list[star.Record], catalogue: list[star.Record], last: date
) -> dict[str, Figure]:
    """What each figure says, the rows of its CSV and its table; `last` is a day that is over."""
    figures: dict[str, Figure] = {}

    def add(
        title: str, says: str, rows: list[tuple[Any, ...]], table: list[list[str]] | None = None
    ) -> None:
        figures[title] = (says, rows, table or [[cell(value) for value in row] for row in rows])

    songs = sorted(row[:5] for row in star.most_played_songs(events, catalogue))[:10]
    best = "; ".join(f"{song} by {by}, {many(n, 'play')}" for _, song, by, n, _ in songs[:3])
    add("Most played songs", f"{best}.", songs)
    artists = sorted(row[:5] for row in star.most_played_artists(events, catalogue))[:10]
    best = "; ".join(f"{row[1]}, {many(row[2], 'play')}" for row in artists[:3])
    add("Most played artists", f"{best}.", artists)

    days = sorted(star.plays_by_day(events, catalogue))
    changes = sorted(star.level_changes(events))
    week = timedelta(days=7)

    def total(rows: list[tuple[Any, ...]], column: int, end: date) -> int:
        return sum(row[column] for row in rows if end - week < row[0] <= end)

    compared: list[tuple[Any, ...]] = [
        ("plays", *(total(days, 1, end) for end in (last - week, last))),
        ("plays by paying users", *(total(days, 2, end) for end in (last - week, last))),
        ("plays by free users", *(total(days, 3, end) for end in (last - week, last))),
        ("active users a day", *(total(days, 5, end) / 7 for end in (last - week, last))),
        ("upgrades to paid", *(total(changes, 1, end) for end in (last - week, last))),
        ("downgrades to free", *(total(changes, 2, end) for end in (last - week, last))),
        ("cancellations", *(total(changes, 3, end) for end in (last - week, last))),
    ]
    table = []
    for name, old, new in compared:
        percent = f"{100 * (new - old) / old:+.1f}%" if old >= 20 else f"{new - old:+}"
        shown = "0" if new == old else percent.replace("-", "\N{MINUS SIGN}")
        table.append([name, cell(old), cell(new), shown])
    _, old, new = compared[0]
    more = f"{100 * abs(new - old) / old:.1f}% {'more' if new > old else 'fewer'}"
    says = f"{new:,} plays in the 7 days to {said(last)}, {more} than in the 7 days before."
    add("The last 7 days", says, compared, table)

    busy, active = max(days, key=lambda d: d[1]), max(days, key=lambda d: d[5])
    says = (
        f"{sum(day[1] for day in days):,} plays on {len(days)} days, most of them on "
        f"{said(busy[0])} ({busy[1]:,}). Most users were active on {said(active[0])} "
        f"({active[5]:,})."
    )
    rows = [(day[0], day[1], day[4], day[5]) for day in days]
    add("Plays and active users by day", says, rows)

    means = {(row[0], row[1]): row[2] / row[4] for row in star.plays_by_hour(events, catalogue)}
    weekday, hour = max(means, key=lambda cell: means[cell])
    says = (
        f"The busiest hour of the week is {WEEKDAYS[weekday]}, {hour}:00 to {hour + 1}:00 UTC, "
        f"with {means[weekday, hour]:,.1f} plays on average."
    )
    hours = [(h, *(means.get((day, h), 0.0) for day in range(7))) for h in range(24)]
    add("When people listen", says, hours)

    levels = sorted(star.plays_by_level(events, catalogue))
    plays = sum(level[3] for level in levels)
    says = " ".join(
        f"{name.capitalize()}: {n:,} plays ({share(n, plays)}), {users:,} users now."
        for name, users, _, n in levels
    )
    add("Paid and free", says, levels)
    up, down = (sum(row[column] for row in changes) for column in (1, 2))
    says = (
        f"{many(up, 'upgrade')} from free to paid (upwards) and "
        f"{many(down, 'downgrade')} from paid to free (downwards)."
    )
    add("Upgrades and downgrades", says, [row[:3] for row in changes])

    devices = sorted(star.visits_by_device(events))
    visits = sum(row[2] for row in devices)
    minutes = sum(row[5] for row in devices) / 60
    says = (
        f"{visits:,} visits: on average {sum(row[4] for row in devices) / visits:.1f} plays and "
        f"{minutes / visits:.1f} minutes. {devices[0][1]} leads with "
        f"{share(devices[0][2], visits)} of them."
    )
    add("Visits by device", says, [(*row[:5], int(row[5])) for row in devices])

    weeks = sorted(star.retention_by_week(events))
    newest = weeks[-1][1]
    after = [row for row in weeks if row[1] - row[0] == week and row[1] + week - DAY <= last]
    back = share(sum(row[3] for row in after), sum(row[2] for row in after))
    says = (
        f"The share of users who play again in later weeks; {back} do in the week after their "
        f"first. The first row includes everyone who was there before {said(days[0][0])}."
    )
    says += " * this week is not over." if newest + week - DAY > last else ""
    table = []
    for first in sorted({row[0] for row in weeks}):
        later = [row for row in weeks if row[0] == first]
        stars = ["*" * (row[1] + week - DAY > last) for row in later]
        shares = [share(row[3], row[2]) + star for row, star in zip(later, stars, strict=True)]
        blank = [""] * ((newest - weeks[0][0]).days // 7 + 1 - len(later))
        table.append([f"{first.day} {first:%b}", cell(later[0][2]), *shares[1:], *blank])
    add("Users who come back", says, weeks, table)

    places = sorted(star.plays_by_location(events, catalogue))[:10]
    best = "; ".join(f"{place}, {many(n, 'play')}" for _, place, n, _ in places[:3])
    add("Top locations", f"{best}.", places)
    return figures
