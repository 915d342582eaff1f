"""moto's S3 over HTTP, behind a layer that records requests and makes them fail as S3's do.

It proves what a client does with a server's answers, not what Amazon's servers answer.
"""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import S3Backend, get_canned_acl, s3_backends
from werkzeug.serving import make_server

BUCKET = "sparkify-data"


@dataclass(frozen=True)
class Fault:
    """An answer instead of the right one: an error, or what becomes of the right one on its way."""

    status: int = 0
    code: str = ""
    is_short: bool = False  # half of the body, then the connection is closed
    is_reset: bool = False  # the connection is reset: after half of the body, or before anything


INTERNAL_ERROR = Fault(500, "InternalError")
SLOW_DOWN = Fault(503, "SlowDown")
DENIED = Fault(403, "AccessDenied")
MISSING = Fault(404, "NoSuchKey")
SHORT = Fault(is_short=True)
RESET = Fault(is_reset=True)
RESET_MIDWAY = Fault(is_short=True, is_reset=True)
LISTING = None  # what stands for a key where a listing shall fail


@dataclass(frozen=True)
class Request:
    method: str
    key: str  # empty for what concerns the bucket, such as a listing
    headers: dict[str, str]


class S3Server:
    """One bucket, its objects written straight into moto's memory."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet
        )
        self._lock = Lock()
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.reset()

    def reset(self) -> None:
        """Empties the bucket and forgets requests and faults."""
        self._backend.reset()
        self._backend.create_bucket(BUCKET, "us-east-1")
        self.requests: list[Request] = []
        self.most_at_once = self._at_once = 0
        self.latency = 0.0
        self.before: Callable[[Request], None] = lambda request: None
        self._faults: list[tuple[str, str | None, Iterator[Fault]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def reads(self) -> list[Request]:
        """Requests for objects, as opposed to listings."""
        return [r for r in self.requests if r.method == "GET" and r.key]

    def put(self, key: str, content: str | bytes, public: bool = False) -> None:
        body = content.encode() if isinstance(content, str) else content
        written = self._backend.put_object(BUCKET, key, body)
        if public:
            written.set_acl(get_canned_acl("public-read"))

    def delete(self, key: str) -> None:
        self._backend.delete_object(BUCKET, key)

    def names(self, prefix: str) -> list[str]:
        """Keys of the objects that there are below a prefix."""
        return [key for key in self._backend.buckets[BUCKET].keys if key.startswith(prefix)]

    def content(self, key: str) -> bytes:
        found = self._backend.get_object(BUCKET, key)
        assert found
        return bytes(found.value)

    def fail(self, faults: Iterable[Fault], key: str | None = "", method: str = "GET") -> None:
        """Answers the next such requests with these faults.

        Args:
            faults: as many as there are requests to fail.
            key: what the keys of the objects hold; or LISTING.
            method: the method of the requests.
        """
        self._faults.append((method, key, iter(faults)))

    @property
    def _backend(self) -> S3Backend:
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        key = unquote(environ["REQUEST_URI"]).split("?")[0].removeprefix(f"/{BUCKET}").lstrip("/")
        headers = {k.removeprefix("HTTP_"): v for k, v in environ.items() if k.startswith("HTTP_")}
        request = Request(environ["REQUEST_METHOD"], key, headers)
        with self._counted(request):
            time.sleep(self.latency)
            self.before(request)
            fault = self._next_fault(request)
            if fault.status:
                body = f"<Error><Code>{fault.code}</Code><Message>made</Message></Error>".encode()
                length = [("Content-Length", str(len(body))), ("Content-Type", "text/xml")]
                start_response(f"{fault.status} {fault.code}", length)
                return [body]
            body = (
                b""
                if fault.is_reset and not fault.is_short
                else self._answer(environ, start_response)
            )
        if fault.is_reset or fault.is_short:
            connection: socket.socket = environ["werkzeug.socket"]
            if fault.is_reset:  # closing it sends RST
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RD)  # closed after this answer, as if by the peer
            if not fault.is_short:
                raise ConnectionResetError
            body = body[: len(body) // 2]
        return [body]

    def _answer(self, environ: dict[str, Any], start_response: Any) -> bytes:
        return b"".join(self._app(environ, start_response))

    @contextmanager
    def _counted(self, request: Request) -> Iterator[None]:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def _next_fault(self, request: Request) -> Fault:
        with self._lock:
            for method, part, faults in self._faults:
                meets = not request.key if part is LISTING else request.key and part in request.key
                if meets and request.method == method and (fault := next(faults, None)):
                    return fault
        return Fault()


class _Quiet(MotoRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Says nothing of requests: most of the failed ones were meant to fail."""


def environment(url: str) -> dict[str, str]:
    """Variables that lead every AWS library to this server, and to nothing of the user's."""
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "test-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
