"""Loads a source into its staging table: decides what is new and keeps the history of it.

`load_history` says which objects, in which version, the staging table holds. A load lists the
source, reads what is new or changed, and then writes rows, rejected records and history in one
transaction: whatever happens, the warehouse is at the state before it or after it.
How a record becomes a row is the business of `reading.py`.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sparkify_assets.catalog import Catalog, Table
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.progress import Progress
from sparkify_assets.reading import Reading, Rejection, read_objects
from sparkify_assets.sources.base import SAMPLE, InputObject, Source, address_of
from sparkify_assets.warehouse.base import Session, Warehouse
from sparkify_assets.warehouse.landing import Landing, landing_for
from sparkify_assets.wording import launch_command

BATCH_BYTES = 512 * 1024 * 1024
BATCH_OBJECTS = 50_000
SAMPLES = 3
FEW_RECORDS = 10  # so many may be rejected whatever their share: a bad line is no wrong source
TYPICAL_RECORD_BYTES = 500  # where a load has no sound record to compare with
HISTORY = "load_history"


@dataclass
class Load:
    """What one load found and did. `version` stands for all that the staging table now holds."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    vanished: int = 0
    bytes: int = 0
    records: int = 0
    loaded: int = 0
    rejected: int = 0
    with_repeated_keys: int = 0
    seconds: float = 0.0
    version: str = ""
    rejected_samples: list[str] = field(default_factory=list)
    unread_files: list[str] = field(default_factory=list)

    @property
    def objects(self) -> int:
        """Objects that were read."""
        return self.new + self.changed


@dataclass(frozen=True)
class _Loaded:
    """A line of load_history."""

    object_id: int
    uri: str
    version: str
    source_root: str


@dataclass(frozen=True)
class _Plan:
    """What a load has to do: forget some objects, keep others, and read the rest of the listed."""

    kept: dict[str, _Loaded]
    forgotten: list[_Loaded]
    to_read: list[InputObject]
    vanished: int
    is_rebuild: bool


@contextmanager
def prepared_load(
    warehouse: Warehouse, catalog: Catalog, table: Table, source: Source, **options: Any
) -> Iterator["StagingLoad"]:
    """A load whose objects are fetched and read, while the warehouse is open to others.

    Args:
        warehouse: where it will be written; here it is only asked what is new.
        catalog: where `load_history` and `rejected_records` are declared.
        table: the staging table.
        source: what it is loaded from.
        options: the others of `StagingLoad`.
    """
    with landing_for([table, *catalog.ledgers]) as landing:
        load = StagingLoad(catalog, table, source, landing, **options)
        label = f"{table.name} {load.run_id}"
        load.read(warehouse.in_transaction(load.plan, label, read_only=True))
        yield load


