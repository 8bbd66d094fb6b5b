"""`bridge report`, `bridge ui`, `bridge schema`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import DEFAULT_STORE, Store, Suite


class Format(StrEnum):
    """How a table is written."""

    LATEX = "latex"
    MARKDOWN = "md"
    CSV = "csv"


def report(
    suite: Suite,
    store: Store = DEFAULT_STORE,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="May be given several times; all if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path("report"),
    partial: Annotated[bool, typer.Option("--partial", help="Report although cells are missing.")] = False,
) -> None:
    """Write the suite's tables and figures from the results in the store."""
    from benchmark.console import complain, say
    from benchmark.filling import fresh_warehouse
    from benchmark.run import plan_graph
    from benchmark.store import Store as StoreFolder
    from reports import ReportError, write_report

    graph = plan_graph(suite)
    with fresh_warehouse(graph, StoreFolder.open(store, create=False)) as warehouse:
        try:
            written = write_report(
                warehouse, graph.suite, out, tuple(each.value for each in formats or Format), partial
            )
        except ReportError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
    for path in written:
        say(str(path))


def ui(
    store: Store = DEFAULT_STORE,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; the sqlite file in the store's folder.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Start MLflow's web interface on the store's runs; Ctrl-C ends it."""
    from benchmark.web import serve_ui

    serve_ui(store, tracking_uri, port)


def schema() -> None:
    """Print the JSON schema of suite files."""
    import json

    from benchmark.suite_schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
