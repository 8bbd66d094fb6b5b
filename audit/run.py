"""An audit from beginning to end, in tiers by what is at hand."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from audit.checks import findings_by_construction
from audit.report import Finding, Gap, Report, Tier
from audit.subject import Subject, read_subject
from audit.verdicts import verdicts_on

MOST_ROWS = 2000


def audit_adapter(path: Path, base: str | None = None, *, attack: bool = False, max_tokens: int = 64) -> Report:
    """Audit an adapter's folder; with a base model also what its first layer proves, and what an attack gets back.

    Raises `UnknownName` or `UnsafeAdapter` where it can not be read, `InvalidInput` where the base does not fit.
    """
    subject = read_subject(path)
    findings, gaps, tiers = list(findings_by_construction(subject)), [], [Tier.FOLDER]
    if base is not None:
        from audit.based import findings_with_base

        more, missing = findings_with_base(subject, base, attack=attack, max_tokens=max_tokens)
        findings += more
        gaps += missing
        tiers += [Tier.BASE, Tier.ATTACK] if attack else [Tier.BASE]
    return assemble(subject, findings, gaps, tiers)


def assemble(subject: Subject, findings: Sequence[Finding], gaps: Sequence[Gap], tiers: Sequence[Tier]) -> Report:
    """The report; findings of further tiers may come from anywhere."""
    ordered = sorted(findings, key=lambda one: (-one.severity.level, one.rule))
    rows = subject.modules[:MOST_ROWS]
    return Report(
        tool_version=tool_version(),
        adapter=subject.summary(),
        tiers=tuple(tiers),
        findings=tuple(ordered),
        verdicts=verdicts_on(subject),
        not_analysed=(*subject.method.gaps, *subject.gaps, *gaps),
        modules=rows,
    )


def tool_version() -> str:
    """Version of this project, as it is installed."""
    try:
        return version("lora-gradient-bridge")
    except PackageNotFoundError:
        return "0"
