"""What a person asks of a running driver: files beside its journal, written whole by anybody, read and removed by it.

The journal keeps its one writer: a request changes nothing by itself. The driver takes it, does what it can, and tells
in the journal what it did. A request to a driver that is gone is a file that nobody reads.
"""

import os
import secrets
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.manifest import write_durably
from bridge_core.errors import StoreFault

MAX_BYTES = 1 << 20
POLL_SECONDS = 0.4

Action = Literal["pause", "resume", "cancel", "retry", "stop"]


class Request(BaseModel):
    """One request; `cells` are ids, for `cancel` and `retry`: none means all that failed or were cancelled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    cells: tuple[str, ...] = ()
    by: str = Field(default="", max_length=200)
    """Who asks, for the log."""


def requests_folder(journal: Path) -> Path:
    """Where the requests to the driver of a journal lie."""
    return journal.parent / "requests"


def send(journal: Path, action: Action, cells: tuple[str, ...] = ()) -> None:
    """Ask the driver of `journal` for `action`. Raises `StoreFault` where the store can not be written."""
    asked = Request(action=action, cells=cells, by=f"{socket.gethostname()} pid {os.getpid()}")
    folder = requests_folder(journal)
    try:
        folder.mkdir(exist_ok=True)
        write_durably(folder / f"{time.time_ns():020d}-{secrets.token_hex(3)}.json", asked.model_dump_json() + "\n")
    except OSError as error:
        found = f"{folder}: {error.strerror or error}"
        raise StoreFault(found, "a store that can be written", "ask from where the run was started") from error


@dataclass
class Mailbox:
    """The requests to one driver, taken in the order in which they were sent."""

    folder: Path
    _next: float = field(default=0.0, init=False)

    def take(self, now: bool = False) -> list[Request | str]:
        """The requests that are new, and for a file that holds none what is wrong with it; looks seldom unless `now`.

        Each file is removed before it is answered: what kills a driver once does not kill the next one.
        """
        if not now and time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + POLL_SECONDS
        try:
            paths = sorted(path for path in self.folder.iterdir() if path.suffix == ".json" and path.name[0] != ".")
        except OSError:
            return []
        return [found for path in paths if (found := _read(path)) is not None]


def _read(path: Path) -> Request | str | None:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"request {path.name} can not be read: {error.strerror or error}"
    try:
        return Request.model_validate_json(content)
    except ValidationError as error:
        return f"request {path.name} is none, and left out: {error.errors(include_url=False)[0]['msg']}"
