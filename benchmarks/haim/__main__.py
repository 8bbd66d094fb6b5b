"""Print the bridge and Haim et al. (2022) side by side over training steps, and draw the figure.

Odd and even digits of 8x8 pixels. Every adapter is trained by PEFT and read back from its folder. Writes `rows.json`,
`haim.md` and the figure into --out; finished cells of ordinary adapters are kept in --work and not run again.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.haim import best_case, ordinary, output
from benchmarks.haim.digits import parity_folder
from benchmarks.haim.rows import Row, read_rows, write_rows
from bridge_core import spec as s

STEPS = (1, 10, 100, 1_000, 10_000)
CASES = ("published", "homogeneous", "vit", "decay")


def main() -> int:
    """Measure the cases asked for, keep the rows of the others, write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("report/haim"))
    parser.add_argument("--work", type=Path, default=Path(".bridge/haim"))
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), help="empty: draw what is there")
    parser.add_argument("--steps", nargs="+", type=int, default=list(STEPS))
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    torch.set_num_threads(1)
    told.out.mkdir(parents=True, exist_ok=True)
    path = told.out / "rows.json"
    kept = read_rows(path) if path.exists() else []
    for case in told.cases:
        for row in _rows(case, told):
            kept = [one for one in kept if _key(one) != _key(row)] + [row]
            write_rows(kept, path)
            print(f"{time.strftime('%H:%M:%S')} {output.line(row)}", flush=True)
    kept.sort(key=_order)
    (told.out / "haim.md").write_text(output.table(kept))
    sys.stdout.write(output.table(kept))
    output.figure(kept, told.out)
    return 0


def _rows(case: str, told: argparse.Namespace) -> Iterator[Row]:
    steps, work, seed = tuple(told.steps), told.work / f"seed{told.seed}", told.seed
    knobs = s.Haim(trials=told.trials, iterations=told.iterations)
    work.mkdir(parents=True, exist_ok=True)
    if case == "published":
        yield from best_case.published(steps, knobs, seed)
    elif case == "homogeneous":
        yield from best_case.homogeneous_adapter(steps, knobs, seed, work / "homogeneous")
    else:
        images = work / "parity"
        parity_folder(images)
        kind = ordinary.CASES[("vit", "decay").index(case)]
        yield from ordinary.rows_of(kind, steps, knobs, images, work, seed)


def _key(row: Row) -> tuple[str, str, int]:
    return row.case, row.equation, row.steps


def _order(row: Row) -> tuple[int, str, int]:
    names = (best_case.PUBLISHED, best_case.HOMOGENEOUS, *(case.name for case in ordinary.CASES))
    return names.index(row.case), row.equation, row.steps


if __name__ == "__main__":
    sys.exit(main())
