"""A stand-in for Amazon Redshift, made of real parts: a real socket in front of a real PostgreSQL.

A proxy speaks to the real driver, one thread for each connection. It reads a request to its end,
lets PostgreSQL execute it, and passes the answer on. On the way it

- translates what only Redshift understands: table attributes, VARCHAR(MAX), query_group;
- counts VARCHAR(n) in bytes;
- carries out COPY inside the client's transaction, with the objects of an `S3Server`;
- tells of conflicts in Redshift's words;
- records every statement that is executed, and makes chosen ones fail.

PostgreSQL is Redshift's ancestor: snapshots, locks, aborted transactions, integer division and the
order of nulls are its own here, and imitated by nobody. What the stand-in does not prove: the exact
texts and codes of a failed COPY, which options exclude each other, which dates TIMEFORMAT takes, on
what a cluster finds a conflict (1023), permissions, system tables, speed, that TRUNCATE commits,
that trailing blanks do not count in comparisons, that AVG of integers is an integer, that keys are
believed and not enforced: here they are enforced, and the platform declares none.
"""

import itertools
import json
import socket
import socketserver
import ssl
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from select import select
from threading import Lock, Thread
from typing import Any

import redshift_connector

from sparkify_assets_tests.redshift_copy import Bucket, Copy
from sparkify_assets_tests.redshift_dialect import (
    begins_with,
    decoded_error,
    encoded_error,
    for_postgres,
)
from sparkify_assets_tests.redshift_postgres import (
    DATABASE,
    OBSERVER,
    PASSWORD,
    USER,
    Message,
    Postgres,
    Refused,
    Wire,
)
from sparkify_assets_tests.s3_server import S3Server


@dataclass(frozen=True)
class Statement:
    connection: int  # from 1, in the order of the logins since the last reset
    sql: str  # as sent
    application_name: str


@dataclass(frozen=True)
class Fault:
    """What a statement meets before its execution, after it, or in place of it."""

    sqlstate: str = ""  # an error in place of the execution
    message: str = ""
    detail: str = ""
    delay: float = 0  # seconds before the execution
    is_dropped_before: bool = False  # the connection ends, and nothing is executed
    is_dropped_after: bool = False  # it is executed, and the client never hears of it


DROP_BEFORE = Fault(is_dropped_before=True)


DROP_AFTER = Fault(is_dropped_after=True)


CONFLICT = Fault(
    "XX000",
    "1023",
    "Serializable isolation violation on table - 100, transactions forming the cycle are: 7, 8",
)


@dataclass
class _Pending:
    fault: Fault
    matching: str
    after: int


