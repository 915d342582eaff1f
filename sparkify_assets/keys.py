"""Which keys the records of a load hold, so that none comes or goes in silence."""

from sparkify_assets.catalog import Table
from sparkify_assets.errors import printable
from sparkify_assets.records import Members
from sparkify_assets.values import json_columns, json_text
from sparkify_assets.wording import counted

MOST = 1_000  # different keys that are told apart
SHOWN = 40  # characters of a key and of its example


class Keys:
    """Counts the records that hold a key, and keeps an example of its values."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, object]] = {}

    def add(self, members: Members, records: int = 1) -> int:
        """Counts records that have the keys of this one; returns those with a repeated key."""
        by_name = dict(members)
        for name, value in by_name.items():
            count, example = self._found.get(name, (0, None))
            if count or len(self._found) < MOST:
                self._found[name] = count + records, value if example is None else example
        return records if len(by_name) < len(members) else 0

    def unknown(self, table: Table) -> list[str]:
        """The keys that no column of the table takes, each with its count and an example."""
        known = {column.key for column in json_columns(table)}
        return [
            f"{printable(name)[:SHOWN]} ({counted(records, 'record')}, "
            f"for example {printable(json_text(example))[:SHOWN]})"
            for name, (records, example) in self._found.items()
            if name not in known
        ]

    def missing(self, table: Table) -> list[str]:
        """The keys of columns that are in no record."""
        wanted = [column.key for column in json_columns(table)] if self._found else []
        return [key for key in wanted if key not in self._found]
