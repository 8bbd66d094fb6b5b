"""`bridge audit` and `bridge protect`: what an adapter gives away, and remedies."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from audit.report import Report


class AuditFormat(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"
    SARIF = "sarif"


class FailOn(StrEnum):
    """The least severe finding that fails a check."""

    NEVER = "never"
    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Dtype(StrEnum):
    """A coarser format."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


Adapter = Annotated[Path, typer.Argument(help="Folder of an adapter, or a lone safetensors file.", show_default=False)]


def audit(
    adapter: Adapter,
    base: Annotated[
        str | None, typer.Option(help="Base model of text: minilm, smollm2, a folder, or a hub id.", show_default=False)
    ] = None,
    attack: Annotated[bool, typer.Option("--attack", help="With --base: reconstruct sentences.")] = False,
    max_tokens: Annotated[int, typer.Option(min=4, max=512, help="Positions that are searched with --base.")] = 64,
    format: Annotated[AuditFormat, typer.Option("--format", help="How the report is written.")] = AuditFormat.TEXT,
    out: Annotated[Path | None, typer.Option(help="File to write it to; standard output if not given.")] = None,
    fail_on: Annotated[FailOn, typer.Option(help="Exit with 1 where a finding is at least so severe.")] = FailOn.HIGH,
) -> None:
    """Tell what an adapter gives away of its training data. Exits with 1 where a finding is severe, 2 on bad input."""
    from audit.report import Severity
    from audit.run import audit_adapter
    from bridge_core.errors import InvalidInput

    if attack and base is None:
        raise InvalidInput("--attack without --base", "the base model", "add --base MODEL")
    report = audit_adapter(adapter, base, attack=attack, max_tokens=max_tokens)
    _write(report, format, adapter, out)
    if fail_on is not FailOn.NEVER and report.at_or_above(Severity(fail_on.value)):
        raise typer.Exit(1)


def protect(
    adapter: Adapter,
    out: Annotated[Path, typer.Option(help="New folder for the protected copy.", show_default=False)],
    keep_factors: Annotated[
        bool, typer.Option("--keep-factors", help="Strip files and metadata alone; do not re-factor.")
    ] = False,
    dtype: Annotated[Dtype | None, typer.Option(help="Round the weights.", show_default=False)] = None,
) -> None:
    """Write a copy of an adapter with less in it, and audit it again."""
    from audit.protect import Remedies, protect_adapter
    from benchmark.console import say, table

    done = protect_adapter(adapter, out, Remedies(not keep_factors, None if dtype is None else dtype.value))
    after = {one.rule for one in done.after.findings}
    before = {one.rule for one in done.before.findings}
    rows = [(one.severity.value, one.rule, "remains" if one.rule in after else "gone") for one in done.before.findings]
    rows += [(one.severity.value, one.rule, "new") for one in done.after.findings if one.rule not in before]
    table(("severity", "finding", "after"), rows)
    say(f"wrote {out}; audited again: {len(done.gone)} of {len(before)} findings gone")
    say(done.after.disclaimer)


def _write(report: "Report", format: AuditFormat, adapter: Path, out: Path | None) -> None:
    if format is AuditFormat.TEXT and out is None:
        from rich.console import Console

        from audit.terminal import print_report

        print_report(report, Console(highlight=False))
        return
    text = _text(report, format, adapter)
    if out is None:
        typer.echo(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n", encoding="utf-8")
    typer.echo(str(out))


def _text(report: "Report", format: AuditFormat, adapter: Path) -> str:
    import json

    match format:
        case AuditFormat.TEXT:
            import io

            from rich.console import Console

            from audit.terminal import print_report

            file = io.StringIO()
            print_report(report, Console(file=file, width=100, highlight=False))
            return file.getvalue().rstrip()
        case AuditFormat.JSON:
            return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)
        case AuditFormat.HTML:
            from audit.page import as_page

            return as_page(report)
        case AuditFormat.SARIF:
            from audit.sarif import as_sarif

            return json.dumps(as_sarif(report, adapter.as_posix()), indent=2, ensure_ascii=False)
