"""Artefacts are whole or absent; what does not hold is put aside; one driver at a time."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.store import FORMAT, Store
from bridge_core.errors import CorruptArtefact, StoreFault, StoreLocked, UnknownName
from tests.harness.manifests import manifest_of
from tests.harness.synthetic_runs import graph_of, key_of

TASKS = list(graph_of({1: (), 2: (1,)}).tasks.values())
KEY = key_of(1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def put(store: Store, number: int = 0, large: bytes = b"x" * 100_000) -> str:
    temporary = store.begin(TASKS[number].key)
    (temporary / "release" / "000").mkdir(parents=True)
    (temporary / "release" / "000" / "adapter.bin").write_bytes(large)
    (temporary / "small.txt").write_text("small")
    assert store.commit(temporary, manifest_of(TASKS[number]))
    return TASKS[number].key


def test_a_committed_artefact_is_there_with_the_record_of_every_file(store: Store):
    key = put(store)
    manifest = store.manifest(key)
    assert store.has(key) and list(store.keys()) == [key] and store.verify_all() == {}
    assert {name: file.size for name, file in manifest.files.items()} == {
        "release/000/adapter.bin": 100_000,
        "small.txt": 5,
    }
    assert manifest.phase == "proxy" and math.isnan(manifest.metrics["loss"]) and store.size(key) == 100_005
    assert json.loads((store.path(key) / "manifest.json").read_text(), parse_constant=pytest.fail)
    assert not list(store.root.glob("temp/*"))


def test_an_artefact_that_was_not_committed_is_not_there(store: Store):
    (store.begin(KEY) / "half").write_text("half")
    assert not store.has(KEY) and not list(store.keys())
    with pytest.raises(UnknownName):
        store.manifest(KEY)


def test_the_first_of_two_commits_stays(store: Store):
    put(store, large=b"first")
    temporary = store.begin(KEY)
    (temporary / "other").write_text("second")
    assert store.commit(temporary, manifest_of(TASKS[0])) is False
    assert (store.path(KEY) / "release/000/adapter.bin").read_bytes() == b"first" and not temporary.exists()


def test_a_process_killed_before_its_commit_leaves_nothing_that_counts(store: Store):
    code = (
        "import os, sys; from benchmark.store import Store; from pathlib import Path\n"
        "temporary = Store.open(Path(sys.argv[1])).begin(sys.argv[2])\n"
        "(temporary / 'half').write_text('half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store.root), KEY]).returncode == -9
    assert not store.has(KEY) and len(list(store.root.glob("temp/*"))) == 1
    with store.lock("next"):
        assert not list(store.root.glob("temp/*"))


@pytest.mark.parametrize(
    ("name", "data", "seen_at_a_look"),
    [
        ("release/000/adapter.bin", b"y" * 100_000, False),
        ("release/000/adapter.bin", b"y" * 99_999, True),
        ("release/000/adapter.bin", None, True),
        ("small.txt", b"smell", True),
        ("manifest.json", b"{", True),
        ("manifest.json", None, True),
    ],
)
def test_damage_is_found_put_aside_and_told(store: Store, name: str, data: bytes | None, seen_at_a_look: bool):
    key, sound = put(store), put(store, 1)
    path = store.path(key) / name
    path.unlink() if data is None else path.write_bytes(data)
    assert (store.problem(key) is not None) == seen_at_a_look
    problems = store.verify_all()
    assert list(problems) == [key] and name in problems[key]
    assert list(store.keys()) == [sound]
    assert (store.root / "quarantine" / f"{key}-1" / "problem.txt").read_text().strip() == problems[key]
    put(store)
    assert store.problem(key, full=True) is None


def test_an_artefact_under_a_foreign_key_is_corrupt(store: Store):
    put(store).encode()
    store.path(key_of(2)).parent.mkdir(parents=True)
    store.path(KEY).rename(store.path(key_of(2)))
    with pytest.raises(CorruptArtefact):
        store.manifest(key_of(2))


def test_gc_keeps_what_is_named(store: Store):
    first, second = put(store), put(store, 1)
    assert store.gc({second}) == (first,)
    assert list(store.keys()) == [second] and not list(store.root.glob("temp/*"))


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_look_makes_no_store(tmp_path: Path):
    with pytest.raises(UnknownName):
        Store.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", ['{"format": 99}', "{", "[]"])
def test_a_store_of_a_newer_or_unreadable_format_is_refused(store: Store, text: str):
    (store.root / "format.json").write_text(text)
    with pytest.raises(StoreFault) as refused:
        Store.open(store.root)
    assert "\n" not in str(refused.value)
    assert "99" not in text or f"format 99; wanted format {FORMAT}" in str(refused.value)


def test_a_folder_of_something_else_and_a_file_are_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("words")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(StoreFault):
            Store.open(path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_store_that_can_not_be_written_is_a_fault(store: Store):
    store.root.chmod(0o500)
    try:
        with pytest.raises(StoreFault):
            store.begin(KEY)
    finally:
        store.root.chmod(0o700)


def test_a_full_disk_is_a_fault_and_not_an_artefact(store: Store):
    code = (
        "import resource, signal, sys; from pathlib import Path; from benchmark.store import Store\n"
        "from bridge_core.errors import StoreFault; from tests.harness.test_store import TASKS, manifest_of\n"
        "store = Store.open(Path(sys.argv[1])); temporary = store.begin(TASKS[0].key)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: store.commit(temporary, manifest_of(TASKS[0]))\n"
        "except StoreFault as fault: print(fault)"
    )
    told = subprocess.run([sys.executable, "-c", code, str(store.root)], capture_output=True, text=True, check=True)
    assert "too large" in told.stdout and not store.has(KEY)


# --- the lock ---------------------------------------------------------------------------------------------------------

HOLDER = (
    "import sys; from pathlib import Path; from benchmark.store import Store\n"
    "with Store.open(Path(sys.argv[1])).lock('vision'): print('held', flush=True); sys.stdin.read()"
)


def test_a_lock_names_its_holder_and_is_free_when_the_holder_is_killed(store: Store):
    command = [sys.executable, "-c", HOLDER, str(store.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        owner = store.owner()
        assert owner is not None and (owner.pid, owner.suite) == (holder.pid, "vision")
        with pytest.raises(StoreLocked) as refused, store.lock("text"):
            pass
        for part in (str(holder.pid), owner.host, owner.since, "vision"):
            assert part in str(refused.value)
        holder.kill()
    assert store.owner() is None
    with store.lock("text"):
        owner = store.owner()
        assert owner is not None and owner.pid == os.getpid()
    assert store.owner() is None
