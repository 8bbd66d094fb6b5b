"""The report on a terminal: reads at 80 columns as at 120."""

from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from audit.report import Finding, Report, Severity, Verdict

STYLES = {
    Severity.CRITICAL: "bold white on red",
    Severity.HIGH: "bold red",
    Severity.MEDIUM: "bold yellow",
    Severity.LOW: "cyan",
    Severity.INFO: "dim",
}
STATUS = {
    "applicable": ("applies", "bold red"),
    "not_applicable": ("does not apply", "dim"),
    "out_of_calibration": ("not measured", "yellow"),
}
WIDEST = 110


def print_report(report: Report, console: Console) -> None:
    """Write the report to `console`."""
    width = min(console.width, WIDEST)
    console.print(Group(*_parts(report)), width=width, highlight=False)


def _parts(report: Report) -> Iterator[RenderableType]:
    yield Text(f"Audit of {report.adapter.name}", style="bold")
    yield _summary(report)
    yield Text()
    yield Rule(Text(f" Findings: {counted(report)} ", style="bold"), align="left", characters="─")
    if not report.findings:
        yield Text("nothing of what was looked for", style="dim")
    for finding in report.findings:
        yield from _finding(finding)
    yield Text()
    yield Rule(Text(" Attacks ", style="bold"), align="left", characters="─")
    yield _verdicts(report.verdicts)
    if report.not_analysed:
        yield Rule(Text(" Not analysed ", style="bold"), align="left", characters="─")
        for gap in report.not_analysed:
            yield Padding(Text.assemble((gap.what, "bold"), f": {gap.why}"), (0, 0, 0, 2))
        yield Text()
    yield Text(report.disclaimer, style="italic")


def counted(report: Report) -> str:
    """Number of findings of each severity, most severe first."""
    each = {one: sum(found.severity is one for found in report.findings) for one in reversed(Severity)}
    told = [f"{number} {severity}" for severity, number in each.items() if number]
    return ", ".join(told) or "none"


def _summary(report: Report) -> Table:
    about = report.adapter
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    ranks = ", ".join(map(str, about.ranks))
    shape = f"{about.num_modules} modules, rank {ranks}" if ranks else f"{about.num_modules} modules"
    table.add_row("method", f"{about.method} ({about.format} keys), {shape}")
    table.add_row(
        "weights", f"{about.num_parameters:,} numbers in {about.num_tensors} tensors, {', '.join(about.dtypes)}"
    )
    table.add_row("base", about.base_model or "not named")
    table.add_row("looked at", ", ".join(report.tiers))
    table.add_row("sha256", about.digest[:16] + "…")
    return table


def _finding(finding: Finding) -> Iterator[RenderableType]:
    yield Text()
    severity = (f" {finding.severity.upper()} ", STYLES[finding.severity])
    yield Text.assemble(severity, " ", (finding.title, "bold"), ("  " + finding.rule, "dim"))
    lines = Table.grid(padding=(0, 2), expand=True)
    lines.add_column(style="dim", width=10, no_wrap=True)
    lines.add_column(overflow="fold", ratio=1)
    lines.add_row("reveals", Text(finding.reveals))
    for number, each in enumerate(finding.evidence):
        lines.add_row("" if number else "evidence", Text(each))
    for number, each in enumerate(finding.recovered):
        lines.add_row("" if number else "recovered", Text(each, style="bold"))
    if finding.where:
        lines.add_row("where", Text(_places(finding)))
    lines.add_row("remedy", Text(finding.remedy))
    yield Padding(lines, (0, 0, 0, 2))


def _places(finding: Finding) -> str:
    shown = finding.where[:3]
    rest = max(finding.num_places, len(finding.where)) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _verdicts(verdicts: tuple[Verdict, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", expand=True)
    table.add_column("attack", ratio=3, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("why", ratio=6, overflow="fold")
    for one in verdicts:
        word, style = STATUS[one.status]
        table.add_row(Text(one.attack), Text(word, style=style), Text(one.why))
    return table
