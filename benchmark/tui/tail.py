"""Read a growing journal a slice at a time, without ever waiting for it."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from benchmark.events import EVENT, AnyEvent

CHUNK_BYTES = 1 << 20


class JournalTail:
    """The events of a journal as they come; unlike `journal.follow` it never sleeps, so that a screen can use it.

    A torn last line waits for its rest. A line that is no event is left out and counted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_unreadable = 0
        """Whole lines that were no event."""
        self._offset = 0
        self._torn = b""
        self._lines: list[bytes] = []
        """Whole lines that are read and not parsed yet, last first."""

    def events(self) -> Iterator[AnyEvent]:
        """All events that are there and not given yet. May be left at any point and called again."""
        while self._lines or self._read():
            while self._lines:
                event = self._parse(self._lines.pop())
                if event is not None:
                    yield event

    def _read(self) -> bool:
        """Take the next chunk in; False where there is nothing new."""
        try:
            with self.path.open("rb") as journal:
                journal.seek(self._offset)
                chunk = journal.read(CHUNK_BYTES)
        except OSError:
            return False
        self._offset += len(chunk)
        *whole, self._torn = (self._torn + chunk).split(b"\n") if chunk else [self._torn]
        self._lines = whole[::-1]
        return bool(chunk)

    def _parse(self, line: bytes) -> AnyEvent | None:
        if not line.strip():
            return None
        try:
            return EVENT.validate_json(line)
        except ValidationError:
            self.num_unreadable += 1
            return None
