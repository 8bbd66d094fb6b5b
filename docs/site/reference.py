"""The reference pages, written from what they tell of: the command line, the spec, the tables, the errors."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import typer.main
import yaml

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|])")
GROUPS = {
    "models": "Base models",
    "datasets": "Data sets",
    "recipes": "Recipes",
    "bridges": "Bridges",
    "inversions": "Inversions",
    "priors": "Priors",
    "knowledge": "Knowledge",
}


def pages() -> dict[str, str]:
    """File name -> Markdown."""
    return {
        "command-line.md": command_line(),
        "suite-files.md": suite_files(),
        "tables.md": tables(),
        "errors.md": errors(),
    }


def escape(text: str) -> str:
    """`text` letter by letter, within a line of a table."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def command_line() -> str:
    """Every command with its arguments and options, as the program itself tells them."""
    from benchmark.cli import app

    root = typer.main.get_command(app)
    parts = ["# The command line", "Written from the program itself. `bridge COMMAND --help` tells the same."]
    with typer.Context(root, info_name="bridge") as context:
        parts += _commands(root, context)
    return "\n\n".join(parts) + "\n"


def _commands(command: Any, context: Any) -> Iterator[str]:
    if context.parent is not None:
        yield f"## {context.command_path}"
        yield escape(command.help or "")
    if not hasattr(command, "commands"):
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"```\n{context.command_path} {usage}\n```"
    rows = [row for each in command.get_params(context) if (row := _parameter(each, context))]
    if rows:
        yield "\n".join(["| argument or option | what it does |", "|---|---|", *rows])
    for name in command.list_commands(context) if hasattr(command, "commands") else ():
        child = command.get_command(context, name)
        if child is not None and not child.hidden:
            with type(context)(child, info_name=name, parent=context) as inner:
                yield from _commands(child, inner)


def _parameter(parameter: Any, context: Any) -> str:
    if getattr(parameter, "hidden", False) or parameter.name == "help":
        return ""
    record = parameter.get_help_record(context)
    if record is None:
        record = (parameter.make_metavar(context), getattr(parameter, "help", "") or "")
    return f"| `{record[0].strip().replace('|', '/')}` | {escape(record[1])} |"


def suite_files() -> str:
    """Every knob, from the JSON schema of suites."""
    from benchmark.suite_schema import json_schema

    schema: Json = json_schema()
    parts = [
        "# Suite files",
        "Every knob of an experiment, from its one definition in `bridge_core/spec/`. Keys that are not here are "
        "refused, with the nearest valid one named. An entry of an axis is a `kind` alone (`bridges: [ridge]`), or a "
        "mapping with its knobs (`bridges: [{kind: ridge, num_pairs: 4096}]`). `bridge schema` prints the JSON schema "
        "that editors complete by.",
        "## The suite",
        _knobs(schema),
    ]
    told: set[str] = set()
    for axis, title in GROUPS.items():
        parts += [f"## {title}", *_definitions(schema, sorted(_reachable(schema, schema["properties"][axis])), told)]
    parts += ["## Other parts", *_definitions(schema, sorted(set(schema["$defs"]) - told), told)]
    return "\n\n".join(parts) + "\n"


def _definitions(schema: Json, names: list[str], told: set[str]) -> Iterator[str]:
    for name in names:
        if name not in told:
            told.add(name)
            one: Json = schema["$defs"][name]
            kind = one.get("properties", {}).get("kind", {}).get("const")
            yield f"### {f'kind: {kind}' if kind else name} {{#{name.lower()}}}"
            yield escape(one.get("description", ""))
            yield _knobs(one)


def _reachable(schema: Json, part: Any) -> set[str]:
    """Names of the definitions that `part` leads to, at any depth."""
    found, open_ = set[str](), [part]
    while open_:
        names = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(open_.pop()))) - found
        found |= names
        open_ += [schema["$defs"][name] for name in names]
    return found


def _knobs(part: Json) -> str:
    shown: Mapping[str, Json] = {name: one for name, one in part.get("properties", {}).items() if name != "kind"}
    if not shown:
        return "No knobs."
    rows = [
        f"| `{name}` | {_type(one)} | {_default(one)} | {escape(one.get('description', ''))} |"
        for name, one in shown.items()
    ]
    return "\n".join(["| knob | type and bounds | default | what it is |", "|---|---|---|---|", *rows])


def _type(one: Json) -> str:
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in one or "const" in one:
        return ", ".join(f"`{json.dumps(value)}`" for value in one.get("enum", [one.get("const")]))
    for key in ("anyOf", "oneOf"):
        if key in one:
            return " or ".join(dict.fromkeys(_type(each) for each in one[key]))
    if one.get("type") == "array":
        return f"list of {_type(one.get('items', {}))}"
    return f"{one.get('type', 'any')}{_bounds(one)}"


def _bounds(one: Json) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": "&gt;", "maximum": "≤", "exclusiveMaximum": "&lt;"}
    found = [f"{sign} {one[name]}" for name, sign in signs.items() if name in one]
    return f", {', '.join(found)}" if found else ""


def _default(one: Json) -> str:
    return f"`{json.dumps(one['default'])}`" if "default" in one else "to be given" if "anyOf" not in one else ""


def tables() -> str:
    """Every table of the report, from its declaration."""
    parts = [
        "# Tables of the report",
        "A table is two files in `reports/tables/`: an SQL query and the declaration of its columns. These are there.",
    ]
    for path in sorted((ROOT / "reports" / "tables").glob("*.yaml")):
        told: Json = yaml.safe_load(path.read_text("utf-8"))
        parts += [f"## {escape(told['title'])}", f"`{path.stem}`: {escape(told['caption'])}"]
        rows = [_measure(name, one) for name, one in told["measures"].items()]
        parts.append("\n".join(["| measure | of all secrets | interval |", "|---|---|---|", *rows]))
        if told.get("controls"):
            parts.append(f"Controls: {escape(', '.join(told['controls']))}.")
        parts += [f"- {escape(note)}" for note in told.get("notes", ())]
    return "\n\n".join(parts) + "\n"


def _measure(name: str, one: Json) -> str:
    interval = "95 %" if one.get("interval") else ""
    return f"| {escape(one['header'] or name)} | {one.get('statistic', 'mean')} | {interval} |"


def errors() -> str:
    """The tree of errors, and exit codes."""
    from benchmark import cli
    from bridge_core import errors as tree

    codes = (cli.__doc__ or "").partition("\n\n")[2].strip()
    drawn = (tree.__doc__ or "").partition("\n\n")[2].rstrip()
    return (
        "# Errors and exit codes\n\n"
        "What a user can cause is told on one line: what was found, what was wanted, what to do.\n\n"
        f"## Exit codes\n\n```\n{codes}\n```\n\n## Errors\n\n```\n{drawn}\n```\n"
    )
