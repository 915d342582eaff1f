"""What a refresh costs on Redshift Serverless: traffic measured on the stand-in, prices by a model.

    python -m benchmarks.redshift_cost [--events 8000 80000] [--rpu-hour 0.375] [--help]

First it prints what `redshift_traffic.py` measured. Then it asks of each statement of the last "one
more day" which columns of which rows it would read, had the warehouse a year of days with 10
million or 1 billion events, and prices that. No cluster ran any of it: counts are measured, widths
are those of the made-up rows, the rest is arithmetic.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from benchmarks.redshift_traffic import WHENS, Measured, Sent, Traffic, measure
from benchmarks.simulator import Plan

# Redshift's storage, block by block: what grows with events, and with users; the rest is small.
BY_EVENTS = {"staging_events", "events", "songplays", "time", "sessions"}
BY_USERS = {"users", "user_levels", "user_activity"}
BY_TIME = {"ts", "start_time", "object_id", "started_at", "date"}  # rows of a day lie together
TEMPORARY = {"rows before", "rows now", "changed rows"}  # of the table that is published
ALL, KEYS, USER_KEYS, PREVIEW, COUNT, DAY = (
    "whole columns, for an audit or a mart",
    "column IN (keys), keys of a few days",
    "column IN (keys), keys of users",
    "first rows, by ORDER BY ... LIMIT",
    "COUNT(*), a byte a row",
    "what is new, and temporary tables of it",
)


def as_table(title: str, head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    texts = [[f"{c:,}" if isinstance(c, int) else str(c) for c in line] for line in lines]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join([f"{title}\n", *(f"| {' | '.join(c)} |" for c in (head, rule, *texts)), ""])


def report(measured: Measured) -> Iterator[str]:
    """The measured traffic as Markdown tables."""
    runs = [measured.runs[when] for when in WHENS]
    size = f"{measured.plan.events:,} events in {measured.plan.days} days"
    head = [size, *WHENS]

    def lines(counts: Sequence[Counter[str]]) -> list[list[object]]:
        names = sorted({n for c in counts for n in c}, key=lambda n: -sum(c[n] for c in counts))
        return [[name, *(c[name] for c in counts)] for name in names]

    yield as_table(
        "Statements by kind",
        head,
        [
            ["connections", *(run.connections for run in runs)],
            ["all statements", *(len(run.statements) for run in runs)],
            *lines([Counter(sent.kind for sent in run.statements) for run in runs]),
        ],
    )
    yield as_table(
        "S3 requests and bytes",
        head,
        [*lines([run.requests for run in runs]), *lines([run.bytes for run in runs])],
    )
    written = [_written(run) for run in runs]
    counted = [Counter(sent.asset for sent in run.statements) for run in runs]
    yield as_table(
        "Statements, and rows deleted + inserted, by table",
        head,
        [
            [name]
            + [
                f"{c[name]:,}: {deleted[name]:,} + {inserted[name]:,}"
                for c, (deleted, inserted) in zip(counted, written, strict=True)
            ]
            for name in sorted({*measured.rows, *counted[0], "temporary tables"})
        ],
    )


def _written(run: Traffic) -> tuple[Counter[str], Counter[str]]:
    """Rows that a run deleted and inserted, by table."""
    deleted, inserted, temporary = Counter[str](), Counter[str](), set[tuple[str, str]]()
    for sent in run.statements:
        if sent.kind == "CREATE TEMP TABLE":
            temporary.add((sent.asset, sent.target))
        is_temporary = (sent.asset, sent.target) in temporary
        name = "temporary tables" if is_temporary else sent.target.split(".")[-1]
        if sent.target:
            (deleted if sent.kind == "DELETE" else inserted)[name] += sent.rows
    return deleted, inserted


# --- The model -------------------------------------------------------------------------------


@dataclass
class Model:
    """A warehouse with so many days of so many events each, and users half as many as a day's."""

    measured: Measured
    events: int
    days: int

    def __post_init__(self) -> None:
        """Begins without temporary tables: name and asset, to rows and where these are from."""
        self._temporary: dict[tuple[str, str], tuple[float, str]] = {}

    def rows(self, name: str) -> float:
        """Rows of a table, from those that were measured."""
        measured = self.measured.rows[name]
        if name in BY_EVENTS:
            return measured * self.events * self.days / self.measured.rows["events"]
        return self.events / 2 if name in BY_USERS else measured

    def reads(self, run: Traffic) -> Iterator[tuple[float, str, str, Sent]]:
        """What a run reads: bytes before compression, why, of which table, in which statement."""
        for sent in run.statements:
            if not re.match("SELECT|INSERT|DELETE|CREATE TEMP", sent.sql) or "pg_" in sent.sql:
                continue
            tree = sqlglot.parse_one(sent.sql, read="redshift")
            reasons = set()
            for name, columns, reason in _read(tree, self.measured.widths, sent.asset):
                reasons.add(reason)
                base = _base(name, sent.asset)
                if base not in self.measured.widths:
                    continue
                widths = self.measured.widths[base]
                used = sum(widths.get(column, 0) for column in columns)
                rows, why = self._temporary.get((sent.asset, name), (self.rows(base), reason))
                if reason == DAY and (sent.asset, name) not in self._temporary:
                    rows /= self.days
                yield rows * (1 if why == COUNT else used), why, base, sent
            if sent.target in TEMPORARY or sent.target.endswith(" in part"):
                self._make(sent, of_users=USER_KEYS in reasons and "in part" in sent.target)

    def _make(self, sent: Sent, *, of_users: bool) -> None:
        """Keeps in mind how many rows a temporary table would have got."""
        day = self.events / self.measured.day
        history = self.rows("events") / self.measured.rows["events"]
        rows = sent.rows * (history if of_users else day)
        self._temporary[sent.asset, sent.target] = rows, USER_KEYS if of_users else DAY


