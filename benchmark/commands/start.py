"""`bridge init` and `bridge doctor`: the first minutes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmark.commands.options import DEFAULT_STORE, Store


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("first.yaml"),
    kind: Annotated[Literal["images", "text"], typer.Option("--kind", help="What the secrets are.")] = "images",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented suite that runs within minutes, to begin with."""
    from benchmark.console import say
    from benchmark.first import write_first

    for line in write_first(path, kind, force):
        say(line)


def doctor(
    store: Store = DEFAULT_STORE,
    json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Tell what is here, what is missing, and what to do about it; 1 where a run can not work."""
    from benchmark.doctor import examine

    raise typer.Exit(examine(store, as_json=json))
