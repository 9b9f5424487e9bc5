"""What does the gate of images cost the loader? What precedes decoding is timed by itself: first bytes, segments or
chunks, checksums, sizes, memory. The fastest time of each file counts, since another program can only add to it. It
is given as a share of the loader's time, whose fastest epoch counts.

    python benchmarks/gate.py [--images 50] [--rounds 60]

Target: ≤ 2 % on the JPEGs of benchmarks/loader.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common import photo
from loader import AUGMENTATIONS, ours

from vitrail import console
from vitrail.data.media import jpeg, limits, png
from vitrail.data.media.formats import sniff
from vitrail.data.media.read import read_regular

Batches = Callable[[int], Iterable[Any]]
SIZE = (500, 375)


def write_photos(folder: Path, num: int, suffix: str) -> None:
    for i in range(num):
        path = folder / f"class{i % 10}" / f"{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(i, *SIZE).save(path, quality=90)


GATES: dict[str, Callable[[bytes], object]] = {"JPEG": jpeg.gate, "PNG": png.gate}


def checking(files: list[Path], kind: str, rounds: int) -> float:
    """Seconds that the checks of all these files take, each of which was just read, as in the loader."""
    best = [float("inf")] * len(files)
    for _ in range(rounds):
        for place, path in enumerate(files):
            data = read_regular(path)
            begun = time.perf_counter()
            sniff(data)
            GATES[kind](data)
            limits.check_pixels(SIZE)
            limits.check_memory(SIZE, len(data))
            best[place] = min(best[place], time.perf_counter() - begun)
    return sum(best)


def fastest(batches: Batches, rounds: int) -> float:
    """Seconds of processor time of an epoch, which is too long to go without interruption."""
    taken = []
    for turn in range(rounds):
        begun = time.process_time()
        for _ in batches(turn):
            pass
        taken.append(time.process_time() - begun)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for kind, suffix in (("JPEG", "jpg"), ("PNG", "png")):
            folder = Path(name) / suffix
            write_photos(folder, options.images, suffix)
            files = sorted(folder.rglob(f"*.{suffix}"))
            added = checking(files, kind, options.rounds)
            for augment in AUGMENTATIONS:
                epoch = fastest(ours(folder, augment, 0), max(3, options.rounds // 6))
                cells = [f"{1e6 * added / len(files):.0f} µs", f"{1e3 * epoch / len(files):.2f} ms"]
                rows.append([kind, augment, *cells, f"{100 * added / epoch:.1f} %"])
                print(*rows[-1], flush=True)
    print(console.table(["files", "augmentation", "the gate, an image", "the loader, an image", "share"], rows))


if __name__ == "__main__":
    main()
