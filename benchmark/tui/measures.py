"""What a run measures: which metrics there are to show, the most telling first, and their scales. Pure functions."""

from benchmark.tui.state import View

PREFERRED = (
    "psnr",
    "exact_match",
    "ssim",
    "rougeL",
    "token_accuracy",
    "secrets_found",
    "mse",
    "gradient_cosine",
)
SCALES = {"psnr": (8.0, 40.0), "mse": (0.1, 0.0)}
"""Metric -> its values at the cold and the hot end of a heat map."""
SHARE = (0.0, 1.0)


def measures_of(view: View) -> tuple[str, ...]:
    """The metrics that finished cells have told, in the order of preference; never empty."""
    return tuple(name for name in PREFERRED if name in view.metric_names) or PREFERRED[:1]


def measure(view: View, turn: int) -> str:
    """The metric shown after `turn` turns."""
    names = measures_of(view)
    return names[turn % len(names)]


def heat(metric: str, value: float) -> float:
    """Where `value` stands between the cold and the hot end, from 0 to 1."""
    cold, hot = SCALES.get(metric, SHARE)
    return min(1.0, max(0.0, (value - cold) / (hot - cold)))