class RedshiftServer:
    """One database; it takes one user with a password, and whoever comes from IAM."""

    database, user, password = DATABASE, USER, PASSWORD
    host = "127.0.0.1"

    def __init__(self, s3: S3Server, tls: tuple[Path, Path] | None = None) -> None:
        """Starts it; with a certificate and its key it speaks TLS to those who ask for it."""
        self.postgres = Postgres()
        self.bucket = Bucket(s3)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if tls else None
        if self._tls and tls:
            self._tls.load_cert_chain(*tls)
        self._lock = Lock()
        self._forget()
        self._connections: set[socket.socket] = set()
        self._listener = _Listener((self.host, 0), self._handle)  # type: ignore[arg-type]
        self.port: int = self._listener.server_address[1]
        Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self) -> None:
        """Ends all connections, empties the database, forgets statements and faults."""
        self._disconnect()
        RedshiftServer._observer.cache_clear()
        self.postgres.reset()
        self._forget()

    def rows(self, sql: str, schema: str = "public") -> list[tuple[Any, ...]]:
        """What another session sees or does; neither recorded nor made to fail."""
        cursor = self._observer().cursor()
        cursor.execute(f"SET search_path TO {schema}")
        cursor.execute(sql)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    @cache  # until the next reset  # noqa: B019  # as many as there are servers
    def _observer(self) -> Any:
        connection = redshift_connector.connect(
            host=self.host,
            port=self.port,
            database=DATABASE,
            user=USER,
            password=PASSWORD,
            application_name=OBSERVER,
            max_prepared_statements=0,  # tables change their shapes
            ssl=False,
        )
        connection.autocommit = True
        return connection

    def fail(self, fault: Fault, matching: str = "", after: int = 0) -> None:
        """Makes one statement that holds a text meet a fault, `after` others that hold it."""
        with self._lock:
            self._pending.append(_Pending(fault, matching.lower(), after))

    @property
    def pending(self) -> int:
        """Faults that no statement has met yet."""
        return len(self._pending)

    def forget_faults(self) -> None:
        """Takes back the faults that no statement has met yet."""
        with self._lock:
            self._pending.clear()

    def stop(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._disconnect()
        self.postgres.stop()

    def _forget(self) -> None:
        with self._lock:
            self.statements: list[Statement] = []
            self._pending: list[_Pending] = []
            self.numbers = itertools.count(1)

    def _disconnect(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _handle(self, connection: socket.socket, *_: object) -> None:
        with suppress(OSError), self._encrypted(connection) as client:
            self._connections.add(client)
            try:
                _Session(client, self).run()
            finally:  # also if one of the two sides is gone: this tells the other
                self._connections.discard(client)
                client.shutdown(socket.SHUT_RDWR)

    def _encrypted(self, connection: socket.socket) -> socket.socket:
        """Answers the question for TLS, which may come before everything else."""
        question = struct.pack("!ii", 8, 80877103)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # TLS would wait 40 ms
        if connection.recv(8, socket.MSG_PEEK | socket.MSG_WAITALL) != question:
            return connection
        connection.recv(8)
        connection.sendall(b"S" if self._tls else b"N")
        return self._tls.wrap_socket(connection, server_side=True) if self._tls else connection

    def meet(self, statement: Statement) -> Fault:
        """Called by a session before it executes a statement: what the statement meets."""
        with self._lock:
            self.statements.append(statement)
            due = None
            for pending in [p for p in self._pending if p.matching in statement.sql.lower()]:
                if pending.after:
                    pending.after -= 1
                elif not due:
                    due = pending
                    self._pending.remove(pending)
            return due.fault if due else Fault()


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 100


class _Session:
    """One client's connection, and its session in PostgreSQL."""

    def __init__(self, connection: socket.socket, server: RedshiftServer) -> None:
        self._connection = connection
        self._client = Wire(connection)
        self._server = server
        self._prepared: dict[bytes, str] = {}  # statements as sent, under the driver's names

    def run(self) -> None:
        login = self._client.read_login()
        if not self._is_allowed(login["user"]):
            text = f'password authentication failed for user "{login["user"]}"'
            self._tell([(b"E", encoded_error("28000", text, severity="FATAL"))])
            return
        self._application = login.get("application_name", "")
        with self._server.postgres.connect(login["database"], self._application) as self._backend:
            self._tell(self._backend.answer())
            is_observer = self._application == OBSERVER
            self._number = 0 if is_observer else next(self._server.numbers)
            while request := self._request():
                self._serve(request)

    def _is_allowed(self, user: str) -> bool:
        self._tell([(b"R", struct.pack("!i", 3))])  # asks for the password as it is
        _, password = self._client.read()
        return (user, password) == (USER, PASSWORD.encode() + b"\0") or user.startswith("IAM:")

    def _request(self) -> list[Message]:
        """Messages up to the next Sync; none when the client takes its leave."""
        request: list[Message] = []
        while not request or request[-1][0] != b"S":
            kind, body = self._client.read()
            if kind == b"X":
                return []
            request.append((kind, self._translated(body) if kind == b"P" else body))
        return request

    def _translated(self, parse: bytes) -> bytes:
        """The statement to prepare, as PostgreSQL understands it."""
        name, sql, types = parse.split(b"\0", 2)
        self._prepared[name] = sql.decode()
        return b"\0".join((name, for_postgres(sql.decode()).encode(), types))

    def _serve(self, request: list[Message]) -> None:
        """Executes, or prepares or closes: the driver prepares a statement once for many times."""
        bound = [body.split(b"\0")[1] for kind, body in request if kind == b"B"]
        if bound:
            self._execute(self._prepared[bound[0]], request)
        else:
            self._tell(self._backend.ask(request))

    def _execute(self, sql: str, request: list[Message]) -> None:
        statement = Statement(self._number, sql, self._application)
        fault = self._server.meet(statement) if self._number else Fault()
        is_client_gone = fault.delay and select([self._connection], [], [], fault.delay)[0]
        if fault.is_dropped_before or is_client_gone:
            raise ConnectionAbortedError
        if fault.sqlstate:
            self._backend.abort()
            answer = self._refusal(encoded_error(fault.sqlstate, fault.message, fault.detail))
        elif begins_with("COPY", sql):
            answer = self._copy(sql)
        else:
            answer = self._backend.ask(request)
        if fault.is_dropped_after:
            list(answer)
            raise ConnectionAbortedError
        self._tell(answer)

    def _copy(self, sql: str) -> Iterator[Message]:
        try:
            self._load(sql)
        except Refused as refused:
            yield from self._refusal(refused.error)
        else:
            yield from [(b"2", b""), (b"C", b"COPY\0"), (b"Z", self._backend.status)]

    def _load(self, sql: str) -> None:
        """Loads what a COPY says, inside the client's transaction if there is one."""
        try:
            copy = Copy.parsed(sql)
        except Refused:
            self._backend.abort()
            raise
        is_text = json.loads(self._backend.value(_COLUMNS.format(copy.table)))
        columns = {name: is_text.get(name, True) for name in copy.columns}
        target = f"COPY {copy.table} ({', '.join(columns)}) FROM STDIN"
        try:
            count = self._backend.load(target, self._server.bucket.lines(copy, columns))
        except Refused as refused:
            fields = decoded_error(refused.error)
            if fields["C"][:2] in ("22", "23"):  # a value that does not fit
                raise copy.failed(fields["M"]) from refused
            raise
        self._backend.value(_LAST_COPY.format(next(_copy_ids), count))

    def _refusal(self, error: bytes) -> Iterator[Message]:
        yield from [(b"E", error), (b"Z", self._backend.status)]

    def _tell(self, answer: Iterable[Message]) -> None:
        try:
            for kind, body in answer:
                self._client.write(kind, _as_redshift(kind, body))
        finally:  # also if PostgreSQL ended the session: it has said why
            self._client.flush()


_copy_ids = itertools.count(1)


_LAST_COPY = """
SELECT set_config('redshift.copy_id', '{}', false), set_config('redshift.copy_count', '{}', false)
"""  # in the transaction: a rollback restores what they were before


_COLUMNS = """
SELECT json_object_agg(attname, typcategory = 'S')
FROM pg_attribute INNER JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = '{}'::regclass AND attnum > 0
"""


def _as_redshift(kind: bytes, body: bytes) -> bytes:
    """What PostgreSQL says, as Redshift says it."""
    if kind == b"S" and body.startswith(b"server_version\0"):
        return b"server_version\x008.0.2\0"
    if kind == b"E":
        fields = decoded_error(body)
        if fields["C"] == "40001":
            return encoded_error(CONFLICT.sqlstate, CONFLICT.message, CONFLICT.detail)
        if fields["C"] == "23514":
            limit = fields["n"].split()[0]
            return encoded_error("22001", f"value too long for type character varying({limit})")
    return body
