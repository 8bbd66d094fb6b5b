"""The other side of a comparison: a store, a folder with a report, or a commit of the repository that holds one."""

import subprocess
from pathlib import Path

from reports.composition import csv_texts
from reports.errors import ReportError

WAREHOUSE = "warehouse.duckdb"
GIT_SECONDS = 30


def csv_texts_of(other: str, suite: str, out: Path) -> dict[str, str]:
    """Table -> CSV of `other`; what is missing in another store is left out and no fault."""
    folder = Path(other)
    if (folder / WAREHOUSE).is_file():
        return csv_texts(folder / WAREHOUSE, suite, partial=True)
    if folder.is_dir():
        found = {path.stem: _read(path) for path in sorted(folder.glob("*.csv"))}
        return found or _nothing(f"{other}: neither {WAREHOUSE} nor tables as CSV in it")
    return _of_commit(other, out)


def _of_commit(commit: str, out: Path) -> dict[str, str]:
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    inside = out.absolute().relative_to(there).as_posix()
    if _git(there, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}") is None:
        return _nothing(f"{commit}: no folder, and no commit of the repository of {out}")
    listed = _git(there, "ls-tree", "--name-only", "--end-of-options", commit, f"{inside}/") or ""
    names = [line for line in listed.splitlines() if line.endswith(".csv")]
    texts = {Path(name).stem: _git(there, "show", "--end-of-options", f"{commit}:./{name}") or "" for name in names}
    return texts or _nothing(f"commit {commit} has no tables as CSV in {out}")


def _nothing(found: str) -> dict[str, str]:
    wanted = "a store that has run, a folder with a report, or a commit that has one"
    raise ReportError(found, wanted, "name the committed folder by --out", exit_code=2)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise ReportError(f"{path}: {fault}", "a table that `bridge report` wrote", exit_code=2) from fault


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it refuses, or is not there."""
    try:
        done = subprocess.run(
            ("git", "-C", str(folder), *arguments), capture_output=True, text=True, check=True, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout
