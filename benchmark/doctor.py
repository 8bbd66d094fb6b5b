"""What is on this machine of what a run needs, in plain words."""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, Literal

from benchmark.console import say
from bridge_core.errors import BridgeError

PACKAGE = "lora-gradient-bridge"
TEX_PACKAGES = ("booktabs.sty", "siunitx.sty")
LEAST_FREE_GIB = 2.0
LEAST_MEMORY_GIB = 4.0
SIGNS = {"good": "✓", "note": "·", "bad": "✗"}

Grade = Literal["good", "note", "bad"]
"""`note`: something is missing that a run does not need; `bad`: a run can not work."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    grade: Grade
    found: str
    remedy: str = ""


def examine(store: Path, as_json: bool = False) -> int:
    """Print all findings; 1 where one is bad, else 0."""
    findings: list[Finding] = []
    for finding in look(store):
        findings.append(finding)
        if not as_json:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            say(f"{SIGNS[finding.grade]} {finding.what}: {finding.found}{remedy}")
    bad = sum(finding.grade == "bad" for finding in findings)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        say(f"{bad} of these keep runs from working" if bad else "all that a run needs is here")
    return int(bad > 0)


def look(store: Path) -> Iterator[Finding]:
    """One finding after the other; torch comes late, since it takes seconds."""
    yield _python()
    yield from _packages()
    yield _machine()
    yield _disk(store)
    yield _latex()
    yield _torch()
    yield from _data()


def _python() -> Finding:
    found = platform.python_version()
    good = tuple(map(int, found.split(".")[:2])) >= (3, 11)
    return Finding("Python", "good" if good else "bad", found, "" if good else "install Python 3.11 or newer")


def _packages() -> Iterator[Finding]:
    """The dependencies, then each extra."""
    try:
        wanted = distribution(PACKAGE).requires or []
    except PackageNotFoundError:
        yield Finding("packages", "note", "the project is not installed", "pip install -e '.[data]'")
        return
    groups: dict[str, list[str]] = {"": []}
    for line in wanted:
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra == [\"']([\w-]+)[\"']", line)
        groups.setdefault(extra[1] if extra else "", []).append(name[0] if name else line)
    for extra, names in groups.items():
        missing = [name for name in names if not _is_installed(name)]
        what = f"extra `{extra}`" if extra else "packages"
        if not missing:
            yield Finding(what, "good", f"all {len(names)} installed")
        else:
            remedy = f"pip install -e '.[{extra}]'" if extra else "pip install -e ."
            yield Finding(what, "note" if extra else "bad", f"missing: {', '.join(missing)}", remedy)


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _machine() -> Finding:
    from benchmark.scheduler import num_cores

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = num_cores()
    found = f"{cores} {'core' if cores == 1 else 'cores'}, {memory:.1f} GiB of memory: `bridge bench run` takes {cores}"
    if memory < LEAST_MEMORY_GIB:
        return Finding("machine", "note", found, "with so little memory, give --workers 1")
    return Finding("machine", "good", found)


def _disk(store: Path) -> Finding:
    place = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        return Finding("store", "bad", f"{place} can not be written", "give another --store, or set BRIDGE_STORE")
    if free < LEAST_FREE_GIB:
        return Finding(
            "store", "note", f"{free:.1f} GiB free at {place}", "`bridge store gc` removes what no suite needs"
        )
    return Finding("store", "good", f"{store}, {free:.0f} GiB free" + ("" if store.exists() else ", not made yet"))


def _latex() -> Finding:
    if shutil.which("pdflatex") is None:
        remedy = "needed only to compile the reports' tables: apt-get install texlive-latex-extra texlive-science"
        return Finding("LaTeX", "note", "no pdflatex", remedy)
    missing = [name for name in TEX_PACKAGES if not _tex_finds(name)]
    if missing:
        return Finding("LaTeX", "note", f"missing: {', '.join(missing)}", "apt-get install texlive-science")
    return Finding("LaTeX", "good", "pdflatex with booktabs and siunitx")


def _tex_finds(name: str) -> bool:
    try:
        asked = subprocess.run(["kpsewhich", name], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(asked.stdout.strip())


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "bad", f"can not be imported: {error}", "pip install torch")
    if torch.cuda.is_available():
        return Finding("torch", "good", f"{torch.__version__}, GPU {torch.cuda.get_device_name(0)}")
    return Finding("torch", "good", f"{torch.__version__}, no GPU: everything runs on the processor")


def _data() -> Iterator[Finding]:
    """Each data set and text model, by the check that a run makes before it starts."""
    for source in ("digits", "mnist", "fashion_mnist"):
        yield _suite_works(
            f"data `{source}`", {"datasets": [{"proxy": source, "private": source}], "models": ["convnet"]}
        )
    for model in ("minilm", "smollm2"):
        corpus = {"proxy": "canaries", "private": "canaries", "max_tokens": 8}
        yield _suite_works(f"text model `{model}`", {"datasets": [corpus], "models": [model]} | TEXT)


TEXT = {"bridges": ["direct"], "inversions": ["span"]}
IMAGES = {"name": "doctor", "ranks": [2], "bridges": ["oracle"], "inversions": ["dlg"]}


def _suite_works(what: str, axes: dict[str, Any]) -> Finding:
    from benchmark.suite import Suite, expand
    from bridge_core import phases

    try:
        cells = expand(Suite.model_validate_json(json.dumps(IMAGES | axes)))
        phases.check(tuple(labelled.cell for labelled in cells))
    except BridgeError as error:
        return Finding(what, "note", error.found, error.remedy)
    return Finding(what, "good", "here")
