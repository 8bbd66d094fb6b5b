"""`bridge`: the command line. It parses, calls, and turns errors into one line and an exit code.

0    all good
1    some cells failed, or something broke
2    the request is invalid: nothing was written
3    another driver holds the store
130  interrupted
"""

import os
import sys
import tempfile
import traceback
from types import TracebackType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from benchmark.commands import adapter, bench, results, store, zoo
from benchmark.commands.start import doctor, init
from bridge_core.errors import BridgeError

NEXT_STEPS = """\
bridge: what does a LoRA adapter give away about the images it was trained on?

  bridge doctor                                what is here, what is missing
  bridge init                                  write a commented suite to begin with
  bridge bench plan suites/quickstart.yaml     cells, tasks, and what is cached
  bridge bench run suites/quickstart.yaml      run it; run it again to continue
  bridge report suites/quickstart.yaml         tables and figures of what is finished
  bridge audit ADAPTER_DIR                     what an adapter that you have gives away
  bridge ui                                    every run in MLflow
  bridge --help                                all commands"""


class _Commands(TyperGroup):
    """Prints what a user has caused as one line a problem, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error of ours becomes its exit code."""
        try:
            return super().invoke(ctx)
        except BridgeError as error:
            from benchmark.console import complain

            for line in str(error).splitlines():
                complain(line)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=_Commands,
    help="Reconstruct training images from released LoRA adapters, and measure it.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich costs the help twice its time
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bench.app, name="bench")
app.add_typer(store.app, name="store")
app.add_typer(zoo.app, name="zoo")
for command in (init, doctor, results.report, results.ui, results.schema, adapter.audit, adapter.protect):
    app.command()(command)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"bridge {version('lora-gradient-bridge')}")
        except PackageNotFoundError:
            typer.echo("bridge (not installed)")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Say what to do next where no command is given."""
    if not debug:
        sys.excepthook = _tell_briefly
    if context.invoked_subcommand is None:
        from benchmark.next_steps import here

        typer.echo("\n".join([NEXT_STEPS, *here()]))


def _tell_briefly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of a bug to a file and one line about it to standard error."""
    handle, path = tempfile.mkstemp(prefix="bridge-", suffix=".txt")
    with os.fdopen(handle, "w") as file:
        file.write("".join(traceback.format_exception(kind, error, trace)))
    message = " ".join(f"{kind.__name__}: {error}".split())
    print(f"error: unexpected {message}; the traceback is in {path}, `bridge --debug ...` shows it", file=sys.stderr)


def main() -> None:
    """Run the command line."""
    app(prog_name="bridge")


if __name__ == "__main__":
    main()
