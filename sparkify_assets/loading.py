"""Loads a source into its staging table: decides what is new and keeps the history of it.

`load_history` says which objects, in which version, the staging table holds. A load lists the
source, reads what is new or changed, and then writes rows, rejected records and history in one
transaction: whatever happens, the warehouse is at the state before it or after it.
How a record becomes a row is the business of `reading.py`.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple

from sparkify_assets.accounting import SAMPLES
from sparkify_assets.accounting import Load as Load
from sparkify_assets.catalog import Catalog, Table
from sparkify_assets.errors import SparkifyError
from sparkify_assets.findings import ReadObject
from sparkify_assets.keys import Keys
from sparkify_assets.progress import Progress
from sparkify_assets.reading import Reader
from sparkify_assets.sources.base import SAMPLE, InputObject, Source, address_of
from sparkify_assets.warehouse.base import Session, Warehouse
from sparkify_assets.warehouse.landing import Landing, landing_for
from sparkify_assets.wording import launch_command

BATCH_BYTES = 512 * 1024 * 1024
BATCH_OBJECTS = 50_000
FEW_RECORDS = 10  # so many may be rejected whatever their share: a bad line is no wrong source
HISTORY = "load_history"
MEMBER = "!/"  # between the URI of an archive and the name of a member


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a staging table is loaded.

    Args:
        max_rejected_share: share of this load's records, 0 to 1, that may be rejected.
        run_id: who loads.
        log: takes a line of progress now and then.
        prefix: a folder of the source; load and judge only what is in it.
        full_reload: forget all that was loaded, and load what is listed now.
    """

    max_rejected_share: float
    run_id: str
    log: Callable[[str], None]
    prefix: str = ""
    full_reload: bool = False


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


