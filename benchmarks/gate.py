"""What does the gate of images cost the loader? Each file is decoded as it is, and with the checks left out: first
bytes, segments or chunks, checksums, sizes, memory. In turns; the fastest time of each file counts, since another
program can only add to it. The difference is given as a share of the loader's time, whose fastest epoch counts.

    python benchmarks/gate.py [--images 50] [--rounds 60]

Target: ≤ 2 % on the JPEGs of benchmarks/loader.py.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

from common import photo
from loader import AUGMENTATIONS, ours

from vitrail import console
from vitrail.data.media import decode, jpeg, limits, png
from vitrail.data.media.read import read_regular

Batches = Callable[[int], Iterable[Any]]


def write_photos(folder: Path, num: int, suffix: str) -> None:
    for i in range(num):
        path = folder / f"class{i % 10}" / f"{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(i, 500, 375).save(path, quality=90)


@contextmanager
def open_gate(kind: str) -> Iterator[None]:
    """Nothing is checked; sound files come out the same."""

    def known(data: bytes) -> str:
        return kind

    def nothing(*_: object) -> None:
        return

    def whole_jpeg(data: bytes) -> jpeg.Jpeg:
        return jpeg.Jpeg(data, b"", True, 1, 0.0)

    def whole_png(data: bytes) -> tuple[bytes, bytes]:
        return data, b""

    with (
        mock.patch.object(decode, "sniff", known),
        mock.patch.object(limits, "check_pixels", nothing),
        mock.patch.object(limits, "check_memory", nothing),
        mock.patch.object(jpeg, "gate", whole_jpeg),
        mock.patch.object(png, "gate", whole_png),
    ):
        yield


def turns(files: list[Path], kind: str, rounds: int) -> float:
    """Seconds that the gate adds to decoding all these files, each of which was just read, as in the loader."""
    best = {checked: [float("inf")] * len(files) for checked in (True, False)}
    for _ in range(rounds):
        for checked in random.sample([True, False], 2):
            with nullcontext() if checked else open_gate(kind):
                for place, path in enumerate(files):
                    data = read_regular(path)
                    begun = time.perf_counter()
                    decode.decode(data, smallest=224)
                    best[checked][place] = min(best[checked][place], time.perf_counter() - begun)
    return sum(best[True]) - sum(best[False])


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
            added = turns(files, kind, options.rounds)
            for augment in AUGMENTATIONS:
                epoch = fastest(ours(folder, augment, 0), max(3, options.rounds // 6))
                cells = [f"{1e6 * added / len(files):.0f} µs", f"{1e3 * epoch / len(files):.2f} ms"]
                rows.append([kind, augment, *cells, f"{100 * added / epoch:.1f} %"])
                print(*rows[-1], flush=True)
    print(console.table(["files", "augmentation", "the gate, an image", "the loader, an image", "share"], rows))


if __name__ == "__main__":
    main()
