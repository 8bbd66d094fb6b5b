"""A curve as lines of braille characters: two points a column, four a line."""

import math
from collections.abc import Sequence

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Row and column inside a character -> its bit."""
BLANK = 0x2800
LOG_RATIO = 50.0
"""A positive curve that spans more than this is drawn by its logarithm."""


def is_logarithmic(values: Sequence[float]) -> bool:
    """Whether the curve is drawn by its logarithm."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > LOG_RATIO


def plot(values: Sequence[float], width: int, height: int) -> list[str]:
    """`height` lines of at most `width` characters; what is no finite number leaves a gap. Empty without a value."""
    scaled = [_scaled(value, is_logarithmic(values)) for value in values]
    finite = [value for value in scaled if value is not None]
    if not finite or width < 1 or height < 1:
        return []
    low, high, rows = min(finite), max(finite), 4 * height
    cells = [[BLANK] * width for _ in range(height)]
    before: int | None = None
    for x, value in enumerate(_resampled(scaled, 2 * width)):
        if value is None:
            before = None
            continue
        y = rows - 1 - round((value - low) / (high - low) * (rows - 1)) if high > low else rows // 2
        start, stop = sorted((y, y if before is None else before))
        for row in range(start, stop + 1):
            cells[row // 4][x // 2] |= DOTS[row % 4][x % 2]
        before = y
    return ["".join(map(chr, line)) for line in cells]


def _scaled(value: float, logarithmic: bool) -> float | None:
    if not math.isfinite(value):
        return None
    return math.log(value) if logarithmic else value


def _resampled(values: Sequence[float | None], count: int) -> list[float | None]:
    """`count` values, the last of them the curve's last; between points the nearest."""
    if len(values) == 1:
        return list(values)
    return [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]
