"""Words, signs and colours that all screens share. Untrusted text passes `plain` and is never read as markup."""

from rich.cells import cell_len, set_cell_size

from benchmark.tui.records import CellState, TaskState

SIGNS = {
    "waiting": "·",
    "running": "▸",
    "cancelled": "×",
    "skipped": "-",
    "failed": "✗",
    "cached": "=",
    "finished": "✓",
}
"""State -> the sign that says it without colour."""

STYLES = {
    "waiting": "$secondary",
    "running": "$accent",
    "cancelled": "$warning",
    "skipped": "$warning",
    "failed": "$error",
    "cached": "$success",
    "finished": "$success",
}

UNITS = {"psnr": " dB", "psnr_mean_image": " dB"}

TITLES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "mse": "MSE",
    "gradient_cosine": "cosine",
    "feature_distance": "distance",
    "exact_match": "exact",
    "rougeL": "ROUGE-L",
    "token_accuracy": "tokens",
    "secrets_found": "marked",
}


def title(metric: str) -> str:
    """A metric's name on a heading."""
    return TITLES.get(metric, plain(metric))


def titled(metric: str) -> str:
    """As `title`, with the unit."""
    return title(metric) + (" in dB" if metric in UNITS else "")


def plain(text: str) -> str:
    """One printable line: control and format characters out, white space and line ends as single blanks."""
    kept = [c for c in text if c.isprintable() or c.isspace()]
    return " ".join("".join(kept).split())


def plain_lines(text: str) -> str:
    """As `plain`, but line ends and indentation stay: for tracebacks."""
    return "".join([c for c in text.expandtabs(4) if c == "\n" or c.isprintable()]).strip("\n")


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` cut with `…` or padded with blanks to exactly `width` terminal columns."""
    width = max(0, width)
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…" if width else ""
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding


def sign(state: CellState | TaskState) -> str:
    """The one-column sign of a state."""
    return SIGNS[state.value]


def style(state: CellState | TaskState) -> str:
    """The style of a state."""
    return STYLES[state.value]


def duration(seconds: float | None) -> str:
    """`0.4 s`, `41 s`, `12:31`, `3:07:12`, `2 d 04 h`; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours < 24 else f"{hours // 24} d {hours % 24:02d} h"


def rough(seconds: float) -> str:
    """A duration for an estimate: `under 1 min`, `8 min`, `3 h 10 min`."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under 1 min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"


def coarse(seconds: float) -> str:
    """A duration for an estimate, in at most six characters: `8 s`, `12 min`, `3.2 h`, `12 d`."""
    if seconds < 60:
        return f"{round(seconds)} s"
    if seconds < 5_940:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def number(value: float | None, digits: int = 4) -> str:
    """A number in few characters; a dash for None, which means not measured."""
    if value is None:
        return "-"
    return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:.{digits}g}"


def metric(name: str, value: float | None) -> str:
    """A metric's value with its usual digits: decibels with one, ratios with three."""
    if value is None:
        return "-"
    return f"{value:.1f}" if name.startswith("psnr") else f"{value:.3f}" if 1e-3 <= abs(value) < 100 else number(value)


def plural(count: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def memory(count: float) -> str:
    """Bytes as `640 MiB` or `3.2 GiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def bar(fraction: float, width: int) -> tuple[str, str]:
    """The done and the open part of a bar of `width` columns."""
    done = max(0, min(width, int(fraction * width + 1e-9)))
    return "━" * done, "─" * (width - done)
