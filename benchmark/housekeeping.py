"""Keeping the store: its artefacts checked, and those removed that no suite needs."""

from collections.abc import Iterable
from pathlib import Path

from benchmark.console import complain, say
from benchmark.run import plan_graph
from benchmark.store import Store
from benchmark.tui.wording import plural
from benchmark.zoo import is_zoo, plan_zoo


def verify_store(path: Path) -> int:
    """Check every artefact; 1 where some are in quarantine now, else 0. Raises `StoreLocked`, `UnknownName`."""
    store = Store.open(path, create=False)
    with store.lock("store verify"):
        problems = store.verify_all()
    for key, problem in problems.items():
        complain(f"{key}: {problem}; quarantined, the next run makes it again", "corrupt")
    say(f"{plural(len([*store.keys()]), 'artefact')} whole, {len(problems)} corrupt")
    return 1 if problems else 0


def collect_garbage(path: Path, suites: Iterable[Path], remove: bool) -> int:
    """Remove what none of `suites` needs, or only tell of it. Raises `InvalidInput`, `StoreLocked`, `UnknownName`."""
    store = Store.open(path, create=False)
    keep = {key for suite in suites for key in (plan_zoo if is_zoo(suite) else plan_graph)(suite).tasks}
    if remove:
        with store.lock("store gc"):
            say(f"{plural(len(store.gc(keep)), 'artefact')} removed")
        return 0
    doomed = [key for key in store.keys() if key not in keep]  # noqa: SIM118  (a store is no mapping)
    size = sum(store.size(key) for key in doomed)
    say(f"{plural(len(doomed), 'artefact')}, {size / 2**20:.1f} MiB, would be removed; --yes removes them")
    return 0
