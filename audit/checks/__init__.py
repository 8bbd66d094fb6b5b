"""What stands in an adapter's folder by construction, and needs no attack: one file a kind of finding."""

from collections.abc import Iterator

from audit.checks import beginnings, files, metadata, optimiser, seeds, weights
from audit.report import Finding
from audit.subject import Subject


def findings_by_construction(subject: Subject) -> tuple[Finding, ...]:
    """Everything that the folder alone tells, most severe first."""
    found = sorted(_all(subject), key=lambda one: (-one.severity.level, one.rule))
    return tuple(found)


def _all(subject: Subject) -> Iterator[Finding]:
    for check in (files, metadata, beginnings, seeds, weights, optimiser):
        yield from check.findings(subject)
