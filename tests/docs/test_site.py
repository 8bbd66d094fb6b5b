"""The site builds offline without a warning, fetches nothing, and its reference names all that there is."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from benchmark.cli import app
from benchmark.suite_schema import json_schema
from tests.docs.execute import ROOT

FETCHED = re.compile(
    r'<(?:script|img|iframe)[^>]*\ssrc="(https?:)?//|<link[^>]*\shref="(https?:)?//|@import\s+url\(.?http'
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site_and_nothing_else_is(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert [page for page in pages if not (site / page).is_file()] == []
    home = (site / "index.html").read_text()
    assert [page for page in pages if f'href="{page.as_posix()}"' not in home and page.name != "index.html"] == []
    assert not (site / "site").exists()


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    assert [path.name for path in site.rglob("*.html") if FETCHED.search(path.read_text())] == []


def commands(command: Any, name: str) -> dict[str, Any]:
    """The commands below `command`, by what one types."""
    if not hasattr(command, "commands"):
        return {name: command}
    children: dict[str, Any] = command.commands
    return {path: one for child in children.values() for path, one in commands(child, f"{name} {child.name}").items()}


def test_the_reference_names_every_command_and_option(site: Path) -> None:
    text = (site / "reference" / "command-line.html").read_text()
    found = commands(typer.main.get_command(app), "bridge")
    assert len(found) > 8
    shown = [
        each for one in found.values() if not one.hidden for each in one.params if not getattr(each, "hidden", False)
    ]
    options = {option for each in shown for option in each.opts}
    assert [name for name, one in found.items() if not one.hidden and name not in text] == []
    assert [option for option in options if option.startswith("--") and option not in text] == []


def test_the_reference_names_every_knob(site: Path) -> None:
    text = (site / "reference" / "suite-files.html").read_text()
    parts = [json_schema(), *json_schema()["$defs"].values()]
    knobs = {knob for part in parts for knob in part.get("properties", {}) if knob != "kind"}
    assert len(knobs) > 50
    assert [knob for knob in knobs if f"<code>{knob}</code>" not in text] == []