class _Landed(NamedTuple):
    """An object that was read: what is listed, or a member of it where that is an archive."""

    uri: str
    listed: InputObject
    found: ReadObject


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
        options: those of `LoadOptions`.
    """
    with landing_for([table, *catalog.ledgers]) as landing:
        load = StagingLoad(catalog, table, source, landing, LoadOptions(**options))
        label = f"{table.name} {options['run_id']}"
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
        options: how it is loaded.

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
        options: LoadOptions,
    ) -> None:
        self._catalog, self._table, self._source, self._landing = catalog, table, source, landing
        self._options, self._prefix = options, options.prefix.strip("/")
        if self._prefix and options.full_reload:
            raise SparkifyError(
                f"{table.name}: full_reload forgets all that was loaded, and prefix loads only a "
                "part. Choose one."
            )
        self._started = time.monotonic()
        self._listed = {item.uri: item for item in source.objects(self._prefix)}
        self._ids, self._keys = count(1), Keys()
        self._landed: dict[int, _Landed] = {}

    def read(self, plan: _Plan) -> None:
        """Fetches and reads what seems to be new."""
        if plan.is_rebuild and plan.forgotten:
            place = address_of(self._source.within(self._prefix))
            self._options.log(f"{self._table.name}: rebuilding it from all of {place}")
        self._read(plan.to_read)

    def _read(self, to_read: Sequence[InputObject]) -> None:
        """Fetches objects and reads them into the landing."""
        size = sum(item.size for item in to_read)
        progress = Progress(self._table.name, size, self._options.log)
        reader = Reader(self._landing.connection, self._table, self._ids, self._keys)
        for batch in _batches(to_read):
            with self._source.at_hand(batch) as files:
                for objects in reader.read(files):
                    self._land(batch, objects)
                    progress.add(sum(one.size for one in objects))

    def write(self, session: Session) -> Load:
        """Writes rows, rejected records and history, in the session's transaction."""
        for ledger in self._catalog.ledgers:
            _make_sure_of(session, ledger)
        plan, last_id = self.plan(session), _last_id(session)
        wanted = {item.uri for item in plan.to_read}
        if missing := wanted - {landed.listed.uri for landed in self._landed.values()}:
            self._read([item for item in plan.to_read if item.uri in missing])
        unwanted = [i for i, landed in self._landed.items() if landed.listed.uri not in wanted]
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
        listed = {uri: self._listed.get(self._file_of(uri)) for uri in history}
        vanished = sorted(
            uri for uri, item in listed.items() if not item and uri.startswith(within)
        )
        is_rebuild = self._options.full_reload or self._must_rebuild(session, history, vanished)
        if is_rebuild:
            return _Plan({}, list(history.values()), list(self._listed.values()), 0, True)
        replaced = [
            h for uri, h in history.items() if (item := listed[uri]) and item.version != h.version
        ]
        kept = {uri: h for uri, h in history.items() if h not in replaced}
        known = {self._file_of(uri) for uri in kept}
        to_read = [item for uri, item in self._listed.items() if uri not in known]
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

    def _file_of(self, uri: str) -> str:
        """The listed file that an object is, or is a member of; its own URI if there is none."""
        ends = (match.start() for match in re.finditer(re.escape(MEMBER), uri))
        files = (uri[:end] for end in ends)
        return uri if uri in self._listed else next((f for f in files if f in self._listed), uri)

    def _land(self, batch: dict[int, InputObject], objects: list[ReadObject]) -> None:
        """Lands the rejected records and the history of objects that were read."""
        now = datetime.now(UTC).replace(tzinfo=None)
        rejected: list[tuple[object, ...]] = []
        history: list[tuple[object, ...]] = []
        for one in objects:
            item = batch[one.origin]
            uri = f"{item.uri}{MEMBER}{one.name}" if one.name else item.uri
            if one.name and uri in self._listed:
                raise SparkifyError(f"{address_of(uri)} is in an archive and beside it: rename one")
            self._landed[one.object_id] = _Landed(uri, item, one)
            rejected += [
                (one.object_id, uri, r.line, r.column, r.reason, r.raw) for r in one.rejections
            ]
            history.append(
                (
                    one.object_id,
                    self._table.name,
                    self._source.root,
                    uri,
                    item.version,
                    one.size,
                    one.records,
                    one.loaded,
                    one.rejected,
                    now,
                    self._options.run_id,
                )
            )
            del one.rejections[SAMPLES:]
        self._landing.append(self._catalog.tables["rejected_records"], rejected)
        self._landing.append(self._catalog.tables[HISTORY], history)

    def _account(self, plan: _Plan) -> Load:
        """Adds up what was read; an error if too much of it cannot be read."""
        replaced = {h.uri for h in plan.forgotten} if not plan.is_rebuild else set()
        load = Load(
            unchanged=sum(self._file_of(uri) in self._listed for uri in plan.kept),
            vanished=plan.vanished,
            unknown_keys=self._keys.unknown(self._table),
            missing_keys=self._keys.missing(self._table),
        )
        for uri, _, found in self._landed.values():
            load.add(address_of(uri), found, is_changed=uri in replaced)
        few = FEW_RECORDS if load.loaded or plan.kept else 0
        share = self._options.max_rejected_share
        if problem := load.too_much_rejected(share, few):
            raise SparkifyError(
                f"{self._table.name} was not loaded: {problem} of {self._source.name} cannot be "
                f"read, more than {few if share else 0} and more than the share of {share:g} that "
                "SPARKIFY_MAX_REJECTED_SHARE allows. For example: "
                f"{'; '.join(load.rejected_samples)}. The table {self._table.name} stays as it "
                "was. Mend or remove them, or allow a larger share."
            )
        versions = {uri: h.version for uri, h in plan.kept.items()}
        versions |= {uri: listed.version for uri, listed, _ in self._landed.values()}
        load.version = _version(versions)
        load.seconds = time.monotonic() - self._started
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


def _batches(objects: Sequence[InputObject]) -> Iterator[dict[int, InputObject]]:
    """Objects by number, in parts that bound the disk that having them at hand takes."""
    batch: dict[int, InputObject] = {}
    size = 0
    for item in objects:
        if batch and (size + item.size > BATCH_BYTES or len(batch) == BATCH_OBJECTS):
            yield batch
            batch, size = {}, 0
        batch[len(batch)] = item
        size += item.size
    if batch:
        yield batch


def _version(loaded: dict[str, str]) -> str:
    """What stands for objects in these versions, by URI."""
    return hashlib.sha256(repr(sorted(loaded.items())).encode()).hexdigest()[:16]
