"""A metric's curve in bounded memory."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_POINTS = 128


@dataclass(slots=True)
class Curve:
    """At most `MAX_POINTS` evenly spaced values of a metric; when they are full, every second one is dropped."""

    values: "array[float]" = field(default_factory=lambda: array("d"))
    last: float = float("nan")
    seen: int = 0
    stride: int = 1
    """One of so many values is kept."""

    def add(self, value: float) -> None:
        """Append a value."""
        self.last = value
        if self.seen % self.stride == 0:
            if len(self.values) == MAX_POINTS:
                self.values = self.values[::2]
                self.stride *= 2
            if self.seen % self.stride == 0:
                self.values.append(value)
        self.seen += 1


BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """`values` as a line of at most `width` bars; a value that is no finite number is drawn as `!`."""
    if not values or width < 1:
        return ""
    num_bars = min(width, len(values))
    sampled = [values[index * len(values) // num_bars] for index in range(num_bars - 1)] + [values[-1]]
    finite = [value for value in sampled if abs(value) < float("inf")]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((v - low) * scale)] if abs(v) < float("inf") else "!" for v in sampled)
