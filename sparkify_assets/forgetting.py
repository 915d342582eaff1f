"""Forgets users: deletes their records from staging, and leaves them out of every later load.

`forgotten_users` holds their ids and nothing else about them. A staging table's file says which
columns identify a person. Downstream tables follow as after any other change.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime

from sparkify_assets.catalog import Catalog
from sparkify_assets.dialect import quote
from sparkify_assets.tables import Column, Table
from sparkify_assets.warehouse.base import Session

FORGOTTEN_USERS = "forgotten_users"


def add_user(session: Session, user_id: int, run_id: str) -> None:
    """Adds a user to the list of forgotten users."""
    now = datetime.now(UTC).replace(tzinfo=None)
    session.execute(f"DELETE FROM {FORGOTTEN_USERS} WHERE user_id = ?", [user_id])
    session.execute(
        f"INSERT INTO {FORGOTTEN_USERS} (user_id, forgotten_at, run_id) VALUES (?, ?, ?)",
        [user_id, now, run_id],
    )


def delete_records(session: Session, table: Table, keep: Callable[[str], None]) -> int:
    """Deletes the records of all listed users from a staging table; returns how many.

    Calls `keep` with the condition of these rows before they go, and takes them off the counts of
    `load_history`. Erases the text of rejected records with the id, or both names, of a user.
    """
    user_id, *names = (quote(name) for name in table.person)
    theirs = f"{user_id} IN (SELECT user_id FROM {FORGOTTEN_USERS})"
    counts = f"SELECT object_id, COUNT(*) AS n FROM {table.name} WHERE {theirs} GROUP BY object_id"
    people = session.rows(f"SELECT DISTINCT {', '.join(names)} FROM {table.name} WHERE {theirs}")
    key = next(column.key for column in table.columns if column.name == table.person[0])
    erase = "UPDATE rejected_records SET raw_text = NULL, reason = 'of a forgotten user'"
    named = _names_user("raw_text", key)
    session.execute(f"{erase} FROM {FORGOTTEN_USERS} AS f WHERE {named}")
    for person in people:
        if all(person.values()):
            found = " OR ".join(["STRPOS(raw_text, ?) > 0"] * len(_spelled("")))
            both = " AND ".join(f"({found})" for _ in person)
            spelled = [text for name in person.values() for text in _spelled(name)]
            session.execute(f"{erase} WHERE {both}", spelled)
    [row] = session.rows(f"SELECT COUNT(*) AS n FROM {table.name} WHERE {theirs}")
    if row["n"]:
        keep(theirs)
        session.execute(
            "UPDATE load_history SET records = load_history.records - f.n, "
            f"rows_loaded = load_history.rows_loaded - f.n FROM ({counts}) AS f "
            "WHERE load_history.object_id = f.object_id"
        )
        session.execute(f"DELETE FROM {table.name} WHERE {theirs}")
    return int(row["n"])


def find_forgotten(session: Session, catalog: Catalog) -> tuple[int, list[str]]:
    """How many users are forgotten, and the columns, as table.column, that contain one of them."""
    if session.shape(catalog.tables[FORGOTTEN_USERS]) != "" or not (
        listed := session.count(FORGOTTEN_USERS)
    ):
        return 0, []
    counts = [
        f"SELECT '{table.name}.{column.name}' AS place, COUNT(*) AS found "
        f"FROM {quote(table.name)} AS t CROSS JOIN {FORGOTTEN_USERS} AS f WHERE {condition}"
        for table in catalog.tables.values()
        if table.name != FORGOTTEN_USERS and session.shape(table) is not None
        for column in table.columns
        if (condition := _contains_user(table, column))
    ]
    rows = session.rows("\nUNION ALL\n".join(counts))
    return listed, sorted(row["place"] for row in rows if row["found"])


def _names_user(text: str, key: str) -> str:
    """The condition that JSON in a column has the id of the user `f` under a key."""
    text = f"LOWER({text})"
    for blank in ("'\"'", "' '", "CHR(9)", "CHR(10)"):
        text = f"REPLACE({text}, {blank}, '')"
    start = f"'%{key.lower()}:' || CAST(f.user_id AS VARCHAR(20)) || "
    return " OR ".join(f"{text} LIKE {start}'{end}%'" for end in (",", "}", ".0"))


def _spelled(name: str) -> list[str]:
    """A name as it is, and in JSON as those write it who escape what they must, or all they may."""
    return [name, *(json.dumps(name, ensure_ascii=escaped)[1:-1] for escaped in (False, True))]


def _contains_user(table: Table, column: Column) -> str:
    """The condition that a column of `t` contains the id of the user `f`; "" if it cannot."""
    name = f"t.{quote(column.name)}"
    if column.name.replace("_", "") == "userid" or column.name in table.person[:1]:
        return f"{name} = f.user_id"
    if not column.type.startswith("VARCHAR"):
        return ""
    if table.insert and column.name.endswith("_id"):  # such as 139-8: session 139 of user 8
        last = f"SPLIT_PART(REVERSE({name}), '-', 1)"  # an equality: it can be joined by hash
        return f"POSITION('-' IN {name}) > 0 AND {last} = REVERSE(CAST(f.user_id AS VARCHAR(20)))"
    if column.name in ("raw_text", "details"):
        return f"{_names_user(name, 'userid')} OR {_names_user(name, 'user_id')}"
    return ""
