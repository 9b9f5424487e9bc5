"""How long does the command line take to answer, and what does `import vitrail` add to `import torch`?

    python benchmarks/startup.py [--repeats 9]

Each number is the median over fresh interpreters; the pairs to compare are run in turn. Goals: help ≤ 0.3 s, import
≤ 0.1 s on top of torch's.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "vitrail --help": ["-m", "vitrail", "--help"],
    "vitrail predict --help": ["-m", "vitrail", "predict", "--help"],
    "import torch": ["-c", "import torch"],
    "import torch, vitrail": ["-c", "import torch, vitrail"],
    "import torch; vitrail.load": ["-c", "import torch, vitrail; vitrail.load"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(repeats + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            if number:  # the first round warms the disk's cache
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:28} {median:6.3f} s   (best {min(seconds[name]):.3f})")
    added = [b - a for a, b in zip(seconds["import torch"], seconds["import torch, vitrail"], strict=True)]
    print(f"{'import vitrail adds':28} {statistics.median(added):6.3f} s   (median of paired differences)")


if __name__ == "__main__":
    main()
