"""The page of one cell: parameters, stages, curves, pictures, and the traceback if it failed."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from benchmark.tui import wording
from benchmark.tui.pictures import Gallery, load_gallery
from benchmark.tui.records import IN_STORE, CellView, TaskState, TaskView
from benchmark.tui.widgets.picture import Picture
from benchmark.tui.widgets.workers import curve_lines

if TYPE_CHECKING:
    from benchmark.events import TaskFailed

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

    def __init__(self, cell: CellView, name: str, store: Path) -> None:
        super().__init__()
        self.cell = cell
        self.cell_name = name
        self.store = store
        self.now = 0.0
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
                    yield _section("Curves", "cell-curves")
                with Vertical(id="cell-right"):
                    yield _section("Stages", "cell-stages")
                    yield _section("Parameters", "cell-parameters")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Draw at once, and read the keys on the text."""
        self.query_one(Picture).border_title = "Truth and reconstruction"
        self.query_one(Picture).display = False
        self.query_one("#cell-body").focus()
        self.show(self.now)

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
        }
        for name, text in texts.items():
            box = self.query_one(f"#{name}", Static)
            box.update(text)
            box.display = bool(text.plain)
        self._look_for_pictures()

    def action_turn(self, by: int) -> None:
        """Show the pictures of another secret."""
        self.query_one(Picture).turn(by)

    # --- pictures -----------------------------------------------------------------------------------------------------

    def _look_for_pictures(self) -> None:
        """Load the pictures once their artefact is there."""
        score = self.cell.tasks.get("score")
        if score is not None and score.state in IN_STORE and self._asked_for != score.key:
            self._asked_for = score.key
            self._load(score.key)

    @work(thread=True, exclusive=True)
    def _load(self, key: str) -> None:
        gallery = load_gallery(self.store, key)
        self.app.call_from_thread(self._show_pictures, gallery)

    def _show_pictures(self, gallery: Gallery | str) -> None:
        if self.is_mounted:
            self.query_one(Picture).display = True
            self.query_one(Picture).show(gallery)

    # --- texts --------------------------------------------------------------------------------------------------------

    def _title(self) -> Content:
        state = self.cell.state
        told = (f"{wording.sign(state)} {state.value}", wording.style(state))
        name, cell_id = wording.plain(self.cell_name), wording.plain(self.cell.id)
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
        for name, value in measured.items():
            if name.endswith("_mean_image"):
                continue
            control = measured.get(f"{name}_mean_image")
            unit = wording.fit(wording.UNITS.get(name, ""), 3)
            beside = f"  mean image {wording.metric(name, control)}{unit}" if control is not None else ""
            text = f"{wording.fit(wording.metric(name, value), 8, right=True)}{unit}"
            lines.append(
                Content.assemble(f"{wording.fit(wording.plain(name), 24)} ", (text, "bold"), (beside, "$secondary"))
            )
        return Content("\n").join(lines)

    def _curves(self) -> Content:
        width = self.size.width - (RIGHT_WIDTH if self.has_class("-wide") else 0) - 16
        lines = [
            Content.assemble((wording.fit(wording.plain(stage), 11), "$secondary"), line)
            for stage, task in self.cell.tasks.items()
            for line in curve_lines(task, width)
        ]
        return Content("\n").join(lines)

    def _failure(self) -> Content:
        failures = [(stage, task.failure) for stage, task in self.cell.tasks.items() if task.failure is not None]
        final = [(stage, failure) for stage, failure in failures if failure.final]
        return Content("\n").join(_failure_text(stage, failure) for stage, failure in final or failures)


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
            return f"{step}{spent} on {wording.plain(task.worker)}"
        case TaskState.FINISHED:
            return f"{wording.duration(task.seconds)} on {wording.plain(task.worker)}"
        case TaskState.CACHED:
            return "was in the store"
        case TaskState.SKIPPED:
            return f"not run, since {wording.plain(task.because)[:12]} failed"
        case TaskState.FAILED:
            return wording.plain(task.failure.cause) if task.failure else "failed"
        case TaskState.WAITING:
            return "waiting"
