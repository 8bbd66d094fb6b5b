"""`bridge zoo`: adapters of known number of samples, and how well that number is told from them."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.commands.options import DEFAULT_STORE, Store

app = typer.Typer(help="Build and evaluate zoos: adapters of known number of samples.", no_args_is_help=True)

Zoo = Annotated[Path, typer.Argument(help="File of a zoo (YAML).", show_default=False)]


@app.command()
def build(
    zoo: Zoo,
    store: Store = DEFAULT_STORE,
    workers: Annotated[
        int | None, typer.Option(min=0, max=4096, help="Worker processes, one a core if not given; 0: in this process.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to copy the zoo to.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Failures and the end only.")] = False,
) -> None:
    """Train the zoo's adapters, or go on with it: what is finished is never done again."""
    from benchmark.console import PlainLog
    from benchmark.zoo import build_zoo

    raise typer.Exit(build_zoo(zoo, store, workers, PlainLog(quiet=quiet, suite=zoo), out))


@app.command()
def evaluate(zoo: Zoo, store: Store = DEFAULT_STORE) -> None:
    """Print how well each method tells the number of samples: cross-validated by micro-dataset, beside its controls."""
    from rich.console import Console

    from benchmark.zoo import evaluations

    wide = None if sys.stdout.isatty() else 120
    for labels, found in evaluations(zoo, store):
        Console(width=wide).print(_table(labels, found))


def _table(labels: dict[str, str], found: list[dict[str, Any]]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    from benchmark.zoo import figure

    count, groups = found[0]["num_adapters"], found[0]["num_groups"]
    title = ", ".join(f"{axis} {label}" for axis, label in labels.items())
    table = Table(title=f"{title}: n = {count} adapters, {groups} micro-datasets", box=SIMPLE)
    table.add_column("method")
    for column in ("accuracy, %", "MAE, samples", "MAPE, %", "shuffled: accuracy, %", "answered, %"):
        table.add_column(column, justify="right")
    shuffled = {one["method"]: one for one in found if one["shuffled"]}
    for one in found:
        if not one["shuffled"]:
            figures = (figure(one["accuracy"], 1, 100), figure(one["mae"], 2), figure(one["mape"], 1, 100))
            chance = figure(shuffled[one["method"]]["accuracy"], 1, 100)
            table.add_row(one["method"], *figures, chance, f"{100 * one['answered']:.0f}")
    table.caption = "5 folds, no micro-dataset in two; [95 % bootstrap interval over micro-datasets]"
    return table
