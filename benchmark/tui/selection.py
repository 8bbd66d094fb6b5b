"""Which cells a table shows, and in which order. Pure functions."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmark.tui.axes import natural
from benchmark.tui.records import CellState, CellView

STATE_ORDER = (
    CellState.FAILED,
    CellState.RUNNING,
    CellState.WAITING,
    CellState.CANCELLED,
    CellState.SKIPPED,
    CellState.FINISHED,
)
"""What needs a person first."""

WORDS = re.compile(r'(?:"[^"]*"?|[^"\s])+')
"""Blanks part words, but not inside quotes."""

SortKey = tuple[int, float, str]


@dataclass(frozen=True)
class Order:
    """A column to sort by; without one, the plan's order."""

    column: str = ""
    reverse: bool = False


def matcher(query: str) -> Callable[[CellView], bool]:
    """Test a cell against `query`: words that must all be in it, `axis:label` and `state:failed` for exact matches.

    A label with blanks stands in quotes: `recipe:"one SGD step"`.
    """
    words = [word.replace('"', "") for word in WORDS.findall(query.casefold())]
    exact = [tuple(word.split(":", 1)) for word in words if ":" in word]
    loose = [word for word in words if ":" not in word]

    def matches(cell: CellView) -> bool:
        state = cell.state.value
        if any((state if axis == "state" else cell.labels.get(axis, "")).casefold() != label for axis, label in exact):
            return False
        if not loose:
            return True
        text = " ".join([*cell.labels.values(), state, cell.id, cell.cause]).casefold()
        return all(word in text for word in loose)

    return matches


def select(cells: Iterable[CellView], query: str, order: Order) -> list[CellView]:
    """The cells that `query` matches, in `order`; cells without a value of the column come last either way."""
    chosen = list(filter(matcher(query), cells)) if query.strip() else list(cells)
    chosen.sort(key=lambda cell: cell.position)
    if not order.column:
        return chosen[::-1] if order.reverse else chosen
    keyed = [(_sort_key(cell, order.column), cell) for cell in chosen]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0] or (0, 0.0, ""), reverse=order.reverse)
    return [cell for _, cell in known] + [cell for key, cell in keyed if key is None]


def _sort_key(cell: CellView, column: str) -> SortKey | None:
    if column == "state":
        return STATE_ORDER.index(cell.state), 0.0, cell.running_stage
    if column == "cell":
        return 0, 0.0, cell.id
    if column in cell.labels:
        return natural(cell.labels[column])
    value = cell.metrics.get(column)
    return None if value is None or math.isnan(value) else (0, value, "")
