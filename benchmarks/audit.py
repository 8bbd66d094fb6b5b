"""Print whether leaks by construction are found, whether any is claimed on ordinary adapters, and what an audit costs.

20 adapters of each leak and 100 ordinary ones are made by PEFT; a rank-64 adapter of a 7-billion-parameter shape
(32 layers, 224 modules, random weights) is audited in a process of its own, whose memory is counted.
"""

import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from scipy.stats import binomtest

from audit.report import Severity
from audit.run import audit_adapter
from benchmarks.audit_makers import LEAKS, WEIGHTS, ordinary

EACH, ORDINARY = 20, 100
LIMIT_SECONDS, LIMIT_BYTES = 20.0, 1e9
HIDDEN, INNER, LAYERS, RANK = 4096, 11008, 32, 64
SHAPES = {
    **{f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"},
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
CONFIG = f'{{"peft_type": "LORA", "r": {RANK}, "lora_alpha": 128, "init_lora_weights": true, "task_type": "CAUSAL_LM"}}'

CHILD = """
import re, sys
from benchmark.cli import app
app(["audit", sys.argv[1], "--fail-on", "never"], standalone_mode=False)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""
"""Its own peak: what the operating system counts of a child begins with its parent's memory."""


def main() -> int:
    """Measure; 1 where a leak is missed, one is claimed that is not there, or a limit is passed."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        missed = sum(_missed(name, Path(folder)) for name in LEAKS)
        claimed = _claimed(Path(folder))
        slow = _cost(Path(folder))
    return int(missed + claimed > 0 or slow)


def _interval(found: int, tried: int) -> tuple[float, float]:
    """Wilson's 95 % interval."""
    ends = binomtest(found, tried).proportion_ci(method="wilson")  # pyright: ignore
    return float(ends.low), float(ends.high)  # pyright: ignore


def _missed(name: str, folder: Path) -> int:
    make, rules = LEAKS[name]
    found = 0
    for number in range(EACH):
        path = folder / f"{name} {number}"
        _quietly(make, path)
        found += set(rules) <= {one.rule for one in audit_adapter(path).findings}
    low, high = _interval(found, EACH)
    print(f"{name:16s} found in {found} of {EACH} (95 % interval {low:.2f} to {high:.2f}): {', '.join(rules)}")
    return EACH - found


def _claimed(folder: Path) -> int:
    false = 0
    for number in range(ORDINARY):
        path = folder / f"ordinary {number}"
        _quietly(partial(ordinary, number=number), path)
        rules = [one.rule for one in audit_adapter(path).at_or_above(Severity.LOW)]
        false += bool(rules)
        if rules:
            print(f"ordinary {number}: claimed {', '.join(rules)}")
    low, high = _interval(false, ORDINARY)
    print(f"ordinary         claimed on {false} of {ORDINARY} (95 % interval {low:.2f} to {high:.2f})")
    return false


def _quietly(make: object, path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        make(path)  # type: ignore[operator]


def large_adapter(folder: Path) -> None:
    """Random factors of a 7-billion-parameter shape, in float32: 640 MB."""
    rng = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(LAYERS):
        for name, (out, width) in SHAPES.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{prefix}.lora_A.weight"] = (torch.rand(RANK, width, generator=rng) * 2 - 1) / width**0.5
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(out, RANK, generator=rng) * 1e-3
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS)
    (folder / "adapter_config.json").write_text(CONFIG)


def _cost(folder: Path) -> bool:
    path = folder / "large"
    large_adapter(path)
    size = (path / WEIGHTS).stat().st_size
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, check=True, env=environment)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory, busy = int(done.stderr.split()[-1]) * 1024, usage.ru_utime + usage.ru_stime
    told = f"{seconds:.1f} s (limit {LIMIT_SECONDS:.0f}), of which {busy:.1f} s of processor"
    print(f"{len(SHAPES) * LAYERS} modules of rank {RANK}, {size / 1e6:.0f} MB: {told}")
    print(f"  at most {memory / 1e6:.0f} MB of memory (limit {LIMIT_BYTES / 1e6:.0f})")
    return seconds > LIMIT_SECONDS or memory > LIMIT_BYTES


if __name__ == "__main__":
    sys.exit(main())
