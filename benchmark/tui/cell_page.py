"""The page of one cell: parameters, stages, curves, pictures or sentences, its log, and the traceback if it failed."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.style import Style
from textual.widgets import Footer, Static

from benchmark.tui import wording
from benchmark.tui.chart import is_logarithmic, plot
from benchmark.tui.curve import Curve
from benchmark.tui.measures import PREFERRED
from benchmark.tui.mlflow_link import LOCAL, server_of
from benchmark.tui.pictures import Gallery, load_gallery
from benchmark.tui.records import IN_STORE, CellView, TaskState, TaskView, worker_words
from benchmark.tui.sentences import Sentences, load_sentences
from benchmark.tui.state import View
from benchmark.tui.widgets.picture import Picture
from benchmark.tui.widgets.sentence_box import SentenceBox

if TYPE_CHECKING:
    from benchmark.events import TaskFailed

MAX_CURVES, MAX_LOG = 8, 60
CHART_LINES = 4
RIGHT_WIDTH = 46
"""Columns of the right side; as in the style sheet."""


class CellPage(Screen[None]):
    """Everything about one cell."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("left", "turn(-1)", "Secret before", show=False, priority=True),
        Binding("right", "turn(1)", "Next secret", priority=True),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - the type is textual's

    def __init__(self, cell: CellView, view: View, store: Path, now: float) -> None:
        super().__init__()
        self.cell, self.view, self.store, self.now = cell, view, store, now
        self._asked_for = ""

    def compose(self) -> ComposeResult:
        """What was found, and beside it, or below it in a narrow terminal, how it was made."""
        yield Static(id="cell-title")
        with VerticalScroll(id="cell-body"):
            yield Static(id="cell-failure")
            with Horizontal(id="cell-columns"):
                with Vertical(id="cell-left"):
                    yield _section("Measured", "cell-metrics")
                    yield Picture()
                    yield SentenceBox()
                    yield _section("Curves", "cell-curves")
                with Vertical(id="cell-right"):
                    yield _section("Stages", "cell-stages")
                    yield _section("Parameters", "cell-parameters")
                    yield _section("MLflow", "cell-link")
            yield _section("Log", "cell-log")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Draw at once, and read the keys on the text."""
        self.query_one(Picture).border_title = "Truth and reconstruction"
        self.query_one(Picture).display = False
        self.query_one(SentenceBox).display = False
        self.query_one("#cell-body").focus()
        self.show(self.now)

    def on_resize(self) -> None:
        """Fit the curves to the new width."""
        self.call_after_refresh(lambda: self.show(self.now))

    def show(self, now: float) -> None:
        """Draw the cell as it is at `now` (seconds since the epoch)."""
        self.now = now
        texts = {
            "cell-title": self._title(),
            "cell-parameters": self._parameters(),
            "cell-stages": self._stages(),
            "cell-metrics": self._metrics(),
            "cell-curves": self._curves(),
            "cell-failure": self._failure(),
            "cell-link": self._link(),
            "cell-log": self._log(),
        }
        for name, text in texts.items():
            box = self.query_one(f"#{name}", Static)
            box.update(text)
            box.display = bool(text.plain)
        self._look_for_pictures()

    def action_turn(self, by: int) -> None:
        """Show another secret."""
        self.query_one(Picture).turn(by)
        self.query_one(SentenceBox).turn(by)

    # --- pictures -----------------------------------------------------------------------------------------------------

    def _look_for_pictures(self) -> None:
        """Load the pictures once their artefact is there."""
        score = self.cell.tasks.get("score")
        if score is not None and score.state in IN_STORE and self._asked_for != score.key:
            self._asked_for = score.key
            self._load(score.key)

    @work(thread=True, exclusive=True)
    def _load(self, key: str) -> None:
        sentences = load_sentences(self.store, key)
        found = load_gallery(self.store, key) if isinstance(sentences, str) else sentences
        self.app.call_from_thread(self._show_found, found)

    def _show_found(self, found: Gallery | tuple[Sentences, ...] | str) -> None:
        if not self.is_mounted:
            return
        if isinstance(found, tuple):
            self.query_one(SentenceBox).display = True
            self.query_one(SentenceBox).show(found)
        else:
            self.query_one(Picture).display = True
            self.query_one(Picture).show(found)

    # --- texts --------------------------------------------------------------------------------------------------------

    def _title(self) -> Content:
        state = self.cell.state
        told = (f"{wording.sign(state)} {state.value}", wording.style(state))
        name, cell_id = wording.plain(self.view.name_of(self.cell)), wording.plain(self.cell.id)
        return Content.assemble((f" {name}  ", "bold"), told, (f"  cell {cell_id}", "$secondary"))

    def _parameters(self) -> Content:
        width = max([0, *map(len, self.cell.labels)])
        lines = [
            Content.assemble((wording.fit(wording.plain(axis), width), "$secondary"), f"  {wording.plain(label)}")
            for axis, label in self.cell.labels.items()
        ]
        return Content("\n").join(lines)

    def _stages(self) -> Content:
        return Content("\n").join(self._stage(stage, task) for stage, task in self.cell.tasks.items())

    def _stage(self, stage: str, task: TaskView) -> Content:
        told = stage_words(task, self.now)
        name = wording.fit(wording.plain(stage), 11)
        return Content.assemble((f"{wording.sign(task.state)} {name}", wording.style(task.state)), f" {told}")

    def _metrics(self) -> Content:
        measured = self.cell.metrics
        lines: list[Content] = []
        known = [name for name in PREFERRED if name in measured]
        for name in dict.fromkeys([*known, *measured]):
            value = measured[name]
            if name.endswith("_mean_image"):
                continue
            control = measured.get(f"{name}_mean_image")
            unit = wording.fit(wording.UNITS.get(name, ""), 3)
            beside = f"  mean image {wording.metric(name, control)}{unit}" if control is not None else ""
            text = f"{wording.fit(wording.metric(name, value), 8, right=True)}{unit}"
            lines.append(
                Content.assemble(f"{wording.fit(wording.plain(name), 30)} ", (text, "bold"), (beside, "$secondary"))
            )
        return Content("\n").join(lines)

    def _curves(self) -> Content:
        width = self.size.width - (RIGHT_WIDTH if self.has_class("-wide") else 0) - 6
        drawn = [
            chart(f"{stage} {name}", curve, width)
            for stage, task in self.cell.tasks.items()
            for name, curve in task.curves.items()
        ]
        return Content("\n").join(drawn[:MAX_CURVES])

    def _link(self) -> Content:
        run = self.view.run
        if run is None:
            return Content("")
        server = server_of(run.tracking_uri)
        start = " (`bridge ui`)" if server == LOCAL else ""
        address = Content.styled(wording.plain(server), Style(link=server, underline=True))
        tag = f'tags."bridge.cell" = "{wording.plain(self.cell.id)}"'
        return Content.assemble("key o, ", address, start, "\n", (tag, "$secondary"))

    def _log(self) -> Content:
        """What happened to its tasks, in order of time."""
        start = self.view.run.time if self.view.run else 0.0
        moments = [(time, stage, told) for stage, task in self.cell.tasks.items() for time, told in task.history]
        lines = [
            Content.assemble(
                (wording.fit(wording.duration(max(0.0, time - start)), 8, right=True), "$secondary"),
                f"  {wording.fit(wording.plain(stage), 11)} ",
                (wording.plain(told), "$error" if told.startswith("failed") else ""),
            )
            for time, stage, told in sorted(moments)
        ]
        return Content("\n").join(lines[-MAX_LOG:])

    def _failure(self) -> Content:
        failures = [(stage, task.failure) for stage, task in self.cell.tasks.items() if task.failure is not None]
        final = [(stage, failure) for stage, failure in failures if failure.final]
        return Content("\n").join(_failure_text(stage, failure) for stage, failure in final or failures)


def chart(name: str, curve: Curve, width: int) -> Content:
    """A curve under its name and last value, between its bounds."""
    values = list(curve.values) + ([curve.last] if curve.seen else [])
    scale = ", logarithmic" if is_logarithmic(values) else ""
    head = Content.assemble(
        (wording.plain(name), "bold"),
        f"  {wording.number(curve.last)}",
        (f"  {curve.seen} points{scale}", "$secondary"),
    )
    finite = [value for value in values if math.isfinite(value)]
    lines = plot(values, min(100, max(8, width - 10)), CHART_LINES)
    if not lines:
        return head
    margins = [wording.number(max(finite), 3), *[""] * (len(lines) - 2), wording.number(min(finite), 3)]
    drawn = [
        Content.assemble((wording.fit(margin, 8, right=True), "$secondary"), " ", (line, "$accent"))
        for margin, line in zip(margins, lines, strict=True)
    ]
    return Content("\n").join([head, *drawn])


def _section(title: str, name: str) -> Static:
    box = Static(id=name, classes="section")
    box.border_title = title
    return box


def _failure_text(stage: str, failure: "TaskFailed") -> Content:
    head = f"{wording.SIGNS['failed']} {stage}, attempt {failure.attempt}: {wording.plain(failure.cause)}"
    if not failure.final:
        head += " (tried again)"
    return Content.assemble(
        (head, "bold $error"),
        "\n",
        wording.plain(failure.message),
        "\n",
        (wording.plain_lines(failure.traceback), "$secondary"),
    )


def stage_words(task: TaskView, now: float) -> str:
    """How a stage stands, in words."""
    match task.state:
        case TaskState.RUNNING:
            spent = wording.duration(now - task.started) if task.started is not None else ""
            step = f"step {task.step} of {task.total}, " if task.total else ""
            return f"{step}{spent} on {wording.plain(worker_words(task.worker))}"
        case TaskState.FINISHED:
            return f"{wording.duration(task.seconds)} on {wording.plain(worker_words(task.worker))}"
        case TaskState.CACHED:
            return "was in the store"
        case TaskState.SKIPPED:
            return f"not run, since {wording.plain(task.because)[:12]} failed" if task.because else "cancelled"
        case TaskState.FAILED:
            return wording.plain(task.failure.cause) if task.failure else "failed"
        case TaskState.WAITING:
            return f"waiting, {wording.plain(task.why)}" if task.why else "waiting"
