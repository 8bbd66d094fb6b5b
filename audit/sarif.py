"""The report as SARIF 2.1.0, which code hosts show as alerts."""

from typing import Any

from audit.report import Finding, Report, Severity

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "none",
}
SCORES = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.0",
    Severity.LOW: "2.0",
    Severity.INFO: "0.0",
}
"""`security-severity`, as code hosts sort alerts."""


def as_sarif(report: Report, uri: str) -> dict[str, Any]:
    """The report; `uri` is the adapter's folder, relative to where the check runs."""
    rules = {one.rule: one for one in reversed(report.findings)}
    order = sorted(rules)
    driver = {
        "name": "bridge audit",
        "version": report.tool_version,
        "rules": [_rule(rules[name]) for name in order],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(one, order.index(one.rule), uri) for one in report.findings],
        "properties": {
            "disclaimer": report.disclaimer,
            "verdicts": [one.model_dump(mode="json") for one in report.verdicts],
            "notAnalysed": [one.model_dump(mode="json") for one in report.not_analysed],
        },
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.rule,
        "shortDescription": {"text": finding.rule.replace("-", " ")},
        "fullDescription": {"text": f"Reveals {finding.reveals}."},
        "help": {"text": f"Remedy: {finding.remedy}."},
        "defaultConfiguration": {"level": LEVELS[finding.severity]},
        "properties": {"tags": ["privacy", "training-data"], "security-severity": SCORES[finding.severity]},
    }


def _result(finding: Finding, index: int, uri: str) -> dict[str, Any]:
    lines = [f"{finding.title}.", f"Reveals {finding.reveals}.", *finding.evidence, *finding.recovered]
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": LEVELS[finding.severity],
        "kind": "informational" if finding.severity is Severity.INFO else "fail",
        "message": {"text": "\n".join(lines)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}}}],
        "properties": {"severity": finding.severity.value, "tier": finding.tier.value, "numbers": finding.numbers},
    }
