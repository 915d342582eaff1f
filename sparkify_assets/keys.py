"""Which keys the records of a load hold, so that none comes or goes in silence."""

import json
from collections import Counter
from operator import itemgetter

from sparkify_assets.catalog import Table
from sparkify_assets.errors import printable
from sparkify_assets.records import Members, Number
from sparkify_assets.values import as_text, json_columns
from sparkify_assets.wording import counted

MOST = 1_000  # different keys, and sets of keys, that are told apart
SHOWN = 40  # characters of an example
NAME = itemgetter(0)


class Keys:
    """Counts the records that hold a key. Whatever they hold, memory is bounded."""

    def __init__(self) -> None:
        self._sets: Counter[tuple[str, ...]] = Counter()
        self._records: Counter[str] = Counter()
        self._examples: dict[str, object] = {}

    def add(self, members: Members, records: int = 1) -> None:
        """Counts records that have the keys of this one."""
        names = tuple(map(NAME, members))
        if names not in self._sets:
            if len(self._sets) == MOST:
                self._fold()
            for name, value in members:
                if len(self._examples) < MOST and self._examples.get(name) is None:
                    self._examples[name] = value
        self._sets[names] += records

    def _fold(self) -> None:
        for names, records in self._sets.items():
            for name in dict.fromkeys(names):
                if name in self._examples:
                    self._records[name] += records
        self._sets.clear()

    def unknown(self, table: Table) -> list[str]:
        """What is to be said of each key that no column of the table takes."""
        self._fold()
        known = {column.key for column in json_columns(table)}
        return [
            f"{printable(name)[:SHOWN]} ({counted(records, 'record')}, for example "
            f"{_shown(self._examples[name])}; to keep it, add to {table.path.name} the line "
            f"{_as_name(name)} {_type(self._examples[name])},)"
            for name, records in self._records.items()
            if name not in known
        ]

    def missing(self, table: Table) -> list[str]:
        """The keys of columns that are in no record."""
        self._fold()
        wanted = [column.key for column in json_columns(table)] if self._records else []
        return [key for key in wanted if not self._records[key]]


def _shown(value: object) -> str:
    text = as_text(value) if isinstance(value, Number) else json.dumps(as_text(value))
    text = printable(text or "")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\N{HORIZONTAL ELLIPSIS}"


def _as_name(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else '"' + printable(key)[:SHOWN] + '"'


def _type(value: object) -> str:
    if isinstance(value, Number):
        return "BIGINT" if value.lstrip("-").isdigit() else "DOUBLE PRECISION"
    return "BOOLEAN" if isinstance(value, bool) else "VARCHAR(1024)"
