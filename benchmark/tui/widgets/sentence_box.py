"""Sentences of a text cell: truth above what came back, word by word, and what a control would say."""

from textual.content import Content
from textual.widgets import Static

from benchmark.tui import wording
from benchmark.tui.sentences import Sentences, compared


class SentenceBox(Static):
    """The sentences of one secret; `turn` goes to the next secret."""

    def __init__(self) -> None:
        super().__init__(id="sentences")
        self.secrets: tuple[Sentences, ...] = ()
        self.secret = 0
        self.border_title = "Truth and reconstruction"

    def show(self, secrets: tuple[Sentences, ...]) -> None:
        """Draw the sentences."""
        self.secrets = secrets
        self._draw()

    def turn(self, by: int) -> None:
        """Show another secret."""
        if self.secrets:
            self.secret = (self.secret + by) % len(self.secrets)
            self._draw()

    def _draw(self) -> None:
        self.update(told(self.secrets, self.secret) if self.secrets else Content("the artefact holds no sentences"))


def told(secrets: tuple[Sentences, ...], number: int) -> Content:
    """Secret `number` of `secrets`: its truth, what came back, with wrong words marked, and the control."""
    one = secrets[number]
    turn = "   (← → for others)" if len(secrets) > 1 else ""
    verdict = f", the attack says: {wording.plain(one.verdict)}" if one.verdict else ""
    lines = [Content(f"secret {number + 1} of {len(secrets)}{verdict}{turn}")]
    for place, truth in enumerate(one.truth):
        guess = one.recovered[place] if place < len(one.recovered) else ""
        lines.append(_line("truth", Content(wording.plain(truth))))
        lines.append(_line("recovered", marked(wording.plain(truth), wording.plain(guess))))
        if place < len(one.control):
            lines.append(_line("no release", Content.styled(wording.plain(one.control[place]), "$secondary")))
    return Content("\n").join(lines)


def marked(truth: str, guess: str) -> Content:
    """`guess` with its right words as they are, and its wrong ones struck in red: to be told without colour too."""
    if not guess:
        return Content.styled("nothing", "$error")
    words = [Content.styled(word, "$success" if right else "$error strike") for word, right in compared(truth, guess)]
    return Content(" ").join(words)


def _line(name: str, content: Content) -> Content:
    return Content.assemble((wording.fit(name, 11), "$secondary"), content)
