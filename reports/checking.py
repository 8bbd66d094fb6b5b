"""Committed tables held against the store: whoever changes a number by hand, or forgets to write it anew, is told."""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

from reports.against import compare
from reports.comparisons import NAME as COMPARISONS
from reports.composition import table_texts
from reports.declaration import load_definitions
from reports.errors import ReportError

SUFFIXES = {"csv": ".csv", "latex": ".tex", "md": ".md"}
SHOWN = 80
"""Letters of a line that differs."""


def check(warehouse: Path, suite: str, out: Path, partial: bool) -> list[str]:
    """As `reports.check_report` says."""
    known = {definition.name for definition in load_definitions()} | {COMPARISONS}
    committed = {
        path.name: path for suffix in SUFFIXES.values() for path in sorted(out.glob(f"*{suffix}")) if path.stem in known
    }
    kinds = tuple(kind for kind, suffix in SUFFIXES.items() if any(name.endswith(suffix) for name in committed))
    if not kinds:
        remedy = "write it by `bridge report` without --check, or name another folder by --out"
        raise ReportError(f"no table in {out}", "the folder of a report", remedy, exit_code=2)
    return list(_problems(out, committed, table_texts(warehouse, suite, kinds, partial)))


def _problems(out: Path, committed: Mapping[str, Path], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*committed, *now}):
        if name not in committed:
            yield f"{out / name}: not there, but the store has its numbers"
        elif name not in now:
            yield f"{out / name}: there, but the suite has no such table any more"
        elif (text := committed[name].read_text("utf-8", errors="replace")) != now[name]:
            yield f"{out / name}: {_difference(name, text, now[name])}"


def _difference(name: str, old: str, new: str) -> str:
    """What differs first, in words."""
    if name.endswith(".csv"):
        changed = compare({"": old}, {"": new}).changed
        if changed:
            first, more = changed[0], f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            told = ["nothing" if value is None else f"{value!r}" for value in (first.old, first.new)]
            return f"{first.measure} of {first.place}: {told[0]} in the file, {told[1]} in the store{more}"
    return _first_line(old, new)


def _first_line(old: str, new: str) -> str:
    for number, (before, after) in enumerate(zip_longest(old.splitlines(), new.splitlines()), start=1):
        if before != after:
            told = [_short(text) for text in (before, after)]
            source = (before or after or "").lstrip().startswith("%")
            what = "stands on other artefacts" if source else "differs"
            return f"line {number} {what}: {told[0]} in the file, {told[1]} from the store"
    return "other ends of lines"


def _short(text: str | None) -> str:
    if text is None:
        return "nothing"
    plain = "".join(letter if letter.isprintable() else " " for letter in text.strip())
    return repr(plain if len(plain) <= SHOWN else f"{plain[:SHOWN]}…")
