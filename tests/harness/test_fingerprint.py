"""A code version changes with code that the phase can reach, and with nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.fingerprint import code_version, reached_modules

CORE = {
    "__init__": "",
    "spec": "KNOB = 1",
    "errors": "",
    "facts": "",
    "maths": "from core import deep\ndef double(x):\n    '''Twice.'''\n    return 2 * x",
    "deep/__init__": "from . import below",
    "deep/below": "from ..numbers import ONE",
    "numbers": "ONE = 1",
    "lazy": "TWO = 2",
    "stranger": "THREE = 3",
    "phases/__init__": "from core import stranger",
    "phases/base": "import core.maths\nfrom core import spec, errors\ndef run():\n    from core.lazy import TWO\n",
    "phases/victim": "from core.phases import Progress\nfrom .base import run\n",
}


@pytest.fixture
def core(tmp_path: Path) -> Path:
    for name, text in CORE.items():
        write(tmp_path / "core", name, text)
    return tmp_path / "core"


def write(core: Path, name: str, text: str) -> None:
    path = core / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def version(core: Path, phase: str = "base") -> str:
    """Counted afresh: within a process, a version is counted once."""
    code = (
        "import sys, pathlib, benchmark.fingerprint as f; print(f.code_version(sys.argv[1], pathlib.Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, phase, str(core)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_imports_are_followed_to_their_end_and_left_out_where_they_do_not_count(core: Path):
    reached = {"phases.base", "maths", "deep", "deep.below", "numbers", "lazy"}
    assert set(reached_modules("base", core)) == reached
    assert set(reached_modules("victim", core)) == {"phases.victim", *reached}


@pytest.mark.parametrize("name", ["numbers", "lazy", "phases/base"])
def test_code_within_reach_counts(core: Path, name: str):
    before = version(core)
    write(core, name, CORE[name] + "\nMORE = 1\n")
    assert version(core) != before


def test_comments_docstrings_layout_and_code_out_of_reach_do_not_count(core: Path):
    before = version(core)
    write(
        core, "maths", "# why\nfrom core import deep\n\ndef double(x):\n    '''Two\n    times.'''\n    return (2 * x)"
    )
    for name in ("stranger", "spec", "errors", "facts", "phases/__init__", "phases/victim"):
        write(core, name, "CHANGED = True")
    assert version(core) == before


def test_a_string_that_is_no_docstring_counts(core: Path):
    write(core, "lazy", "TWO = 'a'")
    before = version(core)
    write(core, "lazy", "TWO = 'b'")
    assert version(core) != before


def test_every_phase_of_the_core_has_a_version_of_its_own_without_importing_torch():
    phases = ["proxy", "private", "base", "statistics", "adapter", "victim", "publish", "decoder", "attack", "score"]
    assert len({code_version(phase) for phase in phases}) == len(phases)
    versions = "[f.code_version(phase) for phase in sys.argv[1:]]"
    code = f"import sys, benchmark.fingerprint as f; print({versions}, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code, *phases], capture_output=True, text=True, check=True).stdout
    assert told == f"{[code_version(phase) for phase in phases]} False\n"


def test_a_phase_without_a_module_is_our_own_bug(core: Path):
    with pytest.raises(FileNotFoundError):
        reached_modules("nothing", core)
