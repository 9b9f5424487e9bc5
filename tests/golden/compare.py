"""Do two checkouts compute the same, bit for bit?

    python tests/golden/compare.py --before ../base --after .               # both, in one run
    python tests/golden/compare.py --before ../base --record before.json    # one side, to be compared with later
    python tests/golden/compare.py --against before.json --after .          # the other side
    python tests/golden/compare.py --against before.json --after . --only "train/*" --only distill

Each checkout (a worktree of the repository) computes the cases of ``cases.py`` and ``cases_using.py`` with its own code
and this script's cases, through the command line and the public names alone: losses of every step, metrics, the hash
of every tensor that is written, predictions, vectors, maps of heat, files for other libraries. A line for each case
says ``same`` or ``different`` with the first item that differs; the exit status is 1 where one differs.

Random first weights may be drawn in another order by changed code. So every training is there twice: from its own first
weights, and (``resume/``, ``init/``) from run folders that the side before has written for both. Those inputs lie
beside the recording, in ``before.json.inputs``.

Hashes hold for one machine and one set of installed libraries: record and compare on the same one. Not compared are
times, paths, versions (``work.EXCLUDED``), the words of messages, ``config.yaml``, and the figures of reports.
``--ignore "explain/anatomy:*"`` leaves out what is meant to differ. It is no part of the test suite: a side takes some
six minutes on a free core, and nothing here has a name that pytest collects.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inputs

Results = dict[str, dict[str, Any]]
HERE = Path(__file__).resolve().parent
SENTENCES = ("*.adapted", "*.writes_as.*")
"""Items that people read, where there are words: what they say may be said otherwise."""


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory() as temporary:
        shared = Path(f"{options.record or options.against or Path(temporary, 'recorded')}.inputs")
        if options.against:
            before: Results = json.loads(Path(options.against).read_text())
        else:
            shutil.rmtree(shared, ignore_errors=True)
            inputs.write(shared)
            prepare(options.before, shared)
            before = dict(results(options.before, shared, options.only))
            if options.record:
                Path(options.record).write_text(json.dumps(before, indent=1) + "\n")
                return report_errors(before)
        return compare(before, options, shared)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--after", type=Path, help="the checkout to be compared")
    parser.add_argument("--record", help="write the results of --before to this file, and compare nothing")
    parser.add_argument("--against", help="compare with results that were recorded")
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="patterns of cases")
    parser.add_argument("--skip", action="append", default=[], metavar="CASE", help="patterns of cases")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="CASE:ITEM", help="patterns of items that may differ"
    )
    parser.add_argument("--all", action="store_true", help="name every item that differs, not the first alone")
    parser.add_argument("--out", help="write the results of --after to this file")
    options = parser.parse_args()
    if bool(options.before) == bool(options.against) or not (options.record or options.after):
        parser.error("give --before and --after, or --before and --record, or --against and --after")
    chosen = [name for name in names() if not options.only or matches(name, options.only)]
    options.only = [name for name in chosen if not matches(name, options.skip)]
    return options


def names() -> list[str]:
    import cases_using

    return list(cases_using.CASES)


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def prepare(checkout: Path, shared: Path) -> None:
    """Let the checkout add to the inputs: run folders to start from."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(shared, Path(folder, "inputs"))
        for result in host(checkout, folder, "prepare"):
            print(f"prepared in {result['seconds']:.0f} s", file=sys.stderr)
            if result["error"]:
                raise SystemExit(f"cannot prepare: {result['error']}")
        shutil.rmtree(shared)
        shutil.copytree(Path(folder, "inputs"), shared)


def results(checkout: Path, shared: Path, chosen: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each case what a checkout computes."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(shared, Path(folder, "inputs"))
        for result in host(checkout, folder, "cases", *chosen):
            print(f"{result['seconds']:7.1f} s  {result['case']}", file=sys.stderr, flush=True)
            yield result.pop("case"), result


def host(checkout: Path, folder: str, *arguments: str) -> Iterator[dict[str, Any]]:
    environment = os.environ | {
        "PYTHONPATH": str(checkout.resolve()),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(Path(folder, "cache")),
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
        "COLUMNS": "200",
    }
    command = [sys.executable, str(HERE / "host.py"), str(checkout.resolve()), folder, *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{checkout}: exit status {process.returncode}")


def report_errors(found: Results) -> int:
    failed = {name: result["error"] for name, result in found.items() if result["error"]}
    for name, error in failed.items():
        print(f"failed  {name}: {error}")
    items = sum(len(result["items"]) for result in found.values())
    print(f"recorded: {len(found)} cases, {items:,} items, {sum(r['seconds'] for r in found.values()):.0f} s")
    return 1 if failed else 0


def compare(before: Results, options: argparse.Namespace, shared: Path) -> int:
    """Print a line a case; 1 where one differs."""
    chosen = [name for name in options.only if name in before]
    kept: Results = {}
    different = 0
    for name, after in results(options.after, shared, chosen):
        kept[name] = after
        found = differences(name, before[name], after, options.ignore)
        different += bool(found)
        print(f"{'different' if found else 'same':9}  {name:40} {len(after['items']):5} items", flush=True)
        for line in found if options.all else found[:1]:
            print(f"    {line}")
        if len(found) > 1 and not options.all:
            print(f"    and {len(found) - 1} more")
    if options.out:
        Path(options.out).write_text(json.dumps(kept, indent=1) + "\n")
    print(f"{len(chosen) - different} of {len(chosen)} cases are the same")
    return 1 if different else 0


def differences(name: str, before: dict[str, Any], after: dict[str, Any], ignored: list[str]) -> list[str]:
    """What differs, a line each."""
    found = []
    old, new = before["items"], after["items"]
    for item in [*old, *(item for item in new if item not in old)]:
        first, second = old.get(item), new.get(item)
        if first == second or matches(f"{name}:{item}", ignored) or reworded(item, first, second):
            continue
        found.append(f"{item}: {first or 'nothing'} before, {second or 'nothing'} after")
    if before["error"] != after["error"]:
        found.insert(0, f"{before['error'] or 'no error'} before, {after['error'] or 'no error'} after")
    return found


def reworded(item: str, old: str | None, new: str | None) -> bool:
    """Both sides say something of what only people read."""
    return matches(item, list(SENTENCES)) and " " in (old or "") and " " in (new or "")


if __name__ == "__main__":
    raise SystemExit(main())
