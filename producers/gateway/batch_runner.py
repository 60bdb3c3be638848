"""Batches in progress: each is sent and collected by one gateway, and taken over if that gateway dies."""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaException

from producers.batch.answers import AnswerCollector, AnswersFile, Tally
from producers.batch.requests import BadRequests, Batch, validate_file
from producers.batch.sender import BatchSender
from producers.gateway.api_errors import ApiError
from producers.gateway.batch_files import BatchFields, error_lines, split_answers
from producers.gateway.batch_object import CANCEL, ENDED, WINDOW_SECONDS
from producers.gateway.file_store import FileStore
from producers.gateway.keys import Caller
from producers.gateway.object_store import ObjectStore, StoredObject
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.planner.catalogue_reader import CatalogueReader

AT_ONCE = 4
"""Batches that one gateway works on; others wait, or go to other gateways."""

HEARTBEAT_SECONDS = 5.0
LAPSE_SECONDS = 45.0
"""Age of a heartbeat after which a batch's gateway counts as dead."""

LOOK_SECONDS = 5.0
SETTLE_SECONDS = 1.0

log = structlog.get_logger(__name__)

T = TypeVar("T")


class BatchLeft(Exception):  # noqa: N818 - not an error: another gateway continues the batch
    """This gateway ends, or another one has taken the batch over."""


class BatchEnded(Exception):  # noqa: N818 - not an error: its owner cancelled it, or its time is over
    """A batch ends before all of its requests are answered; the argument is its final status."""


