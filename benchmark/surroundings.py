"""The driver's machine and commit, as tags of MLflow."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

SECONDS = 5
CPU_INFO, MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
GIGABYTE_IN_KB = 1024**2


@cache
def surroundings() -> dict[str, str]:
    """Processor, memory and graphics cards; where this program runs from a git checkout, its commit."""
    found = {"hardware.driver": f"{platform.machine()}, {os.cpu_count()} cores", "hardware.system": platform.platform()}
    return found | dict(_parts()) | _commit()


def _parts() -> Iterator[tuple[str, str]]:
    if name := _field(CPU_INFO, "model name"):
        yield "hardware.processor", name
    if memory := _field(MEMORY_INFO, "MemTotal"):
        yield "hardware.memory", f"{int(memory.split()[0]) / GIGABYTE_IN_KB:.1f} GiB"
    if shutil.which("nvidia-smi"):
        names = _answer(("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"))
        yield "hardware.gpu", ", ".join(names.splitlines()) or "none that answers"


def _commit() -> dict[str, str]:
    here, git = Path(__file__), ("git", "-C", str(Path(__file__).parent))
    if not _answer((*git, "ls-files", "--error-unmatch", here.name)):
        return {}
    changed = _answer((*git, "status", "--porcelain", "--untracked-files=no"))
    return {
        "mlflow.source.git.commit": _answer((*git, "rev-parse", "HEAD")),
        "bridge.checkout": "changed since that commit" if changed else "as committed",
    }


def _field(path: Path, name: str) -> str:
    """The value of the first line `name: value`; empty where there is none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _answer(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip()
