"""The journal of a run: one JSON line an event, appended by the driver alone, read by everybody."""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from benchmark.events import EVENT, AnyEvent, CellFailed, CellFinished, RunFinished, TaskFailed, TaskFinished
from bridge_core.errors import StoreFault

ENDINGS = (TaskFinished, TaskFailed, CellFinished, CellFailed)
SYNC_SECONDS = 0.5
"""Endings are flushed to the disk, at most this often; the artefacts are the truth, not the journal."""


def new_run_id() -> str:
    """UTC time and four hex digits; sorts by time."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03d}Z-{secrets.token_hex(2)}"


def journal_path(store: Path, run: str) -> Path:
    """Where the journal of `run` is in the store folder."""
    return store / "runs" / run / "journal.jsonl"


class Journal:
    """The one writer of a journal; each event is a line and is flushed at once.

    Raises `StoreFault` where it can not be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._synced = 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            if _is_torn(path):
                self._file.write(b"\n")
        except OSError as error:
            raise _fault(path, error) from error

    @classmethod
    def start(cls, store: Path, run: str | None = None) -> "Journal":
        """The journal of a new run in the store folder."""
        return cls(journal_path(store, run or new_run_id()))

    @property
    def run(self) -> str:
        """The run's id."""
        return self.path.parent.name

    def write(self, event: AnyEvent) -> None:
        """Append `event`."""
        # Not model_dump_json: pydantic would write NaN, which is a result, as null.
        line = json.dumps(event.model_dump(mode="json"), separators=(",", ":")) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            if isinstance(event, RunFinished) or (isinstance(event, ENDINGS) and self._sync_is_due()):
                self._sync()
        except OSError as error:
            raise _fault(self.path, error) from error

    def close(self) -> None:
        """Flush and close; nothing can be written any more."""
        try:
            self._file.close()
        except OSError as error:
            raise _fault(self.path, error) from error

    def _sync_is_due(self) -> bool:
        return time.monotonic() - self._synced >= SYNC_SECONDS

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path) -> Iterator[AnyEvent]:
    """The events of a journal so far; lines that a dying driver has torn are left out.

    Raises `StoreFault` where it can not be read or holds what this program does not know.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                if event := _parse(line, path):
                    yield event
    except OSError as error:
        raise _fault(path, error) from error


def follow(path: Path, stop: Callable[[], bool] = lambda: False, poll_seconds: float = 0.2) -> Iterator[AnyEvent]:
    """The events of a journal as they come, until the run is finished, or `stop()` holds and there is nothing new.

    Waits for a journal that is not there yet. Raises as `read`.
    """
    offset, torn = 0, b""
    while True:
        stopping = stop()
        chunk = _read_from(path, offset)
        offset += len(chunk)
        *lines, torn = (torn + chunk).split(b"\n")
        for line in lines:
            if event := _parse(line, path):
                yield event
                if isinstance(event, RunFinished):
                    return
        if stopping:
            return
        time.sleep(poll_seconds)


def _read_from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise _fault(path, error) from error


def _parse(line: bytes, path: Path) -> AnyEvent | None:
    if not line.strip():
        return None
    try:
        return EVENT.validate_json(line)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            return None
        found = f"{path} holds an event that this program does not know"
        raise StoreFault(found, remedy="use the newer program that wrote it") from error


def _is_torn(path: Path) -> bool:
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _fault(path: Path, error: OSError) -> StoreFault:
    return StoreFault(f"{path}: {error.strerror or error}", "a journal that can be read and written")
