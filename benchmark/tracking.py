"""MLflow, filled from the store after a run: the only importer of mlflow, and its one writer.

An experiment a suite, a parent run a graph, a child run a cell. Children are found again by the tag `bridge.cell`:
filling twice adds nothing, and a child that was left half written is replaced.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, cast

from benchmark.graph import Graph, PlannedCell
from benchmark.masking import masked
from benchmark.store import Store
from benchmark.surroundings import surroundings
from benchmark.tracked import TrackedCell, TrackedData, cell_name, cell_tags, graph_digest, track_cell
from bridge_core.errors import StoreFault

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Run

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
"""Of mlflow, where the user has not set it: nothing told to others, and a dead server is given up within seconds."""
NOTE = (
    "One graph of the suite: its cells are the child runs, each with every knob of the cell as a parameter. "
    "Results are read from the store and never from here; `bridge bench run` fills in what is missing."
)
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""What MLflow's pages are laid out by: runs with metrics, and not conversations."""
ADAPTER_FOLDER = "adapter"
STALL_SECONDS = 60.0
BATCH_METRICS, BATCH_OTHERS, MOST_CHARACTERS = 1000, 100, 250
"""Limits of MLflow's interface; of a value, the shortest that any of its stores cuts at."""
UNNAMEABLE = re.compile(r"[^\w./ :-]")
NO_FAILURES: Mapping[str, str] = MappingProxyType({})
T = TypeVar("T")


@dataclass(frozen=True)
class Tracker:
    """A tracking store by its address; a database file, a server, anything that MLflow takes."""

    uri: str
    stall_seconds: float = STALL_SECONDS
    """Without a sign of life for so long, the store is given up."""

    def fill(self, store: Store, graph: Graph, failed: Mapping[str, str] = NO_FAILURES) -> int:
        """Write what the tracking store lacks of `graph`'s finished and `failed` cells (cell -> cause); how many cells.

        Raises `StoreFault` where the tracking store can not be reached or written; a later call goes on from there.
        """
        filling = _Filling(self.uri, store, graph, failed)
        try:
            return _within(self.stall_seconds, filling)
        except _faults() as fault:
            message = " ".join(masked(str(fault)).split())[:300]
            raise StoreFault(
                f"{masked(self.uri)}: {message or type(fault).__name__}",
                "a tracking store that can be written",
                "check --tracking-uri; the next run of the suite fills it",
            ) from None


def _within(stall_seconds: float, filling: _Filling) -> int:
    """Run `filling` in a thread of its own, which is left behind when it stalls: some databases are waited for long."""
    outcome: list[int | BaseException] = []

    def work() -> None:
        try:
            outcome.append(filling.run())
        except BaseException as fault:  # raised again below, in the caller's thread
            outcome.append(fault)

    thread = Thread(target=work, name="tracking", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.05)
        if time.monotonic() - filling.last_sign > stall_seconds:
            filling.abandoned = True
            raise TimeoutError(f"no answer for {stall_seconds:g} seconds")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _faults() -> tuple[type[Exception], ...]:
    """What MLflow raises for a store that does not answer, or an address that it does not know."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, ImportError, ValueError


@dataclass
class _Filling:
    """One filling of a tracking store."""

    uri: str
    store: Store
    graph: Graph
    failed: Mapping[str, str]
    last_sign: float = field(default_factory=time.monotonic)
    abandoned: bool = False

    def run(self) -> int:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with _quiet():
            from mlflow import MlflowClient

            _make_database(self.uri)
            client = MlflowClient(self.uri)
            experiment = self._experiment(client)
            parent = self._parent(client, experiment)
            known = _children(client, experiment, parent)
            self.last_sign = time.monotonic()
            written = sum(self._cell(client, experiment, parent, planned, known) for planned in self.graph.cells)
            self._close(client, parent)
        return written

    def _experiment(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self.graph.suite)
        if found is None:
            # A server decides by itself; a bare database would put pictures into the working directory.
            aside = (self.store.root / "mlartifacts").as_uri() if self.uri.startswith("sqlite:") else None
            return client.create_experiment(self.graph.suite, artifact_location=aside, tags=EXPERIMENT_TAGS)
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _parent(self, client: MlflowClient, experiment: str) -> str:
        digest = graph_digest(self.graph)
        found = client.search_runs([experiment], f"tags.`bridge.graph` = '{digest}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {"bridge.graph": digest, "bridge.suite": self.graph.suite, "mlflow.note.content": NOTE, **surroundings()}
        parent = client.create_run(experiment, tags=tags, run_name=self.graph.suite).info.run_id
        client.log_param(parent, "num_cells", len(self.graph.cells))
        return str(parent)

    def _cell(
        self, client: MlflowClient, experiment: str, parent: str, planned: PlannedCell, known: dict[str, Run]
    ) -> bool:
        """Write one cell's run, unless it is there or has nothing to say yet."""
        cause, done = self.failed.get(planned.id), self.store.has(planned.tasks["score"])
        run = known.get(planned.id)
        if self.abandoned or not (done or cause) or (run and _is_written(run, planned, None if done else cause)):
            return False
        if run:
            client.delete_run(run.info.run_id)
        tracked = track_cell(self.store, self.graph.suite, planned) if done else None
        tags = tracked.tags if tracked else {**cell_tags(self.graph.suite, planned), "bridge.cause": cause or ""}
        name, tags = cell_name(planned), {**tags, "mlflow.parentRunId": parent}
        started = tracked.started if tracked else None
        new = client.create_run(experiment, started, {n: _short(t) for n, t in tags.items()}, run_name=_short(name))
        if tracked:
            _log(client, new.info.run_id, tracked)
        ended = tracked.ended if tracked else None
        client.set_terminated(new.info.run_id, "FINISHED" if tracked else "FAILED", ended)
        self.last_sign = time.monotonic()
        return True

    def _close(self, client: MlflowClient, parent: str) -> None:
        done = sum(self.store.has(cell.tasks["score"]) for cell in self.graph.cells)
        client.log_metric(parent, "finished_cells", done)
        status = "FINISHED" if done == len(self.graph.cells) else "FAILED" if self.failed else "RUNNING"
        client.set_terminated(parent, status) if status != "RUNNING" else client.update_run(parent, status)


