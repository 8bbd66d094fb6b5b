"""Print how long `bridge --help` takes, and which imports it spends its time on."""

import re
import subprocess
import sys
import time

RUNS = 5
LIMIT_SECONDS = 0.5
HELP = ["-m", "benchmark.cli", "--help"]


def main() -> int:
    """Time the command; 1 where the median is over the limit."""
    seconds = sorted(_time_once() for _ in range(RUNS))
    median = seconds[RUNS // 2]
    print(f"bridge --help: median {median:.3f} s of {RUNS}, best {seconds[0]:.3f} s, limit {LIMIT_SECONDS} s")
    print(f"ratio to the limit: {median / LIMIT_SECONDS:.2f}")
    for milliseconds, module in _slowest_imports():
        print(f"{milliseconds:8.1f} ms  {module}")
    return int(median > LIMIT_SECONDS)


def _time_once() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *HELP], capture_output=True, check=True)
    return time.perf_counter() - start


def _slowest_imports() -> list[tuple[float, str]]:
    done = subprocess.run([sys.executable, "-X", "importtime", *HELP], capture_output=True, text=True, check=True)
    rows = re.findall(r"import time:\s+\d+ \|\s+(\d+) \|(\s*)(\S+)", done.stderr)
    return sorted(((int(cumulative) / 1000, module) for cumulative, _, module in rows), reverse=True)[:10]


if __name__ == "__main__":
    sys.exit(main())
