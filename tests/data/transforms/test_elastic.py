"""Images that are bent, with their targets."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image as Pillow
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as moves
from torchvision.tv_tensors import BoundingBoxes, Image, Mask

from vitrail.data.objects import Objects
from vitrail.data.targets import load
from vitrail.data.transforms.elastic import ElasticConfig, bent, displacement
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.scene import SceneAugment
from vitrail.data.transforms.scene_config import SceneAugmentConfig

SIZE = 60, 84
STRONG = ElasticConfig(std=0.2, spacing=0.3)


def ellipses():
    """Masks and boxes of two."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    shapes = [(30, 22, 16, 9), (58, 38, 6, 12)]
    masks = [((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1 for x, y, a, b in shapes]
    boxes = torch.tensor([[x - a, y - b, x + a, y + b] for x, y, a, b in shapes], dtype=torch.float32)
    return torch.from_numpy(np.stack(masks)), boxes


def test_pixels_and_masks_are_those_of_torchvision():
    masks, _ = ellipses()
    pixels, field = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8), displacement(SIZE, STRONG)
    found = bent({"image": Image(pixels), "masks": Mask(masks)}, field, {"image": [7, 8, 9]})
    relative = (field / torch.tensor([SIZE[1] / 2, SIZE[0] / 2])[:, None, None]).permute(1, 2, 0)[None]
    ways = {"image": InterpolationMode.BILINEAR, "masks": InterpolationMode.NEAREST}
    fills = {"image": [7.0, 8, 9], "masks": 0}
    for name, part in {"image": pixels, "masks": masks.to(torch.uint8)}.items():
        theirs = moves.elastic(part, relative, interpolation=ways[name], fill=fills[name])
        off = (found[name].as_subclass(torch.Tensor).int() - theirs.int()).abs()[:, 14:-14, 14:-14] > 1
        assert off.float().mean() < 0.002, name  # beyond the image, torchvision blends otherwise
    assert field.std() > 1


def test_boxes_are_around_what_is_bent():
    masks, boxes = ellipses()
    for _ in range(4):
        field = displacement(SIZE, STRONG)
        whole = BoundingBoxes(boxes, format="XYXY", canvas_size=SIZE)
        with_masks = bent({"boxes": whole, "masks": Mask(masks)}, field)["boxes"]
        alone = bent({"boxes": whole}, field)["boxes"]
        assert (with_masks - alone).abs().max() < 2
        assert (with_masks - boxes).abs().max() > 0.9
        assert bent({"boxes": BoundingBoxes(boxes[:0], format="XYXY", canvas_size=SIZE)}, field)["boxes"].shape == (
            0,
            4,
        )


def test_what_is_not_resampled_is_not_bent_and_draws_hang_on_the_key():
    masks, boxes = ellipses()
    image = Pillow.fromarray((masks.any(0).numpy() * 255).astype(np.uint8)).convert("RGB")
    target = Objects(boxes, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool), SIZE, masks=masks)

    def scene(key, **settings):
        config = SceneAugmentConfig(elastic=STRONG, **settings)
        return SceneAugment(config, PreprocessConfig(size=SIZE, resize="square"), load("masks")).scene(
            image, target, key
        )

    first, again, other = scene(1), scene(1), scene(2)
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)
    assert torch.equal(scene(1, scale_probability=0.0).target.masks, masks)
    bright = first.pixels[0] > 127
    assert ((bright == first.target.masks.any(0)) | first.padding).float().mean() > 0.98
