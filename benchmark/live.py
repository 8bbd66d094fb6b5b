"""Runs on a screen: the driver is a process of its own, the monitor reads its journal and may be closed without it."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from benchmark.console import Observer, complain, say
from benchmark.events import RunFinished, RunStarted
from benchmark.journal import journal_path, new_run_id
from benchmark.suite import load_suite
from benchmark.tui.driver import ChildDriver, is_gone
from benchmark.tui.tail import JournalTail

POLL_SECONDS = 0.2
LAST_LINES = 3


def run_on_screen(suite: Path, store: Path, arguments: list[str]) -> int:
    """Start `bridge ARGUMENTS --plain` in the background and show the monitor on it; the exit code of the run.

    A run that is left to itself gives 0. Raises `InvalidInput` for a bad suite before anything starts.
    """
    load_suite(suite)
    run_id = new_run_id()
    command = [sys.executable, "-m", "benchmark.cli", *arguments, "--plain", "--run-id", run_id]
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=errors, start_new_session=True)
        driver = ChildDriver(process)
        journal = journal_path(store, run_id)
        say("checking the suite ...")
        code = driver.poll() if not _begun(driver, journal) else _monitor(journal, driver)
        _tell_end(log, errors, code, run_id)
    return code or 0


def _begun(driver: ChildDriver, journal: Path) -> bool:
    """Wait for the journal; False where the driver ended without one."""
    try:
        while not journal.exists():
            if driver.poll() is not None:
                return journal.exists()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        driver.interrupt()
        driver.process.wait()
        raise
    return True


def _monitor(journal: Path, driver: ChildDriver | None) -> int | None:
    from benchmark.tui.app import MonitorApp

    return MonitorApp(journal, driver).run()


def _tell_end(log: IO[bytes], errors: IO[bytes], code: int | None, run_id: str) -> None:
    if code is None:
        say(f"run {run_id} goes on; `bridge bench watch` shows it again")
        return
    log.seek(0)
    errors.seek(0)
    for line in log.read().decode(errors="replace").splitlines()[-LAST_LINES:]:
        say(line)
    sys.stderr.write(errors.read().decode(errors="replace"))


def look_at(journal: Path) -> int:
    """Show the monitor on a journal; the exit code of its run, 0 where it goes on."""
    return _monitor(journal, None) or 0


def follow(journal: Path, tell: Observer) -> int:
    """Hand a journal's events to `tell` until its run has ended; the run's exit code, 1 where its driver died."""
    tail = JournalTail(journal)
    started: RunStarted | None = None
    while True:
        gone = started is not None and is_gone(started)
        for event in tail.events():
            tell(event)
            started = event if isinstance(event, RunStarted) else started
            if isinstance(event, RunFinished):
                return event.exit_code
        if gone:
            complain("the driver of this run is gone; run the suite again to go on")
            return 1
        time.sleep(POLL_SECONDS)
