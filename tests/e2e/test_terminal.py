"""The real program in a real terminal: its screen is killed, the run goes on, and a late watch shows it whole."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmark.journal import read

ROOT = Path(__file__).parents[2]
SUITE = """\
name: tiny
seeds: [0, 1]
num_secrets: 1
models: [{kind: vit, depth: 1, width: 16, heads: 2, patch: 4, pretraining: {epochs: 1}}]
ranks: [2, 4]
datasets: [{label: digits, proxy: digits, private: digits, image_size: 8}]
bridges: [oracle, projection]
inversions: [{kind: inverting_gradients, iterations: 150, restarts: 1}]
"""
PATIENCE_SECONDS = 480.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


class Terminal:
    """A tmux pane on a server of its own."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        self.socket = str(folder / "tmux")
        size = ("-x", str(width), "-y", str(height))
        self._tmux("-f", os.devnull, "new-session", "-d", "-s", "bridge", *size, "-c", str(folder), "sh")
        self.type(f"export PYTHONPATH={ROOT} OMP_NUM_THREADS=1 PS1='ready> '; unset BRIDGE_STORE", "Enter")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self.socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def type(self, *keys: str) -> None:
        """Send keys as a person would."""
        self._tmux("send-keys", "-t", "bridge", *keys)

    def bridge(self, arguments: str) -> None:
        """Type a command of `bridge`."""
        self.type(f"{sys.executable} -m benchmark.cli {arguments}", "Enter")

    @property
    def seen(self) -> str:
        """What stands on the screen."""
        return self._tmux("capture-pane", "-p", "-t", "bridge")

    def until(self, pattern: str) -> str:
        """Wait until the screen matches, and give it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not re.search(pattern, seen := self.seen):
            assert time.monotonic() < deadline, f"no {pattern!r} on the screen:\n{seen}"
            time.sleep(0.2)
        return seen

    def close(self) -> None:
        """End the pane and its server."""
        self._tmux("kill-session", "-t", "bridge")


@pytest.fixture(params=[(80, 24), (160, 48)], ids=["80x24", "160x48"])
def terminal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    pane = Terminal(tmp_path, *request.param)
    yield pane
    pane.close()


def monitors(folder: Path) -> list[psutil.Process]:
    """Processes that show a screen on the suite in `folder`."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        if process.info["cwd"] == str(folder) and "benchmark.cli" in line and "--plain" not in line:
            found.append(process)
    return found


def test_a_run_outlives_its_screen_and_is_watched_to_its_end(tmp_path: Path, terminal: Terminal):
    terminal.bridge("bench run tiny.yaml --workers 1")
    terminal.until(r"▸ running[\s\S]*8 cells")
    terminal.until(r"Running 1")
    (screen,) = monitors(tmp_path)
    screen.send_signal(signal.SIGKILL)
    terminal.until(r"Killed|ready> *$")
    terminal.type("C-j", "stty sane; reset", "C-j")  # the terminal is still raw: Enter would be no line end
    time.sleep(3)  # `reset` waits for the terminal, and drops what is typed meanwhile

    (journal,) = (tmp_path / ".bridge/runs").glob("*/journal.jsonl")
    before = len(list(read(journal)))
    terminal.bridge("bench watch")
    terminal.until(r"▸ running|✓ finished")
    assert len(list(read(journal))) >= before, "the run goes on without its screen"
    terminal.type("p")
    terminal.until(r"‖ paused|✓ finished")
    terminal.type("p")
    terminal.until(r"✓ finished")
    terminal.type("2")
    terminal.until(r"8 of 8 cells")
    terminal.type("Enter")
    terminal.until(r"psnr +-?\d")
    terminal.type("Escape")
    time.sleep(1)
    terminal.type("6")
    terminal.until(r"needs +why it")
    terminal.type("q")
    terminal.until(r"ready> *$")
    terminal.type("clear", "Enter")
    terminal.bridge("bench status")
    assert re.search(r"8 cells: 8 finished", terminal.until(r"8 cells: "))
