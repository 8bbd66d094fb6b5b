"""What the pages say of the project: links, the tree, commands and the example suite are real."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.suite import expand, load_suite
from tests.docs.execute import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)\)", page.read_text())
    local = [target for target in targets if "://" not in target and "reference/" not in target]  # that is generated
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_example_suite_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    assert len(expand(load_suite(tmp_path / "mine.yaml"))) == 24


def test_the_tree_names_what_is_there() -> None:
    tree = re.search(r"## The tree\n\n```\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    folder, missing, seen = ROOT, list[str](), 0
    for line in tree[1].splitlines():
        inside = line.startswith("  ")
        entries = [word for word in line.split() if re.fullmatch(r"[a-z_]+(\.py|/)", word)]
        folder = folder if inside else ROOT / entries[0]
        seen += len(entries)
        missing += [entry for entry in entries if not ((folder if inside else ROOT) / entry).exists()]
    assert seen > 20
    assert missing == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", "\n".join(page.read_text() for page in PAGES), re.MULTILINE))
    assert {"quickstart", "test", "check"} <= named <= targets


def test_commands_exist() -> None:
    (listing,) = re.findall(r"## Commands\n\n```\n(.*?)```", README, re.DOTALL)
    runner, named = CliRunner(), 0
    for line in listing.splitlines():
        words = [word for word in shlex.split(re.split(r"\s{2,}", line)[0])[1:] if word != "SUITE"]
        for last in words[-1].split("|"):
            named += 1
            assert runner.invoke(app, [*words[:-1], last, "--help"]).exit_code == 0, f"bridge {words[:-1]} {last}"
    assert named >= 10


def test_pages_name_no_machine() -> None:
    assert [page.name for page in PAGES if re.search(r"/work/|/root/|/home/", page.read_text())] == []
