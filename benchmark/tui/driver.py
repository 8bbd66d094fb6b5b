"""The driver of a run, as the monitor sees it: a process that it can poll and interrupt, and nothing else."""

import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from typing import Protocol

from benchmark.events import RunStarted


class DriverHandle(Protocol):
    """A driver that this process has started."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def poll(self) -> int | None:
        """Its exit code; None while it runs. Never blocks."""
        ...

    def interrupt(self) -> None:
        """Ask it to stop, as Ctrl-C would; returns at once."""
        ...


@dataclass(frozen=True)
class ChildDriver:
    """A driver that runs as a child of this process."""

    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    def interrupt(self) -> None:
        """Send SIGINT, if it still runs."""
        if self.poll() is None:
            self.process.send_signal(signal.SIGINT)


def is_gone(run: RunStarted) -> bool:
    """True where the driver was on this host and its process is no more; False where nobody can tell from here."""
    if run.host != socket.gethostname() or run.pid <= 0:
        return False
    try:
        os.kill(run.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
