"""The store's lock: one driver at a time, known by name, and free again as soon as its process is gone."""

import fcntl
import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bridge_core.errors import StoreFault, StoreLocked

PATIENCE_SECONDS = 0.3
"""How long to try: a look at the owner holds a shared lock for a moment."""


class Owner(BaseModel):
    """Who holds a store."""

    model_config = ConfigDict(frozen=True)

    host: str = "an unknown host"
    pid: int = 0
    since: str = "an unknown time"
    suite: str = ""


@contextmanager
def hold(path: Path, suite: str) -> Generator[Owner, None, None]:
    """Hold the lock file `path` for the time of the block.

    Raises `StoreLocked` where another process holds it.
    """
    owner = Owner(
        host=socket.gethostname(), pid=os.getpid(), since=datetime.now(UTC).isoformat(timespec="seconds"), suite=suite
    )
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreFault(f"can not lock {path.parent}: {error.strerror}", "a folder that can be written") from error
    try:
        if not _take(descriptor, fcntl.LOCK_EX, PATIENCE_SECONDS):
            raise _locked(path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, owner.model_dump_json().encode(), 0)
        yield owner
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def owner_of(path: Path) -> Owner | None:
    """Who holds the lock file `path` now; None where nobody does, or it can not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _take(descriptor, fcntl.LOCK_SH, 0) else _read(path)
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int, patience_seconds: float) -> bool:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


def _read(path: Path) -> Owner:
    try:
        return Owner.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Owner()


def _locked(path: Path) -> StoreLocked:
    owner = _read(path)
    holder = f"process {owner.pid} on {owner.host}, since {owner.since}, for suite {owner.suite}"
    return StoreLocked(f"{path.parent} is in use by {holder}", remedy="wait for it, stop it, or give another --store")
