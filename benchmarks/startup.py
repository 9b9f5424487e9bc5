"""How long does the command line take to answer, and what does `import vitrail` add to `import torch`?

    python benchmarks/startup.py [--repeats 9]

Each number is the median over fresh interpreters, run in turn; the processor time beside it does not depend on what
else the machine does. Goals: help ≤ 0.3 s, import ≤ 0.1 s on top of torch's.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "vitrail --help": ["-m", "vitrail", "--help"],
    "vitrail predict --help": ["-m", "vitrail", "predict", "--help"],
    "import torch": ["-c", "import torch"],
}
ADDED = {
    "import vitrail adds": "import vitrail",
    "vitrail.load's imports add": "import vitrail; vitrail.load",
}
TIMED = "import time, torch; started = time.perf_counter(); {}; print(time.perf_counter() - started)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(repeats + 1):
        for name, command in COMMANDS.items():
            measured = run(command)
            if number:  # the first round warms the disk's cache
                times[name].append(measured)
    for name, values in times.items():
        wall, processor = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{name:28} {wall:6.3f} s   processor {processor:6.3f} s")
    for name, statement in ADDED.items():
        command = [sys.executable, "-c", TIMED.format(statement)]
        added = [float(subprocess.check_output(command)) for _ in range(repeats)]
        print(f"{name:28} {statistics.median(added):6.3f} s   (on top of import torch)")


def run(command: list[str]) -> tuple[float, float]:
    """(wall, processor) seconds of a fresh interpreter."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, processor


if __name__ == "__main__":
    main()
