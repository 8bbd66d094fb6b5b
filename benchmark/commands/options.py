"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.completing import complete_run, complete_suite

Suite = Annotated[Path, typer.Argument(help="Suite file (YAML).", show_default=False, autocompletion=complete_suite)]
Store = Annotated[Path, typer.Option("--store", envvar="BRIDGE_STORE", help="Folder of artefacts, runs and results.")]
Run = Annotated[
    str | None,
    typer.Argument(help="Run id, or its beginning; the latest run if not given.", autocompletion=complete_run),
]

DEFAULT_STORE = Path(".bridge")
