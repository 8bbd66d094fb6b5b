"""A journal gives back what was written, up to where its writer died, to readers that come at any time."""

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import events as e
from benchmark.journal import Journal, follow, new_run_id, read
from bridge_core.errors import StoreFault

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
EVENTS = st.one_of(
    st.builds(
        e.TaskFinished, time=st.just(1.0), key=st.text(), seconds=NUMBERS, metrics=st.dictionaries(st.text(), NUMBERS)
    ),
    st.builds(e.Logged, time=st.just(1.0), level=st.sampled_from(["info", "error"]), message=st.text()),
    st.builds(e.TaskCached, time=st.just(1.0), key=st.text()),
)
END = e.RunFinished(time=9.0, exit_code=0, finished_cells=1, failed_cells=0)


def log(message: str) -> e.Logged:
    return e.Logged(time=1.0, level="info", message=message)


@given(st.lists(EVENTS, max_size=5))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, events: list[e.AnyEvent]):
    path = tmp_path_factory.mktemp("runs") / "journal.jsonl"
    with Journal(path) as journal:
        for event in events:
            journal.write(event)
    assert [repr(event) for event in read(path)] == [repr(event) for event in events]


@given(st.integers(0, 200))
def test_a_torn_line_is_left_out_and_the_next_writer_begins_a_new_one(
    tmp_path_factory: pytest.TempPathFactory, num_bytes: int
):
    path = tmp_path_factory.mktemp("runs") / "journal.jsonl"
    with Journal(path) as journal:
        journal.write(log("first"))
        journal.write(log("second"))
    whole = path.read_bytes()
    path.write_bytes(whole[:num_bytes])
    left = [event for event in read(path)]
    assert left == [log("first"), log("second")][: len(left)]
    assert len(left) >= whole[:num_bytes].count(b"\n")
    with Journal(path) as journal:
        journal.write(log("third"))
    assert list(read(path)) == [*left, log("third")]


def test_each_event_is_readable_as_soon_as_it_is_written(tmp_path: Path):
    journal = Journal.start(tmp_path, "run-1")
    assert journal.path == tmp_path / "runs" / "run-1" / "journal.jsonl" and journal.run == "run-1"
    for count in range(1, 4):
        journal.write(log(str(count)))
        assert len(list(read(journal.path))) == count
    journal.close()


def test_a_follower_sees_torn_lines_when_they_are_whole_and_stops_at_the_end(tmp_path: Path):
    path = tmp_path / "run" / "journal.jsonl"
    seen: list[e.AnyEvent] = []
    follower = threading.Thread(target=lambda: seen.extend(follow(path, poll_seconds=0.01)))
    follower.start()
    text = log("slow").model_dump_json() + "\n"
    path.parent.mkdir()
    with path.open("w") as file:
        for part in (text[:20], text[20:]):
            file.write(part)
            file.flush()
            time.sleep(0.05)
    with Journal(path) as journal:
        journal.write(END)
    follower.join(5)
    assert not follower.is_alive() and seen == [log("slow"), END]


def test_a_follower_of_a_dead_driver_takes_what_is_there_and_stops(tmp_path: Path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.write(log("last"))
    assert list(follow(journal.path, stop=lambda: True)) == [log("last")]


def test_events_of_a_newer_program_are_one_clear_line(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event": "dreamt", "time": 1}\n')
    with pytest.raises(StoreFault, match="newer program"):
        list(read(path))


def test_run_ids_sort_by_time():
    ids: list[str] = []
    for _ in range(5):
        ids.append(new_run_id())
        time.sleep(0.002)
    assert sorted(ids) == ids and len(set(ids)) == 5
