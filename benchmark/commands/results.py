"""`bridge report`, `bridge ui`, `bridge schema`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import DEFAULT_STORE, Store


class Format(StrEnum):
    """How a table is written."""

    LATEX = "latex"
    MARKDOWN = "md"
    HTML = "html"
    CSV = "csv"


def report(
    suite: Annotated[
        Path | None, typer.Argument(help="Suite file (YAML); --paper does without.", show_default=False)
    ] = None,
    store: Store = DEFAULT_STORE,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="May be given several times; all if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path("report"),
    partial: Annotated[bool, typer.Option("--partial", help="Report although cells are missing.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail where a table in --out is not what the store says.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Compare with a store, a folder of tables, or a commit.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="A paper's skeleton with the tables and figures of all suites run.")
    ] = False,
) -> None:
    """Write the suite's tables and figures from the results in the store."""
    from benchmark.console import complain, say
    from benchmark.reporting import Request, answer
    from reports import ReportError

    chosen = tuple(each.value for each in formats or Format)
    request = Request(suite, store, out, chosen, partial, check=check, against=against, paper=paper)
    try:
        for line in answer(request):
            say(line)
    except ReportError as error:
        complain(str(error))
        raise typer.Exit(error.exit_code) from None


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
