"""``python -m depthkit.example scenes`` draws example data: balls above a floor, the brighter the nearer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32  # pixels


def write(folder: Path) -> None:
    """48 images for training and 12 for testing; every fourth depth map is a PNG."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 48), ("test", 12)):
        for name in ("images", "depths"):
            (folder / split / name).mkdir(parents=True)
        for number in range(count):
            depths = scene(draw)
            pixels = 255 / depths.clip(min=1) + draw.normal(0, 4, (SIDE, SIDE))
            stem = f"{number:02}"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / split / "images" / f"{stem}.png")
            if number % 4:
                np.save(folder / split / "depths" / f"{stem}.npy", depths)
            else:
                Image.fromarray((depths * 1000).astype(np.uint16)).save(folder / split / "depths" / f"{stem}.png")


def scene(draw: np.random.Generator) -> np.ndarray:
    """Depths float32 (SIDE, SIDE) from 1 to 6 metres, 0 in a corner where nothing was measured."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    depths = np.repeat(np.linspace(6, 3, SIDE, dtype=np.float32)[:, None], SIDE, axis=1)
    for _ in range(draw.integers(1, 4)):
        y, x, radius = draw.uniform(0, SIDE), draw.uniform(0, SIDE), draw.uniform(4, 9)
        depths[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = draw.uniform(1, 2.5)
    depths[:3, :3] = 0
    return depths


if __name__ == "__main__":
    write(Path(sys.argv[1]))
