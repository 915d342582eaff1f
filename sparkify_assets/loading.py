"""Loads new and changed objects of a source into its staging table.

`load_history` says which objects the staging table holds, and in which version, so that each is
loaded exactly once. A load lists the source, reads what is new or changed into a landing, then
writes rows, rejected records and history in one transaction. `reading.py` turns records into rows.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, count, groupby
from typing import Any, NamedTuple

from sparkify_assets.catalog import Catalog
from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError
from sparkify_assets.findings import MEMBER, SAMPLES, Keys, Load, ReadObject
from sparkify_assets.forgetting import FORGOTTEN_USERS, add_user, delete_records
from sparkify_assets.formats import launch_command
from sparkify_assets.maintenance import Upkeep
from sparkify_assets.reading import Reader
from sparkify_assets.sources.base import SAMPLE, InputObject, Source, address_of
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Row, Session, Warehouse, id_lists
from sparkify_assets.warehouse.landing import Landing, insert_rows, landing_for

BATCH_BYTES = 512 * 1024 * 1024  # on disk at once, unless one object is larger
DISK_BLOCK = 4096  # a file takes at least this much
PROGRESS_SECONDS = 5.0
FEW_RECORDS = 10  # rejected records that are always allowed
HISTORY = "load_history"


class _Plan(NamedTuple):
    """What a load must do: history rows to keep and to remove, and objects to read."""

    kept: dict[str, Row]
    removed: list[Row]
    to_read: list[InputObject]
    unchanged: int
    vanished: int
    is_rebuild: bool


@contextmanager
def prepared_load(
    warehouse: Warehouse, catalog: Catalog, table: Table, source: Source, **options: Any
) -> Iterator["StagingLoad"]:
    """A load whose objects have been read, without a lock on the warehouse.

    `options` are the other fields of `StagingLoad`.
    """
    with landing_for([table, *catalog.ledgers]) as landing:
        load = StagingLoad(catalog, table, source, landing, **options)
        label = f"{table.name} {load.run_id}"
        plan = warehouse.in_transaction(load.plan, label, read_only=True)
        if plan.is_rebuild and plan.removed:
            load.log(f"{table.name}: rebuilding it from all of {address_of(source.uri)}")
        load.read(plan.to_read)
        yield load


@dataclass
class StagingLoad:
    """Updates a staging table from its source.

    New objects are loaded, changed ones replace exactly their own rows, vanished ones keep theirs.
    The writing transaction plans again, and reads again if the plan has changed.

    Raises:
        SparkifyError: the source cannot be read, differs from the one loaded before, or has too
            many unreadable records.
    """

    catalog: Catalog
    table: Table
    source: Source
    landing: Landing  # for the table and both ledgers
    max_rejected_share: float  # of this load's records, 0 to 1
    run_id: str
    log: Callable[[str], None]  # for progress
    prefix: str = ""  # look only at this folder of the source
    full_reload: bool = False  # forget everything loaded, and load what is listed now
    forget_user: int | None = None  # delete this user's records, and never load them again

    def __post_init__(self) -> None:
        """Lists the source."""
        self.prefix = self.prefix.strip("/")
        if self.prefix and self.full_reload:
            raise SparkifyError(
                f"{self.table.name}: full_reload forgets everything loaded, and prefix loads "
                "only a part. Choose one."
            )
        if self.forget_user is not None and not self.table.person:
            raise SparkifyError(f"{self.table.name}: its file has no line -- a person: ...")
        self._started = time.monotonic()
        self._listed = {item.uri: item for item in self.source.objects(self.prefix)}

    def read(self, to_read: Sequence[InputObject]) -> None:
        """Fetches objects and reads them into the landing, which is emptied first."""
        for table in self.landing.tables:
            self.landing.connection.execute(f"DELETE FROM {quote(table.name)}")
        self._keys = Keys()
        self._landed: list[ReadObject] = []
        size, done, logged = sum(item.size for item in to_read), 0, time.monotonic()
        reader = Reader(self.landing.connection, self.table, count(1), self._keys)
        totals = accumulate(max(item.size, DISK_BLOCK) for item in to_read)
        batches = groupby(zip(totals, to_read, strict=True), lambda pair: pair[0] // BATCH_BYTES)
        for _, batch in batches:
            with self.source.fetched([item for _, item in batch]) as files:
                for objects in reader.read(files):
                    self._land(objects)
                    done += sum(one.size for one in objects)
                    if time.monotonic() - logged >= PROGRESS_SECONDS:
                        logged = time.monotonic()
                        read, whole = done / 1e6, size / 1e6
                        self.log(f"{self.table.name}: read {read:,.1f} of {whole:,.1f} MB")

    def write(self, session: Session, upkeep: Upkeep) -> Load:
        """Writes rows, rejected records and history in the session's transaction."""
        for ledger in [*self.catalog.ledgers, self.catalog.tables[FORGOTTEN_USERS]]:
            if difference := session.shape(ledger):
                raise SparkifyError(
                    f"{ledger.name} was created by another version of Sparkify: {difference}. "
                    "Choose a new warehouse, or drop its tables and load everything again."
                )
            if difference is None:
                session.create(ledger)
        plan = self.plan(session)
        last_id = session.rows(f"SELECT COALESCE(MAX(object_id), 0) AS n FROM {HISTORY}")[0]["n"]
        if {item.uri for item in plan.to_read} != {one.file.uri for one in self._landed}:
            self.read(plan.to_read)  # another run was faster
        if not plan.is_rebuild and not self.source.is_sample:
            plan = self._keeping_what_left(plan)
        load = self._account(plan)
        if not self._landed and not plan.is_rebuild and self.forget_user is None:
            return load
        removed = [row["object_id"] for row in plan.removed]
        if plan.is_rebuild:
            session.empty(self.table)
        else:
            for ids in id_lists(removed):
                upkeep.keep(f"object_id IN ({ids})", is_loss=True)
        for table in self.catalog.ledgers if plan.is_rebuild else self.landing.tables:
            session.delete_objects(table, removed)
        session.insert(self.landing, int(last_id))
        if self.forget_user is not None:
            add_user(session, self.forget_user, self.run_id)
        if self.table.person and session.count(FORGOTTEN_USERS):

            def keep(condition: str) -> None:
                if not plan.is_rebuild:
                    upkeep.keep(f"{condition} AND object_id <= {last_id}", is_loss=True)

            load.forgotten = delete_records(session, self.table, keep)
        if not plan.is_rebuild:
            upkeep.keep(f"object_id > {last_id}")
        upkeep.changed_in_place(is_known=not plan.is_rebuild)
        return load

    def plan(self, session: Session) -> _Plan:
        """Plans the load; raises if it would lose rows or load some twice."""
        history = self._history(session)
        within = self.source.within(self.prefix)
        listed = {uri: self._listed.get(self._file_of(uri)) for uri in history}
        current = {
            u for u, item in listed.items() if item and item.version == history[u]["version"]
        }
        unchanged = {listed[uri] for uri in current}
        # in an archive that was loaded in its present version, older members have vanished
        vanished = sorted(
            uri
            for uri, item in listed.items()
            if (item in unchanged and uri not in current)
            or (item is None and (self.source.is_sample or uri.startswith(within)))
        )
        if self.full_reload or self._must_rebuild(session, history, vanished):
            return _Plan({}, [*history.values()], [*self._listed.values()], 0, 0, is_rebuild=True)
        replaced = {uri for uri, item in listed.items() if item and item not in unchanged}
        kept = {uri: row for uri, row in history.items() if uri not in replaced}
        return _Plan(
            kept,
            removed=[history[uri] for uri in replaced],
            to_read=[item for item in self._listed.values() if item not in unchanged],
            unchanged=len(current),
            vanished=len(vanished),
            is_rebuild=False,
        )

    def _keeping_what_left(self, plan: _Plan) -> _Plan:
        """The plan, with the rows kept of members that are gone from a changed archive."""
        read = {one.uri for one in self._landed}
        left = {row["uri"]: row for row in plan.removed if row["uri"] not in read}
        return plan._replace(
            kept=plan.kept | left,
            removed=[row for row in plan.removed if row["uri"] in read],
            vanished=plan.vanished + len(left),
        )

    def _history(self, session: Session) -> dict[str, Row]:
        if session.shape(self.catalog.tables[HISTORY]) is None:
            return {}
        columns = "object_id, uri, version, source_root"
        rows = session.rows(
            f"SELECT {columns} FROM {HISTORY} WHERE table_name = ?", [self.table.name]
        )
        return {row["uri"]: row for row in rows}

    def _must_rebuild(self, session: Session, history: dict[str, Row], vanished: list[str]) -> bool:
        """Whether everything must be read again; raises if that would lose rows."""
        name, source = self.table.name, self.source
        for root in sorted({row["source_root"] for row in history.values()} - {source.root}):
            if not root.startswith(SAMPLE):
                now = f"{source.variable} now means {address_of(source.root)}"
                if source.is_sample:
                    now = "without SPARKIFY_SONG_DATA and SPARKIFY_LOG_DATA the sample is loaded"
                raise SparkifyError(
                    f"{name} was loaded from {address_of(root)}, but {now}. Loading both would "
                    "load shared files twice. Go back to the old source, choose another warehouse "
                    "for the new one, or replace everything here: dg launch --job reload"
                )
            return True
        if not history or (vanished and source.is_sample):  # the sample of another version
            return True
        difference = session.shape(self.table)
        if difference == "":
            return False
        problem = f"{name} differs from its file: {difference or 'it does not exist'}. "
        if self.prefix:
            raise SparkifyError(f"{problem}All of it must be loaded again: run without a prefix.")
        if vanished:
            raise SparkifyError(
                f"{problem}It must be loaded again, but {len(vanished):,} loaded objects are gone "
                f"({vanished[0]} ...), and their rows would be lost. Put the files back, or "
                f"accept the loss: {launch_command(name, full_reload=True)}"
            )
        return True

    def _file_of(self, uri: str) -> str:
        """The listed file that is or contains an object; its own URI if there is none."""
        ends = (match.start() for match in re.finditer(re.escape(MEMBER), uri))
        files = (uri[:end] for end in ends)
        return uri if uri in self._listed else next((f for f in files if f in self._listed), uri)

    def _land(self, objects: list[ReadObject]) -> None:
        """Puts the rejected records and the history of objects into the landing."""
        now = datetime.now(UTC).replace(tzinfo=None)
        rejected: list[tuple[object, ...]] = []
        history: list[tuple[object, ...]] = []
        for one in objects:
            if one.name and one.uri in self._listed:
                raise SparkifyError(
                    f"{address_of(one.uri)} is in an archive and beside it: rename one"
                )
            rejected += [
                (one.object_id, one.uri, r.line, r.column, r.reason, r.raw) for r in one.rejections
            ]
            place = (self.table.name, self.source.root, one.uri, self._listed[one.file.uri].version)
            counts = (one.size, one.records, one.loaded, one.rejected)
            history.append((one.object_id, *place, *counts, now, self.run_id))
            del one.rejections[SAMPLES:]
        self._landed += objects
        insert_rows(self.landing.connection, self.catalog.tables["rejected_records"], rejected)
        insert_rows(self.landing.connection, self.catalog.tables[HISTORY], history)

    def _account(self, plan: _Plan) -> Load:
        """Adds up what was read; raises if too many records were rejected."""
        replaced = {row["uri"] for row in plan.removed} if not plan.is_rebuild else set()
        load = Load(
            unchanged=plan.unchanged,
            vanished=plan.vanished,
            unknown_keys=self._keys.unknown(self.table),
            missing_keys=self._keys.missing(self.table),
        )
        loaded_before = {self._file_of(uri) for uri in (*plan.kept, *replaced)}
        for one in self._landed:
            if one.damage and one.file.uri in loaded_before:
                raise SparkifyError(
                    f"{self.table.name} was not loaded: {address_of(one.uri)} was loaded before, "
                    f"and its new version is damaged: {one.damage}."
                )
            load.add(address_of(one.uri), one, is_changed=one.uri in replaced)
        few = FEW_RECORDS if load.loaded or plan.kept else 0
        share = self.max_rejected_share
        if problem := load.too_much_rejected(share, few):
            raise SparkifyError(
                f"{self.table.name} was not loaded: {problem} of {self.source.name} cannot be "
                f"read, more than {few if share else 0} and more than the share of {share:g} that "
                f"SPARKIFY_MAX_REJECTED_SHARE allows. The table {self.table.name} stays as it "
                "was. Fix or remove them, or allow a larger share.",
                f" For example: {'; '.join(load.rejected_samples)}.",
            )
        versions = {uri: row["version"] for uri, row in plan.kept.items()}
        versions |= {one.uri: self._listed[one.file.uri].version for one in self._landed}
        load.version = hashlib.sha256(repr(sorted(versions.items())).encode()).hexdigest()[:16]
        load.seconds = time.monotonic() - self._started
        return load
