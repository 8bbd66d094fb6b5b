"""Every flipped bit and truncation is found, only what is damaged is made again, and every format stays readable."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from benchmark import events as e
from benchmark.manifest import MANIFEST_FILE
from benchmark.scheduler import RunOptions
from benchmark.store import FORMAT, Store
from bridge_core.errors import StoreFault
from bridge_core.facts import Fact, read_facts, write_facts
from tests.harness.manifests import manifest_of
from tests.harness.synthetic_runs import Bench, graph_of, key_of, noted

GOLDEN = Path(__file__).with_name("golden")
TASK = next(iter(graph_of({1: ()}).tasks.values()))
KINDS = ("tensors.safetensors", "facts.parquet", "gallery.png", "sentences.json", "release/README.md", MANIFEST_FILE)
FLIPS = 150
"""A kind of file."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one artefact that has a file of every kind."""
    store = Store.open(tmp_path / "store")
    folder = store.begin(TASK.key)
    draw = np.random.default_rng(0)
    (folder / "release").mkdir()
    (folder / "release" / "README.md").write_text("an adapter\n")
    save_file({"weight": draw.normal(size=(40, 3)).astype(np.float32)}, folder / "tensors.safetensors")
    write_facts([Fact("psnr", 12.5, secret=0), Fact("loss", float("nan"))], folder)
    Image.fromarray(draw.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / "gallery.png")
    (folder / "sentences.json").write_text(json.dumps([{"truth": "é", "recovered": ""}]))
    store.commit(folder, manifest_of(TASK))
    return store


@pytest.mark.parametrize("name", KINDS)
def test_no_flipped_bit_goes_unseen(store: Store, name: str) -> None:
    path, draw = store.path(TASK.key) / name, random.Random(name)
    whole = path.read_bytes()
    bits = draw.sample(range(8 * len(whole)), min(FLIPS, 8 * len(whole)))
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert store.problem(TASK.key, full=True), f"bit {bit} of {name} was flipped unseen"
    path.write_bytes(whole)
    assert store.problem(TASK.key, full=True) is None


@pytest.mark.parametrize("name", KINDS)
def test_no_truncation_goes_unseen_even_at_a_look(store: Store, name: str) -> None:
    path = store.path(TASK.key) / name
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        assert store.problem(TASK.key), f"{name} was cut to {length} bytes unseen"


def test_after_verify_only_the_damaged_artefact_and_nothing_beside_it_is_made_again(tmp_path: Path) -> None:
    bench, graph = Bench(tmp_path), graph_of({1: (), 2: (1,), 3: (1,), 4: (2,), 5: ()})
    alone = RunOptions(workers=0)
    bench.run(graph, alone)
    (bench.store.path(key_of(2)) / "payload.bin").write_bytes(b"damage")
    assert set(bench.store.verify_all()) == {key_of(2)}
    before = len(noted(bench.control, "start"))
    assert bench.run(graph, alone).exit_code == 0
    assert noted(bench.control, "start")[before:] == [2]
    assert [path.name for path in (bench.store.root / "quarantine").iterdir()] == [f"{key_of(2)}-1"]


def test_gc_leaves_all_that_any_of_the_suites_needs(tmp_path: Path) -> None:
    bench, alone = Bench(tmp_path), RunOptions(workers=0)
    graphs = [graph_of({1: (), 2: (1,)}), graph_of({1: (), 3: (1,)}), graph_of({4: (), 5: (4,)})]
    for graph in graphs:
        bench.run(graph, alone)
    removed = bench.store.gc(graphs[0].tasks.keys() | graphs[1].tasks.keys())
    assert set(removed) == {key_of(4), key_of(5)}
    for graph in graphs[:2]:
        assert bench.run(graph, alone).cached_tasks == len(graph.tasks)
        assert not [event for event in bench.events if isinstance(event, e.TaskStarted)]


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_a_store_of_every_format_is_read_checked_and_brought_up_to_date(tmp_path: Path, version: int) -> None:
    """A new format needs a golden store of its own beside the old ones."""
    root = tmp_path / "store"
    shutil.copytree(GOLDEN / f"format-{version}", root)
    assert json.loads((root / "format.json").read_text()) == {"format": version}
    store = Store.open(root, create=False)
    assert list(store.keys()) == sorted([key_of(1), key_of(2)]) and store.verify_all() == {}
    assert [fact.value for fact in read_facts(store.path(key_of(2))) if fact.name == "psnr"] == [2.0]
    with store.lock("migration"):
        pass
    assert json.loads((root / "format.json").read_text()) == {"format": FORMAT}
    assert store.verify_all() == {} and store.manifest(key_of(2)).inputs == {"input1": key_of(1)}


def test_a_look_leaves_an_older_store_as_it_is(tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(GOLDEN / "format-1", root)
    list(Store.open(root, create=False).keys())
    assert json.loads((root / "format.json").read_text()) == {"format": 1}


@pytest.mark.parametrize("version", [0, -1, FORMAT + 1])
def test_a_format_that_this_program_does_not_know_is_refused(tmp_path: Path, version: int) -> None:
    root = tmp_path / "store"
    shutil.copytree(GOLDEN / "format-1", root)
    (root / "format.json").write_text(json.dumps({"format": version}))
    with pytest.raises(StoreFault, match=f"store format {version}"):
        Store.open(root, create=False)
