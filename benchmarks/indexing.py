"""How long the first and the second start on a folder of 1,000,000 images take, and how much the cached index saves.

::

    python benchmarks/indexing.py [--num-files 1000000] [--num-classes 1000] [--folder /tmp/indexing]

The files are hard links to one small picture, made below ``--folder`` and deleted afterwards; each start is a process
of its own, with the operating system's caches warm.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

MAX_LINKS = 50_000  # file systems cap the links to one file

START = """
import resource, sys, time
from vitrail.data.source import SourceConfig, open_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
source = open_source(SourceConfig(spec=sys.argv[1])).train
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(time.perf_counter() - started, memory / 1024, len(source))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-files", type=int, default=1_000_000)
    parser.add_argument("--num-classes", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/vitrail-indexing"))
    options = parser.parse_args()
    images, cache = options.folder / "images", options.folder / "cache"
    try:
        make_files(images, options.num_files, options.num_classes)
        time.sleep(3)  # a folder that changed within the last two seconds is not cached
        first, second = start(images, cache), start(images, cache)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    print(f"{options.num_files:,} files in {options.num_classes:,} class folders")
    print(f"first start   {first:.2f} s")
    print(f"second start  {second:.2f} s, {first / second:.1f} times faster")


def make_files(folder: Path, num_files: int, num_classes: int) -> None:
    """``num_files`` links, spread over the class folders."""
    per_class = num_files // num_classes
    for k in range(num_classes):
        inner = folder / f"class_{k:04d}"
        inner.mkdir(parents=True)
        for i in range(per_class):
            path = inner / f"image_{k:04d}_{i:08d}.png"
            if (k * per_class + i) % MAX_LINKS == 0:
                origin = path
                Image.new("RGB", (4, 4)).save(path)
            else:
                os.link(origin, path)


def start(images: Path, cache: Path) -> float:
    """Seconds that opening the folder takes in a fresh process (without its imports)."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", START, str(images)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, memory, count = output.split()
    print(f"  {float(seconds):.2f} s, {float(memory):.0f} MiB, {count} training images", file=sys.stderr)
    return float(seconds)


if __name__ == "__main__":
    main()