class BatchRunner:
    """Works on batches in threads. Create it in the event loop.

    Parameters
    ----------
    settings : Settings
    store : ObjectStore
    files : FileStore
    catalogue : CatalogueReader
    name : str
        Id of this gateway.
    """

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        files: FileStore,
        catalogue: CatalogueReader,
        name: str,
    ) -> None:
        self.name = name
        self._settings, self._store, self._files, self._catalogue = settings, store, files, catalogue
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(AT_ONCE, "batch")
        self._stopping = threading.Event()
        self._running: set[str] = set()

    async def watch(self) -> None:
        """Take over the batches of gateways that died, until cancelled."""
        while True:
            # several gateways look at different times
            await asyncio.sleep(LOOK_SECONDS * (0.5 + random.random()))
            for identity in self._store.select(self._is_abandoned):
                if identity not in self._running:
                    await self._take_over(identity)

    def begin(self, identity: str) -> None:
        """Start to work on a batch whose object names this gateway."""
        self._running.add(identity)
        self._threads.submit(self._run, identity)

    def stop(self) -> None:
        """Leave all batches to other gateways, and wait for the threads. The call blocks."""
        self._stopping.set()
        self._threads.shutdown(cancel_futures=True)

    def _is_abandoned(self, item: StoredObject) -> bool:
        return (
            item["kind"] == "batch"
            and item["status"] not in ENDED
            and item["heartbeat"] < time.time() - LAPSE_SECONDS
        )

    async def _take_over(self, identity: str) -> None:
        try:
            stored = self._store.get(identity)
            if stored is None or not self._is_abandoned(stored):
                return
            await self._store.put(identity, stored | {"runner": self.name, "heartbeat": time.time()})
            # of several gateways that take it over, the last one keeps it
            await asyncio.sleep(SETTLE_SECONDS)
            if (self._store.get(identity) or {}).get("runner") == self.name:
                log.info("batch_taken_over", batch=identity, gateway=stored["runner"])
                self.begin(identity)
        except ApiError as error:
            log.warning("batch_not_taken_over", batch=identity, reason=str(error))

    # ---- in a thread of its own --------------------------------------------------------------------------

    def _run(self, identity: str) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="port-batch-") as folder:
                BatchWork(self, identity, Path(folder)).run()
        except BatchLeft:
            log.info("batch_left", batch=identity)
        except (ApiError, KafkaException, ValueError, OSError) as error:
            # the batch is taken over once its heartbeat has lapsed
            log.warning("batch_interrupted", batch=identity, reason=str(error))
        except Exception:
            log.exception("batch_failed", batch=identity)
        finally:
            self._loop.call_soon_threadsafe(self._running.discard, identity)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class BatchWork:
    """The work on one batch, in one thread.

    Parameters
    ----------
    runner : BatchRunner
    identity : str
    folder : Path
        For the file of requests and the answers; it is deleted afterwards.
    """

    def __init__(self, runner: BatchRunner, identity: str, folder: Path) -> None:
        self._runner, self._id, self._folder = runner, identity, folder
        self._fields = self._own_batch()
        self._caller = Caller(self._fields["owner"], self._fields["owner_metadata"])
        self._updated = time.monotonic()
        self._ends_at = self._fields["created_at"] + WINDOW_SECONDS

    def run(self) -> None:
        """Send the requests that are not sent yet, collect the answers, and write the files of results.

        Raises
        ------
        BatchLeft
            Another gateway continues.
        ApiError, KafkaException
            The broker failed.
        """
        try:
            batch = self._validate()
        except BadRequests as bad:
            errors = error_lines(str(bad))
            self._update(status="failed", failed_at=int(time.time()), errors=errors)
            return
        counts = {"total": batch.count, "completed": 0, "failed": 0}
        self._update(status="in_progress", in_progress_at=int(time.time()), counts=counts)
        answers = AnswersFile(self._folder / "answers.jsonl", batch)
        status = "completed"
        try:
            sender = BatchSender(self._runner._settings, batch, reach_broker(self._runner._settings))
            try:
                sender.run(lambda sent: self._tick(None))
            finally:
                sender.close()
            collector = AnswerCollector(self._runner._settings, batch, answers, sender.progress.since)
            collector.run(self._on_progress)
        except BatchEnded as ended:
            status = str(ended)
        finally:
            answers.close(complete=False)
        self._finish(status, batch.count)

    def _validate(self) -> Batch:
        path = self._folder / "requests.jsonl"
        file = self._fields["input_file_id"]
        stored = self._runner._store.get(file)
        if stored is None:
            raise BadRequests(f"input_file_id: {file} does not exist any more; upload it again")
        self._runner._files.save(file, stored, path)
        first = self._fields["status"] == "validating"
        models = [model.name for model in self._runner._catalogue.latest.catalogue.models] if first else []
        own = BatchFields(self._caller.metadata, self._ends_at, models)
        batch = validate_file(path, self._id, own)
        own.models = []  # an LLM that is removed from now on fails its requests only
        return batch

    def _on_progress(self, tally: Tally) -> bool:
        self._tick(tally)
        return True

    def _tick(self, tally: Tally | None) -> None:
        """Write a heartbeat now and then; raise if the batch is to end here."""
        if self._runner._stopping.is_set():
            self._update(heartbeat=0.0)
            raise BatchLeft
        if self._runner._store.get(CANCEL + self._id) is not None:
            raise BatchEnded("cancelled")
        if time.time() > self._ends_at:
            raise BatchEnded("expired")
        if time.monotonic() - self._updated < HEARTBEAT_SECONDS:
            return
        if self._own_batch()["runner"] != self._runner.name:
            raise BatchLeft
        counts = self._fields["counts"]
        if tally is not None:
            completed = tally.kinds["answered"]
            counts = counts | {"completed": completed, "failed": tally.kinds.total() - completed}
        self._update(counts=counts)

    def _finish(self, status: str, total: int) -> None:
        self._update(finalizing_at=int(time.time()))
        good, bad = self._folder / "output.jsonl", self._folder / "errors.jsonl"
        completed, failed = split_answers(self._folder / "answers.jsonl", good, bad)
        files: dict[str, str] = {}
        for name, path, count in (("output_file_id", good, completed), ("error_file_id", bad, failed)):
            if count:
                with open(path, "rb") as content:
                    writing = self._runner._files.write(
                        self._caller, f"{self._id}_{path.name}", "batch_output", content
                    )
                    files[name] = self._runner.call(writing)
        counts = {"total": total, "completed": completed, "failed": failed}
        self._update(status=status, counts=counts, **{f"{status}_at": int(time.time())}, **files)
        log.info("batch_ended", batch=self._id, status=status, **counts)

    def _own_batch(self) -> StoredObject:
        stored = self._runner._store.get(self._id)
        if stored is None or stored["runner"] != self._runner.name:
            raise BatchLeft
        return stored

    def _update(self, **changes: Any) -> None:
        self._fields = {**self._fields, "heartbeat": time.time(), **changes}
        self._runner.call(self._runner._store.put(self._id, self._fields))
        self._updated = time.monotonic()