def _base(name: str, asset: str) -> str:
    """The table whose columns a table has."""
    return asset if name in TEMPORARY else name.removesuffix(" in part")


def _read(
    tree: exp.Expr, widths: dict[str, dict[str, float]], asset: str
) -> Iterator[tuple[str, list[str], str]]:
    """Tables that a statement reads: name, columns, and how."""
    if isinstance(tree, exp.Delete):
        where = tree.args["where"]
        names = [column.name for column in where.find_all(exp.Column)]
        yield tree.this.name, names, _reason(tree)
        return
    for scope in traverse_scope(tree.expression if isinstance(tree, exp.Create) else tree):
        select = scope.expression
        for alias, source in scope.sources.items():
            if not isinstance(source, exp.Table):
                continue
            all_columns = widths.get(_base(source.name, asset), {})
            is_all = any(
                isinstance(e, exp.Star)
                or (isinstance(e, exp.Column) and e.is_star and e.table == alias)
                for e in select.expressions
            )
            used = {c.name for c in scope.columns if c.table in ("", alias)}
            yield source.name, list(all_columns) if is_all else sorted(used), _reason(select)


def _reason(query: exp.Expr) -> str:
    """What of its tables a query reads, where Redshift skips blocks by constants alone."""
    if query.args.get("limit") and query.args.get("order"):
        return PREVIEW
    where = query.args.get("where")
    if not where:
        counts = [e.unalias() for e in query.expressions]
        return COUNT if counts and all(isinstance(e, exp.Count) for e in counts) else ALL
    for condition in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
        column = condition.this
        if not isinstance(column, exp.Column):
            continue
        if isinstance(condition, exp.In) and condition.args.get("query"):
            return USER_KEYS if column.name in ("user_id", "userid") else KEYS
        if isinstance(condition, exp.GT | exp.GTE | exp.In) and column.name in BY_TIME:
            return DAY
    return ALL


def priced(measured: Measured, given: argparse.Namespace) -> Iterator[str]:
    """What a day costs at each number of events, as Markdown tables."""
    day = measured.runs[WHENS[1]]
    models = [Model(measured, events, given.days) for events in given.target]
    head = ["", *(f"{model.events:,} a day" for model in models)]
    read = [list(model.reads(day)) for model in models]
    gigabytes: list[Counter[str]] = [Counter() for _ in models]
    for reads, found in zip(read, gigabytes, strict=True):
        for size, reason, _, _ in reads:
            found[reason] += size / 1e9  # type: ignore[assignment]
    yield as_table(
        f"GB read by one more day after {given.days} days, before compression",
        head,
        [
            *(
                [reason, *(f"{found[reason]:,.0f}" for found in gigabytes)]
                for reason in (KEYS, PREVIEW, ALL, USER_KEYS, COUNT, DAY)
            ),
            ["in all", *(f"{sum(found.values()):,.0f}" for found in gigabytes)],
        ],
    )
    by_statement: Counter[tuple[str, str, str]] = Counter()
    for size, reason, base, sent in read[0]:
        by_statement[sent.asset, reason, base] += size / 1e9  # type: ignore[assignment]
    yield as_table(
        f"The largest reads at {models[0].events:,} a day, GB",
        ["asset", "reads of", "how", "GB"],
        [[a, b, how, f"{gb:,.1f}"] for (a, how, b), gb in by_statement.most_common(16)],
    )
    yield as_table(
        "A day",
        head,
        _transposed([_day(m, g, given) for m, g in zip(models, gigabytes, strict=True)]),
    )