def _make_database(uri: str) -> None:
    """Make a database file that is not there yet, whole or not at all: MLflow takes seconds over its tables."""
    from mlflow import MlflowClient

    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:////") or path.exists() or not path.parent.is_dir():
        return
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    MlflowClient(f"sqlite:///{draft}").search_experiments(max_results=1)
    draft.replace(path)


def _children(client: MlflowClient, experiment: str, parent: str) -> dict[str, Run]:
    """The parent's runs by cell."""
    found: dict[str, Run] = {}
    token: str | None = None
    while token is None or token:
        page = client.search_runs(
            [experiment], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=1000, page_token=token
        )
        found |= {run.data.tags["bridge.cell"]: run for run in page if "bridge.cell" in run.data.tags}
        token = cast("str | None", page.token) or ""
    return found


def _is_written(run: Run, planned: PlannedCell, cause: str | None) -> bool:
    """Whether the run says all that is known of the cell; a run left half written has not ended."""
    tags = run.data.tags
    if tags.get("artefact.score") != planned.tasks["score"]:
        return False
    if cause is None:
        return run.info.status == "FINISHED"
    return run.info.status == "FAILED" and tags.get("bridge.cause") == _short(cause)


def _log(client: MlflowClient, run: str, tracked: TrackedCell) -> None:
    from mlflow.entities import Param

    parameters = [Param(name, _short(value)) for name, value in tracked.parameters.items()]
    for batch in _batches(parameters, BATCH_OTHERS):
        client.log_batch(run, params=batch)
    for batch in _batches(list(_metrics(tracked)), BATCH_METRICS):
        client.log_batch(run, metrics=batch)
    client.log_inputs(run, [_dataset(one) for one in tracked.data])
    for path in tracked.files:
        client.log_artifact(run, str(path))
    for path in tracked.adapter:
        client.log_artifact(run, str(path), ADAPTER_FOLDER)


def _dataset(data: TrackedData) -> DatasetInput:
    """A data source as MLflow's pages list it, found by what it was to the cell."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(name=data.name, digest=data.digest, source_type="bridge", source=data.source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", data.context)])


def _metrics(tracked: TrackedCell) -> Iterator[Metric]:
    from mlflow.entities import Metric

    for name, value in tracked.metrics.items():
        yield Metric(_nameable(name), value, tracked.ended, 0)
    for name, points in tracked.curves.items():
        for step, value in points:
            yield Metric(_nameable(name), value, tracked.ended, step)


def _nameable(name: str) -> str:
    return UNNAMEABLE.sub("_", name)[:MOST_CHARACTERS]


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


@contextmanager
def _quiet() -> Generator[None]:
    """Keep what mlflow and alembic log off the terminal: a fault is raised, and told once."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