class StagingLoad:
    """Brings a staging table up to what its source holds now.

    New objects are loaded, changed ones replace exactly their own rows, vanished ones keep theirs.
    What is new is decided in the transaction that writes it; what was read by then is only inserted
    there.

    Args:
        catalog: where `load_history` and `rejected_records` are declared.
        table: the staging table.
        source: what it is loaded from.
        landing: where rows of the table and of both ledgers land.
        max_rejected_share: share of this load's records, 0 to 1, that may be rejected.
        run_id: who loads.
        log: takes a line of progress now and then.
        prefix: a folder of the source; load and judge only what is in it.
        full_reload: forget all that was loaded, and load what is listed now.

    Raises:
        SparkifyError: the source cannot be read, is another one than before, or holds too many
            records that cannot be read.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: Table,
        source: Source,
        landing: Landing,
        *,
        max_rejected_share: float,
        run_id: str,
        log: Callable[[str], None],
        prefix: str = "",
        full_reload: bool = False,
    ) -> None:
        self._catalog, self._table, self._source, self._landing = catalog, table, source, landing
        self._max_rejected_share = max_rejected_share
        self.run_id, self._log = run_id, log
        self._prefix, self._full_reload = prefix.strip("/"), full_reload
        if self._prefix and full_reload:
            raise SparkifyError(
                f"{table.name}: full_reload forgets all that was loaded, and prefix loads only a "
                "part. Choose one."
            )
        self._started = time.monotonic()
        self._listed = {item.uri: item for item in source.objects(self._prefix)}
        self._ids = count(1)
        self._landed: dict[int, InputObject] = {}
        self._reading = Reading({})

    def read(self, plan: _Plan) -> None:
        """Fetches and reads what seems to be new."""
        if plan.is_rebuild and plan.forgotten:
            place = address_of(self._source.within(self._prefix))
            self._log(f"{self._table.name}: rebuilding it from all of {place}")
        self._read(plan.to_read)

    def _read(self, to_read: Sequence[InputObject]) -> None:
        """Fetches objects and reads them into the landing."""
        fetching = Progress(f"{self._table.name}: fetched", to_read, self._log)
        progress = Progress(f"{self._table.name}: loaded", to_read, self._log)
        for batch in _batches(dict(zip(self._ids, to_read, strict=False))):
            with self._source.at_hand(batch, fetching.add) as files:
                reading = read_objects(self._landing.connection, self._table, files)
            self._land(batch, reading)
            progress.add(len(batch), sum(item.size for item in batch.values()))

    def write(self, session: Session) -> Load:
        """Writes rows, rejected records and history, in the session's transaction."""
        for ledger in self._catalog.ledgers:
            _make_sure_of(session, ledger)
        plan, last_id = self.plan(session), _last_id(session)
        wanted = {item.uri for item in plan.to_read}
        if missing := wanted - {item.uri for item in self._landed.values()}:
            self._read([item for item in plan.to_read if item.uri in missing])
        unwanted = [i for i, item in self._landed.items() if item.uri not in wanted]
        self._landing.forget(unwanted)  # another run has loaded them meanwhile
        for object_id in unwanted:
            del self._landed[object_id]
        load = self._account(plan)
        if plan.is_rebuild:
            session.empty(self._table)
            _forget(session, self._catalog.ledgers, plan.forgotten)
        else:
            _forget(session, [self._table, *self._catalog.ledgers], plan.forgotten)
        session.insert(self._landing, last_id)
        return load

    def plan(self, session: Session) -> _Plan:
        """What is to be done; an error where that would lose rows, or load some twice."""
        table, source = self._table, self._source
        history = _history(session, self._catalog, table)
        within = source.within(self._prefix)
        vanished = sorted(
            uri for uri in history.keys() - self._listed.keys() if uri.startswith(within)
        )
        is_rebuild = self._full_reload or self._must_rebuild(session, history, vanished)
        if is_rebuild:
            return _Plan({}, list(history.values()), list(self._listed.values()), 0, True)
        replaced = [
            h
            for uri, h in history.items()
            if uri in self._listed and self._listed[uri].version != h.version
        ]
        kept = {uri: h for uri, h in history.items() if h not in replaced}
        to_read = [item for uri, item in self._listed.items() if uri not in kept]
        return _Plan(kept, replaced, to_read, len(vanished), False)

    def _must_rebuild(
        self, session: Session, history: dict[str, _Loaded], vanished: list[str]
    ) -> bool:
        """Whether everything must be read again; an error where that would lose rows."""
        table, source = self._table, self._source
        for root in sorted({h.source_root for h in history.values()} - {source.root}):
            if not root.startswith(SAMPLE):
                raise SparkifyError(
                    f"{table.name} was loaded from {root}; {source.variable or 'the sample data'} "
                    f"now means {source.root}. Loading both would double what is in both. Set it "
                    "back, or rebuild the table from the new place alone: "
                    f"{full_reload_command(table)}"
                )
            return True
        if not history or (vanished and source.is_sample and not self._prefix):
            return True
        difference = session.shape(table)
        if difference is None:
            difference = "it does not exist"
        if difference and self._prefix:
            raise SparkifyError(
                f"{table.name} has another shape than its file: {difference}. It must be loaded "
                "again as a whole: run this without a prefix."
            )
        if difference and vanished:
            raise SparkifyError(
                f"{table.name} has another shape than its file: {difference}. It must be loaded "
                f"again, but {len(vanished):,} loaded objects are no longer there ({vanished[0]} "
                "...): their rows would be lost. Put them back, or accept the loss: "
                f"{full_reload_command(table)}"
            )
        return bool(difference)

    def _land(self, batch: dict[int, InputObject], reading: Reading) -> None:
        """Lands the rejected records and the history of a batch."""
        now = datetime.now(UTC).replace(tzinfo=None)
        self._landed |= batch
        self._reading.counts |= reading.counts
        self._reading.rejections += reading.rejections
        rejected = [
            (r.object_id, batch[r.object_id].uri, r.line, r.column, r.reason, r.raw)
            for r in reading.rejections
        ]
        history = [
            (
                object_id,
                self._table.name,
                self._source.root,
                item.uri,
                item.version,
                item.size,
                reading.counts[object_id].records,
                reading.counts[object_id].loaded,
                reading.counts[object_id].rejected,
                now,
                self.run_id,
            )
            for object_id, item in batch.items()
        ]
        self._landing.append(self._catalog.tables["rejected_records"], rejected)
        self._landing.append(self._catalog.tables["load_history"], history)

    def _account(self, plan: _Plan) -> Load:
        """Adds up what was read; an error if too much of it cannot be read."""
        objects = self._landed
        changed = {h.uri for h in plan.forgotten} if not plan.is_rebuild else set()
        load = Load(
            new=sum(item.uri not in changed for item in objects.values()),
            changed=sum(item.uri in changed for item in objects.values()),
            unchanged=len(self._listed) - len(objects),
            vanished=plan.vanished,
            bytes=sum(item.size for item in objects.values()),
        )
        for object_id, item in objects.items():
            found = self._reading.counts[object_id]
            load.records += found.records
            load.loaded += found.loaded
            load.rejected += found.rejected
            load.with_repeated_keys += found.with_repeated_keys
            if found.rejected and not found.loaded:
                load.unread_files.append(item.address)
        rejections = [r for r in self._reading.rejections if r.object_id in objects]
        load.rejected_samples = [
            printable(f"{objects[r.object_id].address}, line {r.line}: {r.reason}")
            for r in rejections[:SAMPLES]
        ]
        self._guard(load, rejections, is_first=not plan.kept)
        versions = {uri: h.version for uri, h in plan.kept.items()}
        load.version = _version(versions | {item.uri: item.version for item in objects.values()})
        load.seconds = time.monotonic() - self._started
        return load

    def _guard(self, load: Load, rejections: list[Rejection], *, is_first: bool) -> None:
        """Raises an error if more was rejected than may be.

        That is if it is more than the share of the load's records and more than a few, or all that
        the table would be made from. A text that could not be parted into records weighs as many
        as it may hold, by its size.
        """
        sound_bytes = load.bytes - sum(r.size for r in rejections)
        mean = max(1.0, sound_bytes / load.loaded) if load.loaded else TYPICAL_RECORD_BYTES
        lost = sum(1 if r.is_record else max(1, round(r.size / mean)) for r in rejections)
        records = load.loaded + lost
        share = self._max_rejected_share
        few = FEW_RECORDS if share and (load.loaded or not is_first) else 0
        if lost > share * records and lost > few:
            about = "about " if lost > load.rejected else ""
            raise SparkifyError(
                f"{self._table.name} was not loaded: {about}{lost:,} of {records:,} records of "
                f"{self._source.name} cannot be read, more than {few} and more than the share of "
                f"{share:g} that SPARKIFY_MAX_REJECTED_SHARE allows. For example: "
                f"{'; '.join(load.rejected_samples)}. The table {self._table.name} stays as it "
                "was. Mend or remove them, or allow a larger share."
            )


