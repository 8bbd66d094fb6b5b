"""What is drawn without a screen: words, selections, pictures."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from benchmark.tui import wording
from benchmark.tui.chart import is_logarithmic, plot
from benchmark.tui.pictures import Gallery, half_blocks, load_gallery, resize
from benchmark.tui.records import CellState, CellView
from benchmark.tui.selection import Order, select
from benchmark.tui.sentences import compared, load_sentences
from bridge_core.facts import Fact, write_facts
from tests.tui.synthetic import key_of, write_pictures


@given(st.text(), st.integers(0, 40))
def test_untrusted_text_becomes_one_printable_line_of_the_asked_width(text: str, width: int) -> None:
    line = wording.plain(text)
    assert line.isprintable()
    assert cell_len(wording.fit(line, width)) == width


def test_escape_sequences_do_not_pass() -> None:
    assert wording.plain("a\x1b[31mb\nc\u202ed") == "a[31mb cd"
    assert wording.plain_lines("x:\n\ty\x07\r\n") == "x:\n    y"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.04, "0.0 s"), (9.97, "10 s"), (61, "1:01"), (11_232, "3:07:12"), (187_200, "2 d 04 h")],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert wording.duration(seconds) == words


@given(st.lists(st.floats(), max_size=200), st.integers(1, 60), st.integers(1, 8))
def test_a_chart_keeps_to_its_room_whatever_it_draws(values: list[float], width: int, height: int) -> None:
    lines = plot(values, width, height)
    assert len(lines) == (height if any(map(math.isfinite, values)) else 0)
    assert all(len(line) == width and all(0x2800 <= ord(c) <= 0x28FF for c in line) for line in lines)


def test_a_falling_curve_falls_from_the_first_corner_to_the_last() -> None:
    lines = plot([float(100 - n) for n in range(101)], 10, 3)
    assert lines[0][0] != "\u2800" and lines[-1][-1] != "\u2800"
    assert lines[0][-1] == lines[-1][0] == "\u2800"


def test_only_a_positive_curve_over_decades_is_logarithmic() -> None:
    assert is_logarithmic([1.0, 0.001]) and not is_logarithmic([1.0, 0.5]) and not is_logarithmic([1.0, -0.001])


def test_words_are_compared_in_order() -> None:
    found = compared("call me on 0171 today", "call him on 0171")
    assert found == [("call", True), ("him", False), ("on", True), ("0171", True)]


@pytest.mark.parametrize("content", ["[1, 2", '{"a": 1}', '[{"truth": 3}]', "\x00"])
def test_sentences_that_are_broken_are_told_in_words(tmp_path: Path, content: str) -> None:
    key = key_of("broken")
    folder = tmp_path / "artefacts" / key[:2] / key
    folder.mkdir(parents=True)
    (folder / "sentences.json").write_text(content)
    told = load_sentences(tmp_path, key)
    assert isinstance(told, str) and "can not be read" in told


def cells() -> list[CellView]:
    """Three cells: finished, failed and waiting."""
    one = CellView("a1", 0, {"bridge": "ridge", "rank": "16"}, outcome=CellState.FINISHED, metrics={"psnr": 20.0})
    two = CellView("b2", 1, {"bridge": "mlp", "rank": "8"}, outcome=CellState.FAILED, cause="Diverged")
    three = CellView("c3", 2, {"bridge": "ridge", "rank": "8"}, outcome=CellState.FINISHED, metrics={"psnr": 30.0})
    return [one, two, three]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "a1 b2 c3"),
        ("rank:8", "b2 c3"),
        ("ridge 8", "c3"),
        ("state:failed", "b2"),
        ("DIVERGED", "b2"),
        ("rank:1", ""),
        ('rank:"16"', "a1"),
        ('"ridge" rank:8', "c3"),
    ],
)
def test_filter(query: str, found: str) -> None:
    assert [cell.id for cell in select(cells(), query, Order())] == found.split()


@pytest.mark.parametrize(
    ("column", "reverse", "found"),
    [
        ("", True, "c3 b2 a1"),
        ("rank", False, "b2 c3 a1"),
        ("psnr", True, "c3 a1 b2"),
        ("psnr", False, "a1 c3 b2"),
        ("state", False, "b2 a1 c3"),
    ],
)
def test_order_leaves_the_unmeasured_for_last(column: str, reverse: bool, found: str) -> None:
    assert [cell.id for cell in select(cells(), "", Order(column, reverse))] == found.split()


def test_pictures_come_out_of_the_store_with_their_scores(tmp_path: Path) -> None:
    key = key_of("score")
    write_pictures(tmp_path, key, secrets=2, channels=3)
    write_facts([Fact("psnr", 21.5, secret=1), Fact("ssim", 0.5, secret=1)], tmp_path / "artefacts" / key[:2] / key)
    gallery = load_gallery(tmp_path, key)
    assert isinstance(gallery, Gallery)
    assert list(gallery.images) == ["truth", "recovered", "mean image"]
    assert gallery.num_secrets == 2
    assert gallery.images["truth"][0][0].shape == (28, 28, 3)
    assert gallery.scores == {1: 21.5}


def test_pictures_that_are_missing_or_broken_are_told_in_words(tmp_path: Path) -> None:
    key = key_of("broken")
    assert load_gallery(tmp_path, key) == "no pictures in the store yet"
    assert load_gallery(tmp_path, "../../etc/passwd") == "no pictures in the store yet"
    write_pictures(tmp_path, key)
    path = tmp_path / "artefacts" / key[:2] / key / "images.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    told = load_gallery(tmp_path, key)
    assert isinstance(told, str) and "can not be read" in told


def test_half_blocks_carry_the_upper_pixel_before_the_lower() -> None:
    image = np.array([[[255, 0, 0]], [[0, 0, 255]], [[0, 255, 0]]], dtype=np.uint8)
    first, last = half_blocks(image)
    assert first[0].text == last[0].text == "▀"
    assert first[0].style is not None and str(first[0].style) == "#ff0000 on #0000ff"
    assert last[0].style is not None and str(last[0].style) == "#00ff00 on #00ff00"


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(1, 20))
def test_resized_pictures_fit(height: int, width: int, columns: int, lines: int) -> None:
    image = np.full((height, width, 3), 77, dtype=np.uint8)
    fitted = resize(image, columns, lines)
    assert fitted.shape[0] <= 2 * lines and fitted.shape[1] <= columns
    assert (fitted == 77).all()
