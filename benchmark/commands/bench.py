"""`bridge bench`: validate, plan, run and watch suites."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands import control, history
from benchmark.commands.options import DEFAULT_STORE, Run, Store, Suite

app = typer.Typer(help="Validate, plan, run and watch suites.", no_args_is_help=True)


@app.command()
def validate(suite: Suite) -> None:
    """Check a suite, its files, its models and ranks; write nothing."""
    from benchmark.console import say
    from benchmark.run import check, plan_graph
    from benchmark.tui.wording import plural

    graph = plan_graph(suite)
    check(suite, graph)
    say(f"{suite}: valid, {plural(len(graph.cells), 'cell')}, {plural(len(graph.tasks), 'task')}")


@app.command()
def plan(
    suite: Suite,
    store: Store = DEFAULT_STORE,
    tasks: Annotated[bool, typer.Option("--tasks", help="List every task.")] = False,
) -> None:
    """Show cells, tasks, what cells share, what is cached, and why the rest would run."""
    from benchmark.commands.plan_view import show_plan
    from benchmark.planning import make_plan
    from benchmark.run import open_if_there, plan_graph

    show_plan(make_plan(plan_graph(suite), open_if_there(store)), every_task=tasks)


@app.command()
def run(
    suite: Suite,
    store: Store = DEFAULT_STORE,
    workers: Annotated[
        int | None, typer.Option(min=0, max=4096, help="Worker processes, one a core if not given; 0: in this process.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler, tcp://host:port, in place of local workers.")
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow store; a sqlite file in the store's folder."),
    ] = None,
    retries: Annotated[int, typer.Option(min=0, max=100, help="Further attempts where a worker is lost.")] = 1,
    timeout: Annotated[float | None, typer.Option(min=1.0, help="Seconds that a task may take.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Threads of torch in each worker; more of them change last digits."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Run the first cells only.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="A log in place of the live screen.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Events as lines of JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Failures and the end only.")] = False,
    run_id: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a suite, or go on with it: what is finished is never done again."""
    from benchmark.run import Request, run_suite

    if sys.stdout.isatty() and sys.stdin.isatty() and not (plain or json or quiet):
        from benchmark.live import run_on_screen

        raise typer.Exit(run_on_screen(suite, store, sys.argv[1:]))
    from benchmark.console import PlainLog, json_log, quieten_libraries

    quieten_libraries()
    request = Request(
        suite=suite,
        store=store,
        workers=workers,
        scheduler=scheduler,
        tracking_uri=tracking_uri,
        retries=retries,
        timeout_seconds=timeout,
        threads=threads,
        limit=limit,
        run_id=run_id,
    )
    raise typer.Exit(run_suite(request, json_log if json else PlainLog(quiet=quiet, suite=suite)))


@app.command()
def watch(
    run: Run = None,
    store: Store = DEFAULT_STORE,
    plain: Annotated[bool, typer.Option("--plain", help="A log in place of the live screen.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Events as lines of JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Failures and the end only.")] = False,
) -> None:
    """Watch a run that goes on, or look at one that has ended."""
    from benchmark.console import PlainLog, json_log
    from benchmark.live import follow, look_at
    from benchmark.runs import find_run

    found: Path = find_run(store, run).journal
    on_screen = sys.stdout.isatty() and sys.stdin.isatty() and not (plain or json or quiet)
    tell = json_log if json else PlainLog(quiet=quiet)
    raise typer.Exit(look_at(found) if on_screen else follow(found, tell))


for command in (control.retry, control.cancel, control.pause, control.resume, control.stop):
    app.command()(command)
app.command()(history.status)
app.command(name="ls")(history.list_all)
app.command()(history.logs)
