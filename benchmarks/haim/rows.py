"""What one release gave: a row of the table."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bridge_core.baselines.haim.gate import holds
from reports.estimate import half_width


@dataclass(frozen=True)
class Row:
    """One case at one number of steps; lists hold a number a training image."""

    case: str
    equation: str
    """`homogeneous`, `decayed` or `kernel`."""
    steps: int
    residuals: list[float]
    """Of the oracle gate, a number a release."""
    residuals_strangers: list[float]
    imbalances: list[float] = field(default_factory=list[float])
    """Public: |A A^T - B^T B| over the sum of the norms, a number a release; none for whole weights."""
    psnr: list[float] = field(default_factory=list[float])
    """DB of the nearest reconstruction, where the attack was run."""
    psnr_null: list[float] = field(default_factory=list[float])
    """The same for as many held-out images."""
    ssim: list[float] = field(default_factory=list[float])
    ssim_null: list[float] = field(default_factory=list[float])
    psnr_mean_image: list[float] = field(default_factory=list[float])
    psnr_bridge: list[float] = field(default_factory=list[float])
    psnr_bridge_start: list[float] = field(default_factory=list[float])
    bridge: str = ""
    """Why there is no figure of the bridge."""

    @property
    def applicable(self) -> bool:
        """True where the gate opens for every release."""
        pairs = zip(self.residuals, self.residuals_strangers, strict=True)
        return bool(self.residuals) and all(holds(*pair) for pair in pairs)


def mean(values: list[float]) -> float:
    """The arithmetic mean; NaN of nothing."""
    return sum(values) / len(values) if values else float("nan")


def interval(values: list[float], digits: int = 1) -> str:
    """`mean ± 95 % (n)` over the values, Student's t; a dash of nothing."""
    if not values:
        return "–"
    half = half_width(values) if len(values) > 1 else None
    error = "" if half is None else f" ± {half:.{digits}f}"
    return f"{mean(values):.{digits}f}{error} ({len(values)})"


def write_rows(rows: list[Row], path: Path) -> None:
    """As JSON, so that table and figure can be made again."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote."""
    return [Row(**row) for row in json.loads(path.read_text())]
