"""`bridge store`: check the artefacts, remove those that no suite needs."""

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import DEFAULT_STORE, Store

app = typer.Typer(help="Check and clear the store of artefacts.", no_args_is_help=True)


@app.command()
def verify(store: Store = DEFAULT_STORE) -> None:
    """Check every artefact against its checksums; what is corrupt is quarantined and made again by the next run."""
    from benchmark.housekeeping import verify_store

    raise typer.Exit(verify_store(store))


@app.command()
def gc(
    suites: Annotated[list[Path], typer.Argument(help="Suites whose artefacts stay.", show_default=False)],
    store: Store = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, tell only what would go.")] = False,
) -> None:
    """Remove the artefacts that none of these suites needs."""
    from benchmark.housekeeping import collect_garbage

    raise typer.Exit(collect_garbage(store, suites, remove=yes))
