"""``python -m tests.fuzz --minutes 60``: mutants of images, sources, weights and run folders, for as long as wanted.

What fails is shrunk, printed and stored in ``tests/fuzz/found/``. ``--atheris`` lets atheris choose the bytes of
images, guided by coverage, where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import guided
from harness import run
from targets import NAMES, named


def main() -> int:
    """The exit code: 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="for all targets together")
    parser.add_argument("--count", type=int, default=10**9, help="mutants of each target, at most")
    parser.add_argument("--seed", type=int, default=None, help="default: by the clock")
    parser.add_argument("--targets", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--atheris", action="store_true", help="images, guided by coverage")
    options = parser.parse_args()
    if options.atheris and importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; run: pip install atheris", file=sys.stderr)
        return 2
    if options.atheris:
        guided.run(options.minutes)
    seed = int(time.time()) if options.seed is None else options.seed
    failed = False
    for name in options.targets:
        seconds = 60 * options.minutes / len(options.targets)
        outcome = run(named(name), count=options.count, seconds=seconds, seed=seed)
        print(
            f"{name}: {outcome.tried:,} tried, {outcome.taken:,} taken, {len(outcome.failures)} failed, slowest "
            f"{outcome.slowest:.2f} s, largest {outcome.largest:.0f} MB (seed {seed})",
            flush=True,
        )
        for mutant, reason in outcome.failures[:20]:
            print(f"  {reason}\n    {mutant}")
        failed |= bool(outcome.failures)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
