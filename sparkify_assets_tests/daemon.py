"""What Dagster's daemon does, in this process and when a test says: ticks, runs, alerts.

The webhook is a real HTTP server; the runs are real ones, in an instance of their own.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import dagster as dg

from sparkify_assets_tests.platform import Platform

SECRET = "T0P-SECRET"  # part of the webhook's address
ALERTS = ("failed_runs", "new_warnings")


@dataclass
class Webhook:
    """A channel that takes alerts: what it was sent, and what it answers."""

    url: str
    texts: list[str] = field(default_factory=list)
    status: int = 200
    answers: Event = field(default_factory=Event)  # it is silent until this is set


@contextmanager
def webhook() -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body.keys() == {"text"}
            channel.answers.wait()
            channel.texts.append(body["text"])
            self.send_response(channel.status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    channel = Webhook(f"http://127.0.0.1:{server.server_port}/services/{SECRET}")
    channel.answers.set()
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield channel
    finally:
        channel.answers.set()
        server.shutdown()
        server.server_close()


@dataclass
class Daemon:
    """The sensors of a platform, with their cursors; definitions are loaded once, as by servers."""

    platform: Platform
    instance: dg.DagsterInstance
    cursors: dict[str, str | None] = field(default_factory=dict)

    def tick(self, sensor: str = "new_files") -> Any:
        """Evaluates a sensor once: whether it asks for a run, or else why not."""
        defs = self.platform.defs()
        context = dg.build_sensor_context(
            self.instance, self.cursors.get(sensor), sensor_name=sensor, definitions=defs
        )
        done = defs.resolve_sensor_def(sensor).evaluate_tick(context)
        self.cursors[sensor] = done.cursor
        return done.run_requests or done.skip_message

    def look(self) -> str:
        """What the sensor of new files says; "" where it asks for one run of everything."""
        said = self.tick()
        if isinstance(said, str):
            return said
        (request,) = said
        assert (request.job_name, request.asset_selection) == (None, None)  # of its only job
        return ""

    def scheduled(self) -> str:
        """What the daily schedule says; "" where it asks for one run."""
        (schedule,) = self.platform.defs().get_repository_def().schedule_defs
        context: Any = dg.build_schedule_context()
        context._instance_ref = context._instance = self.instance  # else only one with a disk
        done = schedule.evaluate_tick(context)
        return "" if len(done.run_requests or []) == 1 else str(done.skip_message)

    def tell(self) -> None:
        """Lets the sensors of ended runs send their alerts; what they say first is not told."""
        for sensor in ALERTS:
            self.tick(sensor)

    def run(self, *assets: str, job: str = "refresh") -> dg.ExecuteInProcessResult:
        """Runs a job, or materializes the named assets, as the UI does."""
        defs = self.platform.defs()
        selection = [dg.AssetKey(name) for name in assets] or None
        found = (
            defs.resolve_implicit_global_asset_job_def() if assets else defs.resolve_job_def(job)
        )
        return found.execute_in_process(
            instance=self.instance, asset_selection=selection, raise_on_error=False
        )
