"""What an audit says, as data: findings, verdicts on attacks, and what was not looked at."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = "1.0"
DISCLAIMER = (
    "An audit finds what it looks for. That nothing was found here, or that an attack does not apply, "
    "is no proof that this adapter gives nothing away."
)


class Severity(StrEnum):
    """How much a finding gives away, least first."""

    INFO = "info"
    """Told for completeness; reveals nothing of the data by itself."""
    LOW = "low"
    """Circumstances: paths, names, a recipe."""
    MEDIUM = "medium"
    """What an attack builds on, or facts about the training set."""
    HIGH = "high"
    """Content of the training data, or an exact function of it, stands in the folder."""
    CRITICAL = "critical"
    """Training data was read out of the adapter during this audit."""

    @property
    def level(self) -> int:
        """From 0 (info) to 4 (critical)."""
        return list(Severity).index(self)


class Tier(StrEnum):
    """What has to be at hand."""

    FOLDER = "folder"
    BASE = "base"
    ZOO = "zoo"
    CANDIDATES = "candidates"
    ATTACK = "attack"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(_Model):
    """One thing that the adapter gives away."""

    rule: str
    """Stable name, such as `embedding-rows`."""
    title: str
    severity: Severity
    tier: Tier = Tier.FOLDER
    by_construction: bool = True
    """True where it stands in the files; False where an attack or an estimate has made it."""
    reveals: str
    evidence: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    """Files or modules, the first of them."""
    num_places: int = 0
    """All of them."""
    recovered: tuple[str, ...] = ()
    """Training data that was read out: tokens, or sentences."""
    numbers: dict[str, float] = Field(default_factory=dict)
    remedy: str


Status = Literal["applicable", "not_applicable", "out_of_calibration"]


class Verdict(_Model):
    """Whether an attack of this project applies to the adapter."""

    attack: str
    status: Status
    """`out_of_calibration`: it may apply, but was never measured on such an adapter."""
    why: str
    needs: Tier
    """The tier that runs it."""


class Gap(_Model):
    """Something that was not analysed."""

    what: str
    why: str


class ModuleRow(_Model):
    """One adapted module, by its numbers."""

    name: str
    rank: int
    rank_of_b: int
    """Numerical rank of B: at most the number of independent inputs that were seen, under a linear optimiser."""
    width: int
    """Columns of A."""
    height: int
    """Rows of B."""
    norm_a: float
    norm_b: float
    row_cosine: float
    """Root mean square cosine between rows of A, times the root of `width`: 1 for random rows, 0 for orthogonal."""
    column_cosine: float
    """The same for the columns of B."""
    mirrored: float
    """Median |cosine| between a row of A's first half and its fellow in the second half; 0 where there is none."""


class Summary(_Model):
    """What was audited."""

    name: str
    digest: str
    """SHA-256 of the weights file."""
    format: str
    method: str
    base_model: str | None
    num_tensors: int
    num_modules: int
    num_parameters: int
    ranks: tuple[int, ...]
    dtypes: tuple[str, ...]
    weights_bytes: int


class Report(_Model):
    """An audit, whole."""

    schema_version: str = SCHEMA_VERSION
    tool_version: str
    adapter: Summary
    tiers: tuple[Tier, ...]
    """Those that were run."""
    findings: tuple[Finding, ...]
    """Most severe first."""
    verdicts: tuple[Verdict, ...]
    not_analysed: tuple[Gap, ...]
    modules: tuple[ModuleRow, ...]
    disclaimer: str = DISCLAIMER

    def at_or_above(self, severity: Severity) -> tuple[Finding, ...]:
        """Findings at least so severe."""
        return tuple(one for one in self.findings if one.severity.level >= severity.level)


def json_schema() -> dict[str, object]:
    """JSON schema of `bridge audit --format json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Report.model_json_schema(mode="serialization")}
