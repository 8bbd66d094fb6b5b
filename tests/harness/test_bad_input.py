"""Bad input: one clear line for each problem, exit code 2, nothing written, and never a traceback."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.suite import expand, load_suite
from benchmark.yaml_reading import MAX_BYTES
from bridge_core.errors import BridgeError, InvalidInput, InvalidSuite, UnknownName

GOOD = """\
name: good
seeds: 2
models: [vit, {kind: convnet, label: thin, target_modules: [conv1, head]}]
ranks: [2, 4]
datasets:
  - {proxy: digits, private: mnist}
recipes:
  - {}
  - {optimiser: {kind: adamw, epsilon: 5e-9}}
bridges: [oracle, ridge]
inversions: [dlg]
exclude:
  - {model: thin, rank: 4}
include:
  - {model: thin, rank: 4, bridge: {kind: ridge, label: less, num_pairs: 100}}
"""

RANKS, BRIDGES, PROXY, EXCLUDE = "ranks: [2, 4]", "[oracle, ridge]", "proxy: digits", "{model: thin, rank: 4}\n"
INCLUDE = "{model: thin, rank: 4, bridge"

# What is replaced, by what, and the line that the reader gets after the file's name.
CASES: list[tuple[str, str, str]] = [
    # unknown keys
    ("seeds: 2", "seed: 2", ':2: seed: unknown key "seed"; wanted one of name, .*; did you mean seeds?'),
    (
        BRIDGES,
        "[{kind: ridge, num_pair: 3}]",
        r':10: bridges[0].num_pair: unknown key "num_pair"; .*did you mean num_pairs?',
    ),
    ("epsilon: 5e-9", "epsilom: 1", ":9: recipes[1].optimiser.epsilom: unknown key .*; did you mean epsilon?"),
    (EXCLUDE, "{models: thin}\n", ":13: exclude[0].models: unknown key .*; did you mean model?"),
    (INCLUDE, "{modell: thin, bridge", ":15: include[0].modell: unknown key .*; did you mean model?"),
    # wrong types and values out of bounds
    (RANKS, "ranks: 4", ":4: ranks: found 4; wanted a list"),
    (RANKS, "ranks: [2, '4']", ':4: ranks[1]: found "4"; wanted a whole number'),
    (RANKS, "ranks: [2.0]", ":4: ranks[0]: found 2.0; wanted a whole number"),
    (RANKS, "ranks: [0]", ":4: ranks[0]: found 0; wanted greater than or equal to 1"),
    (RANKS, "ranks: [yes]", ':4: ranks[0]: found "yes"; wanted a whole number'),
    (RANKS, "ranks: [true]", ":4: ranks[0]: found true; wanted a whole number"),
    ("seeds: 2", "seeds: 0", ":2: seeds: found 0; wanted a list of seeds, or how many (1 to 1000)"),
    ("epsilon: 5e-9", "epsilon: small", ':9: recipes[1].optimiser.epsilon: found "small"; wanted a number'),
    ("epsilon: 5e-9", "epsilon: .nan", ":9: recipes[1].optimiser.epsilon: found NaN; wanted .*"),
    ("epsilon: 5e-9", "epsilon: 1e999", ":9: recipes[1].optimiser.epsilon: found Infinity; wanted a finite number"),
    ("- {}\n", "- {batch_size: 4}\n", ":8: recipes[0]: batch_size 4 is larger than num_samples 1"),
    ("- {}\n", "- {save_dtype: float61}\n", ':8: recipes[0].save_dtype: found "float61"; .*; did you mean float16?'),
    ("name: good", "name: Good One", ':1: name: found "Good One"; wanted text like .*'),
    ("name: good\n", "", ":1: name: missing; wanted .*"),
    ("- {}\n", "- none\n", ':8: recipes[0]: found "none"; wanted a mapping of keys'),
    # names
    ("[vit,", "[vitt,", ':3: models[0]: unknown kind "vitt"; wanted one of vit, .*; did you mean vit?'),
    (PROXY, "proxy: digit", ':6: datasets[0].proxy: unknown kind "digit"; wanted one of .*; did you mean digits?'),
    (BRIDGES, "[{num_pairs: 3}]", ":10: bridges[0].kind: missing; wanted one of oracle, .*"),
    (BRIDGES, "[4]", ":10: bridges[0]: found 4; wanted one of oracle, .*, or a mapping with `kind`"),
    (PROXY, "proxy: parquet", ":6: datasets[0].proxy.path: missing; wanted a file or a glob pattern"),
    # files
    (
        PROXY,
        "proxy: {kind: parquet, path: no/*.parquet}",
        ':6: datasets[0].proxy.path: no file "no/*.parquet"; wanted .*',
    ),
    (PROXY, "proxy: {kind: image_folder, path: no}", ':6: datasets[0].proxy.path: no folder "no"; wanted .*'),
    (PROXY, "proxy: {kind: fashion_mnist, folder: no}", ":6: datasets[0].proxy: no folder .*dataset-fashion-mnist.*"),
    ("[vit,", "[{kind: folder, path: no},", ':3: models[0].path: no model in "no"; wanted a folder with config.json'),
    # axes
    (RANKS, "ranks: []", ":4: ranks: empty; wanted at least one value"),
    (RANKS, "ranks: [2, 2, 4]", ':4: ranks[1]: the label "2" stands twice; .*'),
    (
        BRIDGES,
        "[ridge, {kind: ridge, num_pairs: 99}]",
        ':10: bridges[1]: the label "ridge" stands twice; .*set `label`',
    ),
    (BRIDGES, "[ridge, {kind: ridge, label: b}]", ':10: bridges[1]: the same value as "ridge"; .*'),
    (BRIDGES, '[{kind: ridge, label: "[red]"}]', ':10: bridges[0].label: found "[red]"; wanted text like .*'),
    (
        "seeds: 2",
        "seeds: 1000\nnum_secrets: 1\nranks: [" + ", ".join(map(str, range(1, 99))) + "]",
        ":1: 784000 cells; wanted at most 50000",
    ),
    (EXCLUDE, "{model: thn}\n", ':13: exclude[0].model: unknown label "thn", .* nothing; .*did you mean thin?'),
    (EXCLUDE, "{rank: 8}\n", ':13: exclude[0].rank: unknown label "8", this pattern matches nothing; .*'),
    (EXCLUDE, "{}\n", ":13: exclude[0]: names no axis; wanted one of model, .*"),
    (EXCLUDE, "{rank: []}\n", ":13: exclude[0].rank: empty; .*"),
    (INCLUDE, "{model: thn, bridge", ':15: include[0].model: unknown kind "thn"; .* or a label of this axis'),
    (INCLUDE, "{model: thin, recipe: sgd, bridge", ':15: include[0].recipe: found "sgd"; .* or a label of this axis'),
    ("label: less", "label: ridge", ':15: include[0].bridge: the label "ridge" stands twice; .*'),
    # YAML
    (RANKS, RANKS + "\n" + RANKS, ":5: duplicate key 'ranks', first on line 4"),
    (BRIDGES, "[{kind: ridge, num_pairs: 20, num_pairs: 30}]", ":10: duplicate key 'num_pairs', first on line 10"),
    ("name: good", "name: !!python/object/apply:os.system [ls]", ":1: the tag .* are not read"),
    ("name: good", "name: !!str good", ":1: the tag .* are not read"),
    ("name: good", "name: *good", ":1: not valid YAML: found undefined alias 'good'"),
    ("name: good", "name: [", ":3: not valid YAML: expected ',' or ']', .*"),
    ("name: good", "1: good", ":1: a key that is not text"),
    ("name: good", "? [a]\n: good", ":1: a key that is not text"),
    ("name: good", "name: good\n---\nname: other", ":2: not valid YAML: but found another document"),
    ("name: good", 'name: good\n"\\e[2J\\nred": 1', r':2: "\u001b[2J\nred": unknown key "\u001b[2J\nred"; .*'),
    (RANKS, "ranks: &ranks [*ranks]", ":4: an alias that holds itself"),
    (RANKS, "ranks: " + "[" * 5000 + "]" * 5000, ":4: more than 24 levels of nesting"),
    (RANKS, f"ranks: [{'9' * 5000}]", ":4: ranks[0]: found .*; wanted .*"),
]


def variant(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    text = GOOD.replace(old, new)
    return text.replace(RANKS, "", 1) if text.count("ranks: [") > 1 and "num_secrets" in new else text


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRIDGE_STORE", raising=False)
    yield tmp_path


def pattern(told: str) -> str:
    """`.*` is a pattern, the rest is text."""
    return re.escape(told).replace(r"\.\*", ".*")


def test_the_good_suite_is_good(place: Path) -> None:
    (place / "suite.yaml").write_text(GOOD)
    assert len(expand(load_suite(place / "suite.yaml"))) == 2 * 2 * 2 * 2 * 2 - 8 + 4


@pytest.mark.parametrize(("old", "new", "told"), CASES, ids=[told[:60] for _, _, told in CASES])
def test_a_bad_suite_gets_its_line_and_exit_code_2_and_writes_nothing(
    place: Path, old: str, new: str, told: str
) -> None:
    (place / "suite.yaml").write_text(variant(old, new))
    result = CliRunner().invoke(app, ["bench", "run", "suite.yaml", "--plain"])
    lines = result.stderr.splitlines()
    assert result.exit_code == 2, result.output
    assert any(re.fullmatch("error: suite.yaml" + pattern(told), line) for line in lines), result.stderr
    assert all(line.startswith("error: suite.yaml:") for line in lines)
    assert [path.name for path in place.iterdir()] == ["suite.yaml"], "something was written"


def test_every_problem_has_its_own_line(place: Path) -> None:
    (place / "suite.yaml").write_text(GOOD.replace(RANKS, "ranks: [0, x]").replace(BRIDGES, "[orakel]"))
    with pytest.raises(InvalidSuite) as caught:
        load_suite(place / "suite.yaml")
    told = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert told == ["ranks[0]", "ranks[1]", "bridges[0]"]


def test_a_suite_that_is_not_there(place: Path) -> None:
    with pytest.raises(UnknownName, match=r"^nowhere.yaml: No such file"):
        load_suite(Path("nowhere.yaml"))
    with pytest.raises(UnknownName):
        load_suite(place)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "just text\n", "5\n"])
def test_a_file_that_is_no_mapping(place: Path, text: str) -> None:
    (place / "suite.yaml").write_text(text)
    with pytest.raises(InvalidSuite, match="wanted a mapping of keys"):
        load_suite(place / "suite.yaml")


def test_bytes_that_are_no_text_and_a_file_that_is_too_large(place: Path) -> None:
    (place / "suite.yaml").write_bytes(b"name: \xff\xfe\x00")
    with pytest.raises(InvalidSuite, match="byte 6 is not UTF-8"):
        load_suite(place / "suite.yaml")
    (place / "suite.yaml").write_text(GOOD + "#" * MAX_BYTES)
    with pytest.raises(InvalidSuite, match="larger than 256 KiB"):
        load_suite(place / "suite.yaml")


def test_a_billion_laughs_are_refused_at_once(place: Path) -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 10):
        laughs += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    (place / "suite.yaml").write_text(laughs)
    with pytest.raises(InvalidSuite, match="more than 20000 values"):
        load_suite(place / "suite.yaml")


def test_options_out_of_bounds_exit_with_2(place: Path) -> None:
    (place / "suite.yaml").write_text(GOOD)
    for wrong in (
        ["--workers", "-1"],
        ["--workers", "many"],
        ["--retries", "-1"],
        ["--timeout", "0"],
        ["--limit", "0"],
    ):
        result = CliRunner().invoke(app, ["bench", "run", "suite.yaml", *wrong])
        assert result.exit_code == 2, wrong
        assert "Traceback" not in result.output
    assert [path.name for path in place.iterdir()] == ["suite.yaml"]


# --- whatever is in the file, there is no traceback -------------------------------------------------------------------

SNIPPETS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    "- ",
    "\n",
    "  ",
    "&a ",
    "*a",
    "!x ",
    "? ",
    "|\n",
    '"',
    "'",
    "%",
    "#",
    "null",
    "~",
    "5e-9",
]
MORE = [
    ".inf",
    "0x1F",
    "kind: ",
    "label: ",
    "<<: *a",
    "ranks",
    "vit",
    "\t",
    "\x00",
    "é",
    "\u2028",
    "-1",
    "[]",
    "{}",
]
edits = st.lists(
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), st.sampled_from(SNIPPETS + MORE) | st.text(max_size=4)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=edits)
def test_a_mangled_suite_loads_or_is_refused_in_clear_lines(place: Path, edits: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for start, length, snippet in edits:
        text = text[:start] + snippet + text[start + length :]
    path = place / "suite.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        expand(load_suite(path))
    except BridgeError as error:
        assert isinstance(error, InvalidInput)
        for line in str(error).splitlines():
            assert str(path) in line
            assert line.isprintable(), repr(line)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_any_place_loads_or_is_refused(place: Path, data: st.DataObject) -> None:
    scalars = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["vit", "dlg"])
    )
    keys = st.sampled_from(["kind", "label", "proxy", "model", "rank", "path", "optimiser", "x"])
    values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
    names = ["models", "ranks", "datasets", "bridges", "recipes", "priors", "include", "exclude", "seeds", "knowledge"]
    lines = {line.split(":")[0]: line for line in GOOD.splitlines() if line[0].isalpha()}
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)):
        lines[name] = f"{name}: {json.dumps(data.draw(values))}"
    path = place / "suite.yaml"
    path.write_text("\n".join(line for line in lines.values() if not line.endswith(":")), errors="surrogatepass")
    try:
        expand(load_suite(path))
    except BridgeError as error:
        assert isinstance(error, InvalidInput)
