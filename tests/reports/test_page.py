"""The HTML page stands alone, says what the tables say, and leads from every number to its runs."""

import re
from html.parser import HTMLParser

import pytest

from reports import write_report  # pyright: ignore[reportAttributeAccessIssue] # it finds tests/reports first
from reports.page import _digest
from tests.reports.test_printing import HOSTILE
from tests.synthetic_store import cells

VOID = {"meta", "img", "link", "br", "path", "use", "rect", "circle", "line", "image", "polygon", "polyline"}


class Page(HTMLParser):
    """Tags with their attributes, and whether each that was opened was closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def text(warehouse, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    assert [path.name for path in write_report(warehouse, "synthetic", folder, ("html",))] == ["report.html"]
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    return (folder / "report.html").read_text()


def test_the_page_needs_no_file_beside_it_and_no_network(text):
    page = Page(text)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert {tag for tag, _ in page.tags} >= {"svg", "img", "table", "script", "style"}


def test_every_link_has_its_place_and_every_place_is_one(text):
    tags = Page(text).tags
    places = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(places) == len(set(places))
    links = {attributes["href"][1:] for tag, attributes in tags if tag == "a"}
    assert links <= set(places)
    assert any(link.startswith("source-") for link in links)


def test_a_number_leads_to_the_runs_of_its_own_cells(text):
    row = next(line for line in text.splitlines() if "<td>ridge</td>" in line)
    source = re.search(r'<a href="#(source-[0-9a-f]{12})" title="3 runs, [0-9a-f]{12}">18\.75</a>', row)
    assert source, row[:400]
    listed = text.split(f'<tr id="{source[1]}">')[1].split("</tr>")[0]
    runs = re.findall(r'href="#(run-[0-9a-f]+)"', listed)
    assert len(runs) == 3
    for seed, run in enumerate(runs):
        told = re.findall(r"<td>([^<]*)</td>", text.split(f'<tr id="{run}">')[1].split("</tr>")[0])
        assert {"ridge", "sgd-1", "2", str(seed)} <= set(told)


def test_a_control_stands_on_all_runs_that_share_its_labels(text):
    row = next(line for line in text.splitlines() if "<td>mean image</td>" in line)
    assert 'title="18 runs' in row


def test_the_policy_names_the_script_that_is_there(text):
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert f"script-src '{_digest(script)}'" in text


def test_hostile_labels_are_text(build, tmp_path):
    def rename(filler):
        for place, planned in enumerate(filler.graph.cells):
            planned.labels["bridge"] = HOSTILE[place % len(HOSTILE)]
            planned.labels["model"] = '"><img src=x onerror=alert(1)></script>'

    path = build(cells(ranks=(2, 4), seeds=(0,)), change=rename, suite="</title><script>x")
    write_report(path, "</title><script>x", tmp_path / "out", ("html",))
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert page.open == []
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<script>alert(1)</script>" in "".join(page.text)


def test_partial_pages_say_so_and_mark_seeds(build, tmp_path):
    path = build(cells(ranks=(2,)), finished=5)
    write_report(path, "synthetic", tmp_path / "out", ("html",), partial=True)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "Partial: 4 cells pending, 0 failed" in text
    assert '<span class="seeds"> (2/3 seeds)</span>' in text
