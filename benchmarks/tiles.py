"""A detector of digit scenes on pictures of many scenes: scene by scene, and by tiles of a scene's size.

    vitrail train --recipe digit_scenes --seed 0 --epochs 10
    python benchmarks/tiles.py runs/digit_scenes

The scenes are the test split's, 36 in a picture, edge to edge, so tiles cut digits that the detector has only seen
whole. Wrong are detections from a score on that are no object's, or the second of one (IoU 0.5, its class).
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image

import vitrail
from vitrail.data.objects import Objects
from vitrail.data.source import SourceConfig
from vitrail.data.sources import digit_scenes
from vitrail.data.transforms.tiles import TiledPicture
from vitrail.metrics.detection import Metrics
from vitrail.ops.detections import Detections, ranked

SIDE, ACROSS = 64, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a detector of digit scenes")
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--overlap", type=float, nargs="+", default=[0.2, 0.45])
    parser.add_argument("--score", type=float, default=0.35)
    parser.add_argument("--suppress", type=float, default=0.6, help="of the detector, in every way")
    options = parser.parse_args()
    predictor = vitrail.load(options.run, device="cpu")
    scenes = digit_scenes.load(SourceConfig(spec="digit_scenes", kind="boxes"))["test"]
    pictures = [assembled(scenes, first * ACROSS**2) for first in range(options.pictures)]
    names = predictor.classes
    ranking = predictor.task.config.ranking._replace(suppress=options.suppress)

    alone = Metrics(names, ranking)
    for picture, truth in pictures:
        alone.update([one_by_one(predictor, picture, ranking)], [truth])
    row("scene by scene", alone, options.score)
    for overlap in options.overlap:
        tiled, metrics = predictor.tiled(SIDE, overlap), Metrics(names, ranking)
        for picture, truth in pictures:
            found = TiledPicture.of(Image.fromarray(picture), tiled.preprocess, 32)
            with torch.inference_mode():
                metrics.update([metrics.of_tiles(found.outputs(tiled.engine), found.grid)], [truth])
        row(f"tiles, {overlap:.0%} overlap", metrics, options.score)


def assembled(scenes, first):
    """A picture of ACROSS × ACROSS scenes, and its objects."""
    picture = np.zeros((SIDE * ACROSS, SIDE * ACROSS), np.uint8)
    boxes, labels, numbers = [], [], [(first + place) % len(scenes) for place in range(ACROSS**2)]
    for place, number in enumerate(numbers):
        top, left = (SIDE * step for step in divmod(place, ACROSS))
        picture[top : top + SIDE, left : left + SIDE] = np.asarray(scenes.read(number))
        boxes.append(scenes.targets[number].boxes_xyxy + torch.tensor([left, top] * 2))
        labels.append(scenes.targets[number].labels)
    labels = torch.cat(labels)
    truth = Objects(torch.cat(boxes), labels, torch.zeros(len(labels), dtype=torch.bool), picture.shape)
    return picture, truth


@torch.inference_mode()
def one_by_one(predictor, picture, ranking):
    """The detections of all scenes of a picture, each seen by itself."""
    places = [divmod(place, ACROSS) for place in range(ACROSS**2)]
    parts = [picture[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE] for y, x in places]
    outputs = predictor.engine(torch.stack([predictor.preprocess(Image.fromarray(part)) for part in parts]))
    found = [ranked(each, ranking) for each in outputs]
    moved = [
        each._replace(boxes_xyxy=each.boxes_xyxy + SIDE * torch.tensor([x, y] * 2))
        for each, (y, x) in zip(found, places, strict=True)
    ]
    every = Detections(*(torch.cat(part) for part in zip(*moved, strict=True)))
    return every.at(every.scores.argsort(descending=True, stable=True))


def row(name, metrics, score):
    numbers = metrics.compute()
    fates = [
        fate.found[(found.scores >= score).numpy()]
        for fate, found in zip(metrics.matched(), metrics.detections, strict=True)
    ]
    right, wrong = sum(int((each >= 0).sum()) for each in fates), sum(int((each == -1).sum()) for each in fates)
    print(f"{name:24s} AP {numbers['ap']:.3f}  AP@50 {numbers['ap50']:.3f}  right {right}  wrong {wrong}")


if __name__ == "__main__":
    main()
