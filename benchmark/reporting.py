"""What `bridge report` is asked for, and what answers it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.filling import fresh_warehouse, warehouse_path
from benchmark.run import plan_graph
from benchmark.store import Store
from reports import ReportError, check_report, compare_reports, write_paper, write_report

AGAINST = "against"
"""Name of the comparison's files."""


@dataclass(frozen=True)
class Request:
    """The command's arguments."""

    suite: Path | None
    store: Path
    out: Path
    formats: tuple[str, ...]
    partial: bool = False
    check: bool = False
    against: str | None = None
    paper: bool = False


def answer(request: Request) -> Iterator[str]:
    """Do what is asked for; lines for the terminal.

    Raises `ReportError` for what a user can cause, and where a check fails.
    """
    asked = [name for name in ("check", "against", "paper") if getattr(request, name)]
    if len(asked) > 1:
        raise ReportError(f"--{asked[0]} and --{asked[1]} at once", "one of them", exit_code=2)
    if request.suite is None:
        if not request.paper:
            raise ReportError("no suite", "a suite file", "bridge report SUITE, or bridge report --paper", exit_code=2)
        store = Store.open(request.store, create=False)
        yield from map(str, write_paper(warehouse_path(store), (), request.out, request.partial))
        return
    graph = plan_graph(request.suite)
    with fresh_warehouse(graph, Store.open(request.store, create=False)) as warehouse:
        yield from _answer(request, warehouse, graph.suite)


def _answer(request: Request, warehouse: Path, suite: str) -> Iterator[str]:
    if request.check:
        yield from _check(request, warehouse, suite)
    elif request.against is not None:
        yield from _compare(request, warehouse, suite, request.against)
    elif request.paper:
        yield from map(str, write_paper(warehouse, (suite,), request.out, request.partial))
    else:
        yield from map(str, write_report(warehouse, suite, request.out, request.formats, request.partial))


def _check(request: Request, warehouse: Path, suite: str) -> Iterator[str]:
    problems = check_report(warehouse, suite, request.out, request.partial)
    if problems:
        yield from problems
        found = f"{len(problems)} tables in {request.out} are not what the store says"
        raise ReportError(found, "those that it says", "write them anew by `bridge report` without --check")
    yield f"{request.out}: every table is what the store says"


def _compare(request: Request, warehouse: Path, suite: str, other: str) -> Iterator[str]:
    found = compare_reports(warehouse, suite, other, request.out, request.partial)
    request.out.mkdir(parents=True, exist_ok=True)
    for suffix, text in {".md": found.markdown(), ".csv": found.csv()}.items():
        (request.out / f"{AGAINST}{suffix}").write_text(text, encoding="utf-8")
    yield from found.markdown().rstrip().splitlines()
    yield str(request.out / f"{AGAINST}.csv")