def _transposed(columns: list[dict[str, str]]) -> list[list[str]]:
    return [[name, *(column[name] for column in columns)] for name in columns[0]]


def _day(model: Model, found: Counter[str], given: argparse.Namespace) -> dict[str, str]:
    """What a day takes and costs, each with its name."""
    measured, total = model.measured, sum(found.values())
    day, nothing = (measured.runs[when] for when in WHENS[1:])
    raw = model.events * given.event_bytes
    objects = max(1, round(raw / given.object_bytes))
    lines = {
        "GB of JSON": f"{raw / 1e9:,.1f}",
        "read and compressed by one core, s": f"{model.events / given.reader:,.0f}",
    }
    near = 2 / given.days  # two days: sessions cross midnight
    ways = {
        "as it is": total,
        "keys beside a range of two days": total - found[KEYS] * (1 - near),
        "that, and no preview": total - (found[KEYS] + found[PREVIEW]) * (1 - near),
        "history is never read": found[DAY] + (found[KEYS] + found[PREVIEW]) * near,
    }
    for way, size in ways.items():
        for rpu in (8, 16, 32, 64, 128, 256, 512):
            busy = len(day.statements) * given.latency + size / (given.scan * rpu)
            if busy <= given.within:
                break
        cost = max(busy, 60) / 3600 * rpu * given.rpu_hour
        lines[f"{way}: GB read"] = f"{size:,.0f}"
        lines[f"{way}: USD (seconds, RPU)"] = f"{cost:,.2f} ({busy:,.0f} s, {rpu})"
    for rpu in (8, 128):
        idle = max(60, len(nothing.statements) * given.latency) / 3600 * rpu * given.rpu_hour
        lines[f"a run with nothing new, {rpu} RPU: USD"] = f"{idle:.2f}"
    lists = -(-objects * given.days // 1000) * day.requests["LIST"]
    writes = day.requests["PUT"] + day.requests["POST"] + lists
    reads = objects + day.requests["GET by COPY"]
    lines["S3 requests: USD"] = f"{(writes * given.put + reads * given.get) / 1000:.4f}"
    stored = sum(model.rows(name) * sum(w.values()) for name, w in measured.widths.items())
    lines["tables, GB before compression"] = f"{stored / 1e9:,.0f}"
    storage = stored * given.storage / given.compression / 1e9 / 30
    lines["their storage: USD"] = f"{storage:,.2f}"
    noted = sum(s.rows for s in day.statements if s.kind == "INSERT" and s.target == "stale_keys")
    lines["rows of stale_keys"] = f"{noted * model.events / measured.day:,.0f}"
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prices as the command line says."""
    parser = argparse.ArgumentParser("redshift_cost", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--events", type=int, nargs="+", default=[8_000, 80_000], help="measured, in 30 days")
    add("--songs", type=int, default=1_000, help="in the catalogue")
    add("--target", type=int, nargs="+", default=[10_000_000, 1_000_000_000], help="events a day")
    add("--days", type=int, default=365, help="of history in the model")
    add("--event-bytes", type=int, default=450, help="of JSON")
    add("--object-bytes", type=float, default=256e6, help="of JSON in one object")
    add("--reader", type=float, default=70_000, help="events a second, to compressed files; a core")
    money = "USD, as of 2025, us-east-1 from memory: check yours"
    add("--rpu-hour", type=float, default=0.375, help=money)
    add("--storage", type=float, default=0.024, help=f"a GB and month; {money}")
    add("--put", type=float, default=0.005, help=f"1,000 PUT, POST or LIST; {money}")
    add("--get", type=float, default=0.0004, help=f"1,000 GET; {money}")
    add("--scan", type=float, default=0.2, help="GB a second and RPU with joins; an assumption")
    add("--latency", type=float, default=0.1, help="seconds of a statement; an assumption")
    add("--compression", type=float, default=3, help="of stored bytes; an assumption")
    add("--within", type=float, default=3600, help="seconds that a day's run may take")
    given = parser.parse_args(arguments)
    for events in given.events:
        measured = measure(Plan(songs=given.songs, events=events))
        print(*report(measured), sep="\n")
    print(*priced(measured, given), sep="\n")


if __name__ == "__main__":
    main()
