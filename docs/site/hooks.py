"""What mkdocs asks of this site: its navigation, the generated reference, and links that lead out of `docs/`.

A page that is added to `docs/` needs no entry anywhere: it stands among the explanations, or where its folder says.
"""

import re
from pathlib import Path
from typing import Any

import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ABOUT_HOW = {"monitor.md", "clusters.md", "audit.md", "protect.md", "report.md", "tracking.md"}
"""Pages of `docs/` itself that tell how something is done."""
FIRST = ("text.md", "results.md")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are generated from the spec, the command line and the tables; lay out the navigation."""
    for name, text in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}", content=text))
    config.nav = navigation({file.src_uri for file in files.documentation_pages()})
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Links to files of the repository that are no pages: their path in its place."""
    parts = FENCE.split(markdown)
    folder = Path(page.file.src_uri).parent
    return "".join(part if part.startswith("```") else LINK.sub(lambda m: _link(m, folder), part) for part in parts)


def navigation(pages: set[str]) -> list[Any]:
    """The site's sections, each with what there is for it."""

    def inside(folder: str) -> list[str]:
        return sorted(page for page in pages if page.startswith(f"{folder}/"))

    top = sorted(page for page in pages if "/" not in page and page != "index.md")
    explaining = sorted((page for page in top if page not in ABOUT_HOW), key=lambda page: (page not in FIRST, page))
    sections = {
        "Tutorial": inside("tutorial"),
        "How to": [*inside("how-to"), *(page for page in top if page in ABOUT_HOW)],
        "Reference": inside("reference"),
        "Explanation": explaining,
        "Decisions": inside("decisions"),
    }
    return [{"Home": "index.md"}, *({name: found} for name, found in sections.items() if found)]


def _link(match: re.Match[str], folder: Path) -> str:
    picture, text, target, _ = match.groups()
    if picture or "://" in target:
        return match[0]
    there = (ROOT / "docs" / folder / target).resolve()
    if there.is_relative_to(ROOT / "docs") or not there.is_relative_to(ROOT):
        return match[0]
    path = there.relative_to(ROOT).as_posix()
    return f"`{path}`" if text.strip("`") in (path, there.name) else f"{text} (`{path}`)"
