"""Loads a source into its staging table: decides what is new and keeps the history of it.

`load_history` says which objects, in which version, the staging table holds. A load lists the
source, reads what is new or changed, and writes rows, rejected records and history in one
transaction: whatever happens, the warehouse is at the state before it or after it.
How a record becomes a row is the business of `reading.py`.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sparkify_assets.catalog import Catalog, Table
from sparkify_assets.errors import SparkifyError, launch_command
from sparkify_assets.reading import Reading, read_objects
from sparkify_assets.sources.base import SAMPLE, InputObject, Source, address_of
from sparkify_assets.warehouse.base import Landing, Session

BATCH_BYTES = 512 * 1024 * 1024
BATCH_OBJECTS = 50_000
PROGRESS_SECONDS = 5.0
OBJECT_COST_BYTES = 100_000  # opening or fetching one takes about as long as so many bytes
SAMPLES = 3


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
    seconds: float = 0.0
    version: str = ""
    rejected_samples: list[str] = field(default_factory=list)

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


def load_source(
    session: Session,
    catalog: Catalog,
    table: Table,
    source: Source,
    *,
    max_rejected_share: float,
    prefix: str,
    full_reload: bool,
    recreate: bool,
    run_id: str,
    log: Callable[[str], None],
) -> Load:
    """Brings a staging table up to what its source holds now, in the session's transaction.

    New objects are loaded, changed ones replace exactly their own rows, vanished ones keep theirs.

    Args:
        session: the open transaction; nothing is kept if it is rolled back.
        catalog: where `load_history` and `rejected_records` are declared.
        table: the staging table.
        source: what it is loaded from.
        max_rejected_share: share of this load's records, 0 to 1, that may be rejected.
        prefix: a folder of the source; load and judge only what is in it.
        full_reload: forget all that was loaded, and load what is listed now.
        recreate: drop the table where that is needed for the shape that its file declares.
        run_id: who loads.
        log: takes a line of progress now and then.

    Raises:
        SparkifyError: the source cannot be read, is another one than before, or holds too many
            records that cannot be read.
    """
    started = time.monotonic()
    prefix = prefix.strip("/")
    if prefix and full_reload:
        raise SparkifyError(
            f"{table.name}: full_reload forgets all that was loaded, and prefix loads only a part. "
            "Choose one."
        )
    for ledger in catalog.ledgers:
        _make_sure_of(session, ledger)
    listed = {item.uri: item for item in source.objects(prefix)}
    history = _history(session, table)
    first_id = (
        int(session.rows("SELECT COALESCE(MAX(object_id), 0) AS n FROM load_history")[0]["n"]) + 1
    )
    vanished = _vanished(source, prefix, history, listed)
    if full_reload or _must_rebuild(session, table, source, prefix, history, vanished):
        if history:
            log(f"{table.name}: rebuilding it from all of {address_of(source.within(prefix))}")
        session.empty(table, recreate=recreate)
        _forget(session, catalog.ledgers, list(history.values()))
        history, vanished = {}, []
    replaced = [
        h for uri, h in history.items() if uri in listed and listed[uri].version != h.version
    ]
    new = [item for uri, item in listed.items() if uri not in history]
    load = Load(
        new=len(new),
        changed=len(replaced),
        unchanged=len(listed) - len(new) - len(replaced),
        vanished=len(vanished),
    )
    _forget(session, [table, *catalog.ledgers], replaced)
    to_read = new + [listed[h.uri] for h in replaced]
    fetching = _Progress(f"{table.name}: fetched", to_read, log)
    progress = _Progress(f"{table.name}: loaded", to_read, log)
    with session.landing([table, *catalog.ledgers]) as landing:
        for batch in _batches(dict(enumerate(to_read, start=first_id))):
            with source.at_hand(batch, fetching.add) as files:
                reading = read_objects(landing.connection, table, files)
            _record(landing, catalog, table, source, batch, reading, run_id)
            landing.flush()
            _count(load, batch, reading)
            progress.add(len(batch), sum(item.size for item in batch.values()))
    if load.rejected > max_rejected_share * load.records:
        raise SparkifyError(
            f"{table.name} was not loaded: {load.rejected:,} of {load.records:,} records of "
            f"{source.name} cannot be read, more than the share of {max_rejected_share:g} that "
            f"SPARKIFY_MAX_REJECTED_SHARE allows. For example: {'; '.join(load.rejected_samples)}. "
            f"The table {table.name} stays as it was. Mend or remove them, or allow a larger share."
        )
    loaded = {uri: h.version for uri, h in history.items()}
    load.version = _version(loaded | {item.uri: item.version for item in to_read})
    load.seconds = time.monotonic() - started
    return load


def _make_sure_of(session: Session, ledger: Table) -> None:
    difference = session.shape(ledger)
    if difference is None:
        session.create(ledger)
    elif difference:
        raise SparkifyError(
            f"{ledger.name} was made by another version of Sparkify: {difference}. "
            "Choose a new warehouse, or drop its tables and load everything again."
        )


def _must_rebuild(
    session: Session,
    table: Table,
    source: Source,
    prefix: str,
    history: dict[str, _Loaded],
    vanished: list[str],
) -> bool:
    """Whether everything must be read again; an error where that would lose rows."""
    for root in sorted({h.source_root for h in history.values()} - {source.root}):
        if not root.startswith(SAMPLE):
            raise SparkifyError(
                f"{table.name} was loaded from {root}; {source.variable or 'the sample data'} now "
                f"means {source.root}. Loading both would double what is in both. Set it back, or "
                f"rebuild the table from the new place alone: {full_reload_command(table)}"
            )
        return True
    if not history or (vanished and source.is_sample and not prefix):
        return True
    difference = session.shape(table)
    if difference is None:
        difference = "it does not exist"
    if difference and prefix:
        raise SparkifyError(
            f"{table.name} has another shape than its file: {difference}. It must be loaded again "
            "as a whole: run this without a prefix."
        )
    if difference and vanished:
        raise SparkifyError(
            f"{table.name} has another shape than its file: {difference}. It must be loaded again, "
            f"but {len(vanished):,} loaded objects are no longer there ({vanished[0]} ...): their "
            f"rows would be lost. Put them back, or accept the loss: {full_reload_command(table)}"
        )
    return bool(difference)


def _vanished(
    source: Source, prefix: str, history: dict[str, _Loaded], listed: dict[str, InputObject]
) -> list[str]:
    """What was loaded from the listed folder and is no longer there."""
    within = source.within(prefix)
    return sorted(uri for uri in history.keys() - listed.keys() if uri.startswith(within))


def full_reload_command(table: Table) -> str:
    """The command that forgets what was loaded into a table, and loads what is listed now."""
    return launch_command(table.name, full_reload=True)


def _history(session: Session, table: Table) -> dict[str, _Loaded]:
    rows = session.rows(
        "SELECT object_id, uri, version, source_root FROM load_history WHERE table_name = ?",
        [table.name],
    )
    return {row["uri"]: _Loaded(**row) for row in rows}


def _forget(session: Session, tables: Sequence[Table], loaded: Sequence[_Loaded]) -> None:
    """Deletes what was loaded from objects."""
    if loaded:
        for table in tables:
            session.forget(table, [h.object_id for h in loaded])


def _record(
    landing: Landing,
    catalog: Catalog,
    table: Table,
    source: Source,
    batch: dict[int, InputObject],
    reading: Reading,
    run_id: str,
) -> None:
    """Writes the rejected records and the history of a batch."""
    now = datetime.now(UTC).replace(tzinfo=None)
    rejected = [(r.object_id, batch[r.object_id].uri, *r[1:]) for r in reading.rejections]
    history = [
        (
            object_id,
            table.name,
            source.root,
            item.uri,
            item.version,
            item.size,
            reading.counts[object_id].records,
            reading.counts[object_id].loaded,
            reading.counts[object_id].rejected,
            now,
            run_id,
        )
        for object_id, item in batch.items()
    ]
    landing.append(catalog.tables["rejected_records"], rejected)
    landing.append(catalog.tables["load_history"], history)


def _count(load: Load, batch: dict[int, InputObject], reading: Reading) -> None:
    load.bytes += sum(item.size for item in batch.values())
    for count in reading.counts.values():
        load.records += count.records
        load.loaded += count.loaded
        load.rejected += count.rejected
    load.rejected_samples += [
        f"{batch[r.object_id].address}, line {r.line}: {r.reason}" for r in reading.rejections
    ]
    del load.rejected_samples[SAMPLES:]


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


class _Progress:
    """Says every few seconds how far a long load is."""

    def __init__(
        self, what: str, objects: Sequence[InputObject], log: Callable[[str], None]
    ) -> None:
        self._what = what
        self._objects, self._bytes = len(objects), sum(item.size for item in objects)
        self._done, self._done_bytes = 0, 0
        self._log = log
        self._started = self._last = time.monotonic()

    def add(self, objects: int, size: int) -> None:
        self._done += objects
        self._done_bytes += size
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            seconds = now - self._started
            left = self._cost(self._objects, self._bytes) / self._cost(self._done, self._done_bytes)
            self._log(
                f"{self._what} {self._done:,} of {self._objects:,} objects, "
                f"{self._done_bytes / 1e6:,.1f} of {self._bytes / 1e6:,.1f} MB, "
                f"{self._done / seconds:,.0f} objects/s, {self._done_bytes / 1e6 / seconds:,.1f} "
                f"MB/s, about {seconds * (left - 1):,.0f} s left"
            )

    @staticmethod
    def _cost(objects: int, size: int) -> int:
        return objects * OBJECT_COST_BYTES + size + 1


def _version(loaded: dict[str, str]) -> str:
    """What stands for objects in these versions, by URI."""
    return hashlib.sha256(repr(sorted(loaded.items())).encode()).hexdigest()[:16]
