"""`bridge bench retry`, `cancel`, `pause`, `resume`, `stop`: what is asked of a run, from wherever its store is."""

from typing import Annotated

import typer

from benchmark.commands.options import DEFAULT_STORE, Run, Store

Cells = Annotated[
    list[str] | None, typer.Option("--cell", help="Id of a cell, or its beginning; may come several times.")
]


def retry(run: Run = None, store: Store = DEFAULT_STORE, cell: Cells = None) -> None:
    """Try again what failed or was cancelled: in the run if it goes on, else by a new run of these cells alone."""
    from benchmark.asking import retry_run

    raise typer.Exit(retry_run(store, run, tuple(cell or ())))


def cancel(
    cell: Annotated[list[str], typer.Option("--cell", help="Id of a cell, or its beginning; may come several times.")],
    run: Run = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Leave cells out of a run that goes on; what other cells need of them is made all the same."""
    from benchmark.asking import ask_run

    ask_run(store, run, "cancel", tuple(cell))


def pause(run: Run = None, store: Store = DEFAULT_STORE) -> None:
    """Let a run start no further task; those that run go on to their end."""
    from benchmark.asking import ask_run

    ask_run(store, run, "pause")


def resume(run: Run = None, store: Store = DEFAULT_STORE) -> None:
    """Let a paused run go on."""
    from benchmark.asking import ask_run

    ask_run(store, run, "resume")


def stop(run: Run = None, store: Store = DEFAULT_STORE) -> None:
    """Stop a run, as Ctrl-C would where it was started; what is finished stays."""
    from benchmark.asking import ask_run

    ask_run(store, run, "stop")
