"""What opens above the screens: the question before leaving a run, and the help."""

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from benchmark.tui import wording

Choice = Literal["stop", "leave", "stay"]


class LeaveDialogue(ModalScreen[Choice]):
    """The run goes on: stop it, leave it running, or stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "choose('stop')", "Stop the run"),
        Binding("l", "choose('leave')", "Leave it running"),
        Binding("escape,c,q", "choose('stay')", "Cancel"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def compose(self) -> ComposeResult:
        """A question and three buttons."""
        with Vertical(classes="dialogue"):
            yield Static(Content.styled("The run is still going on.", "bold"))
            yield Static("Stopping keeps what is finished; run again, it goes on from there.")
            with Horizontal():
                yield Button("Stop the run (s)", id="stop", variant="error", compact=True)
                yield Button("Leave it running (l)", id="leave", variant="primary", compact=True)
                yield Button("Cancel (esc)", id="stay", compact=True)

    def on_mount(self) -> None:
        """The harmless choice is the one that Enter takes."""
        self.query_one("#stay").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """A button was pressed."""
        match event.button.id:
            case "stop":
                self.dismiss("stop")
            case "leave":
                self.dismiss("leave")
            case _:
                self.dismiss("stay")

    def action_choose(self, choice: Choice) -> None:
        """A key was pressed."""
        self.dismiss(choice)


class Confirm(ModalScreen[bool]):
    """A question that Enter answers with no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "choose(True)", "Yes"),
        Binding("escape,n,q", "choose(False)", "No"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, question: str, consequence: str) -> None:
        super().__init__()
        self.question, self.consequence = question, consequence

    def compose(self) -> ComposeResult:
        """A question and two buttons."""
        with Vertical(classes="dialogue"):
            yield Static(Content.styled(wording.plain(self.question), "bold"))
            yield Static(Content(wording.plain(self.consequence)))
            with Horizontal():
                yield Button("Yes (y)", id="yes", variant="error", compact=True)
                yield Button("No (esc)", id="no", compact=True)

    def on_mount(self) -> None:
        """The harmless choice is the one that Enter takes."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """A button was pressed."""
        self.dismiss(event.button.id == "yes")

    def action_choose(self, choice: bool) -> None:
        """A key was pressed."""
        self.dismiss(choice)


KEYS = (
    ("1 .. 6", "overview, cells, workers, results, log, graph"),
    ("/", 'filter: words, rank:8, state:failed, recipe:"one step"'),
    ("s  S", "sort by the next column, turn the order round"),
    ("enter", "open the cell under the cursor"),
    ("escape", "back; leave the filter"),
    ("← →", "pictures of another secret; the rest of long log lines"),
    ("a  m", "other axes for the heat map, other metric"),
    ("p", "pause the run, go on: running tasks end as they would"),
    ("r", "try again: the cell, on the overview all that failed"),
    ("x", "cancel the cell; the palette has: stop the run"),
    ("o", "open the cell in MLflow"),
    ("f", "show the failed cells"),
    ("d", "dark or light"),
    ("ctrl+p", "all commands"),
    ("q", "quit; asks while the run goes on"),
    ("mouse", "tabs, headings, cells, squares, phases, keys below"),
)


class Help(ModalScreen[None]):
    """Keys and signs."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """Two lists."""
        keys = [Content.assemble((wording.fit(key, 11), "bold $accent"), told) for key, told in KEYS]
        signs = [Content.assemble((sign, wording.STYLES[state]), f" {state}") for state, sign in wording.SIGNS.items()]
        with VerticalScroll(classes="dialogue", id="help"):
            yield Static(Content.styled("Keys", "bold"))
            yield Static(Content("\n").join(keys))
            yield Static(Content.styled("Signs", "bold"))
            yield Static(Content("  ").join(signs))
