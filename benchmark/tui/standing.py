"""How a run stands, as one sign and some words. Pure."""

from dataclasses import dataclass

from benchmark.tui.state import View

END_WORDS = {0: "finished", 1: "finished with failures", 130: "interrupted"}


@dataclass(frozen=True)
class Standing:
    """How the run stands: a sign, a word and a style."""

    sign: str
    word: str
    style: str
    over: bool = False
    """Nothing more will come."""


def standing_of(view: View, exit_code: int | None, stopping: bool, gone: bool) -> Standing:
    """`exit_code` is the driver's where it is known; `gone`: it died without a word."""
    code = view.finish.exit_code if exit_code is None and view.finish is not None else exit_code
    if code is not None:
        sign, style = ("✓", "$success") if code == 0 else ("✗", "$error")
        return Standing(sign, _end_words(code, view), style, over=True)
    if stopping:
        return Standing("■", "stopping", "$warning")
    if view.run is None:
        return Standing("·", "waiting for the journal", "$secondary")
    if gone:
        return Standing("✗", "its driver is gone", "$error", over=True)
    if view.paused:
        return Standing("‖", f"paused, {len(view.running)} running on" if view.running else "paused", "$warning")
    return Standing("▸", "running", "$accent")


def _end_words(code: int, view: View) -> str:
    only_cancelled = code == 1 and view.finish and view.finish.cancelled_cells and not view.finish.failed_cells
    return (
        "finished, but for cancelled cells" if only_cancelled else END_WORDS.get(code, f"ended with exit code {code}")
    )
