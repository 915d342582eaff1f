"""Statements and errors of Redshift as PostgreSQL has them, for the stand-in."""

import re
from functools import cache

import sqlglot
from sqlglot import exp

_COMMENTS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*", re.DOTALL)


_QUERY_GROUP = re.compile(r"^(\s*(?:SET(?:\s+SESSION|\s+LOCAL)?|RESET|SHOW)\s+)query_group\b", re.I)


def for_postgres(sql: str) -> str:
    """A statement as PostgreSQL understands it."""
    if begins_with("COPY", sql):
        return "SET redshift.copy TO ''"  # it has no rows either, and is never executed
    if begins_with(r"CREATE\s+(TEMP\s+|TEMPORARY\s+)?TABLE", sql):
        return _table_for_postgres(sql)
    return _QUERY_GROUP.sub(r"\1redshift.query_group", sql, count=1)


@cache
def _table_for_postgres(sql: str) -> str:
    """Without attributes, and with texts that are limited in bytes."""
    try:
        create = sqlglot.parse_one(sql, read="redshift")
    except sqlglot.ParseError:
        return sql  # PostgreSQL says what is wrong with it
    if properties := create.args.get("properties"):
        kept = [each for each in properties.expressions if isinstance(each, exp.TemporaryProperty)]
        create.set("properties", exp.Properties(expressions=kept))
    for constraint in list(create.find_all(exp.ColumnConstraint)):
        if isinstance(constraint.kind, exp.EncodeColumnConstraint):
            constraint.pop()
    for column in create.find_all(exp.ColumnDef):
        if column.kind and column.kind.is_type("varchar", "text"):
            _limit_in_bytes(column, column.kind)
    return create.sql(dialect="postgres")


def _limit_in_bytes(column: exp.ColumnDef, kind: exp.DataType) -> None:
    """Adds a check; its name begins with the limit, for the error."""
    limit = kind.expressions[0].name.upper() if kind.expressions else "256"
    limit = "65535" if limit == "MAX" else limit
    column.set("kind", exp.DataType.build(f"VARCHAR({limit})"))
    name = exp.to_identifier(f"{limit} bytes of {column.name}", quoted=True)
    check = sqlglot.condition(f"OCTET_LENGTH({column.this.sql()}) <= {limit}")
    constraint = exp.ColumnConstraint(this=name, kind=exp.CheckColumnConstraint(this=check))
    column.append("constraints", constraint)


def encoded_error(
    sqlstate: str, message: str, detail: str = "", where: str = "", severity: str = "ERROR"
) -> bytes:
    fields = {"S": severity, "C": sqlstate, "M": message, "D": detail, "W": where}
    return "".join(f"{key}{value}\0" for key, value in fields.items() if value).encode() + b"\0"


def decoded_error(error: bytes) -> dict[str, str]:
    return {part[:1]: part[1:] for part in error.decode().split("\0") if part}


def begins_with(keywords: str, sql: str) -> bool:
    return bool(re.match(keywords + r"\b", without_comments(sql), re.IGNORECASE))


def without_comments(sql: str) -> str:
    """A statement without what comes before it and after it."""
    return _COMMENTS.sub("", sql, count=1).rstrip("; \n")