def _make_sure_of(session: Session, ledger: Table) -> None:
    difference = session.shape(ledger)
    if difference is None:
        session.create(ledger)
    elif difference:
        raise SparkifyError(
            f"{ledger.name} was made by another version of Sparkify: {difference}. "
            "Choose a new warehouse, or drop its tables and load everything again."
        )


def full_reload_command(table: Table) -> str:
    """The command that forgets what was loaded into a table, and loads what is listed now."""
    return launch_command(table.name, full_reload=True)


def _history(session: Session, catalog: Catalog, table: Table) -> dict[str, _Loaded]:
    if session.shape(catalog.tables[HISTORY]) is None:
        return {}
    rows = session.rows(
        f"SELECT object_id, uri, version, source_root FROM {HISTORY} WHERE table_name = ?",
        [table.name],
    )
    return {row["uri"]: _Loaded(**row) for row in rows}


def _last_id(session: Session) -> int:
    return int(session.rows(f"SELECT COALESCE(MAX(object_id), 0) AS n FROM {HISTORY}")[0]["n"])


def _forget(session: Session, tables: Sequence[Table], loaded: Sequence[_Loaded]) -> None:
    """Deletes what was loaded from objects."""
    if loaded:
        for table in tables:
            session.forget(table, [h.object_id for h in loaded])


def _batches(objects: dict[int, InputObject]) -> Iterator[dict[int, InputObject]]:
    """Objects by id, in parts that bound the disk and memory that reading one takes."""
    batch: dict[int, InputObject] = {}
    size = 0
    for object_id, item in objects.items():
        if batch and (size + item.size > BATCH_BYTES or len(batch) == BATCH_OBJECTS):
            yield batch
            batch, size = {}, 0
        batch[object_id] = item
        size += item.size
    if batch:
        yield batch


def _version(loaded: dict[str, str]) -> str:
    """What stands for objects in these versions, by URI."""
    return hashlib.sha256(repr(sorted(loaded.items())).encode()).hexdigest()[:16]
