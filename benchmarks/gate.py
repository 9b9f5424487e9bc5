"""What does the gate of images cost the loader? Processor time of the loader as it is, and with the checks of JPEGs and
PNGs left out: their first bytes, segments or chunks, sizes and memory. In turns, on the same batches.

    python benchmarks/gate.py [--images 100] [--rounds 15]

Target: ≤ 2 %.
"""

from __future__ import annotations

import argparse
import random
import statistics
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
from vitrail.data.media.formats import sniff

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


def turns(batches: Batches, kind: str, rounds: int) -> tuple[float, list[float]]:
    """Seconds of processor time of the fastest round, and of each round what the gate cost, as a share."""
    best, shares = float("inf"), []
    for turn in range(rounds):
        taken = {}
        for checked in random.sample([True, False], 2):
            begun = time.process_time()
            with nullcontext() if checked else open_gate(kind):
                for _ in batches(turn):
                    pass
            taken[checked] = time.process_time() - begun
        best = min(best, taken[True])
        shares.append(taken[True] / taken[False] - 1)
    return best, shares


def alone(files: list[bytes], kind: str) -> float:
    """Seconds of the checks of these files, by themselves."""
    best, gate = [float("inf")] * len(files), {"JPEG": jpeg.gate, "PNG": png.gate}[kind]
    for _ in range(50):
        for place, data in enumerate(files):
            begun = time.perf_counter()
            sniff(data)
            gate(data)
            limits.check_pixels((500, 375), None)
            limits.check_memory((500, 375), 10**6)
            best[place] = min(best[place], time.perf_counter() - begun)
    return sum(best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for kind, suffix in (("JPEG", "jpg"), ("PNG", "png")):
            folder = Path(name) / suffix
            write_photos(folder, options.images, suffix)
            checks = alone([path.read_bytes() for path in folder.rglob(f"*.{suffix}")], kind)
            for augment in AUGMENTATIONS:
                best, shares = turns(ours(folder, augment, 0), kind, options.rounds)
                low, middle, high = (f"{100 * share:.1f}" for share in statistics.quantiles(shares, n=4))
                rows.append([kind, augment, f"{100 * checks / best:.1f} %", f"{middle} % ({low} to {high})"])
                print(*rows[-1], flush=True)
    print(console.table(["files", "augmentation", "the checks alone", "in turns, middle half of the rounds"], rows))


if __name__ == "__main__":
    main()
