"""What is decided for pixels is decided for those of the image: logits are enlarged to it first."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index
from transformers import EomtImageProcessor
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.models.eomt.modeling_eomt import EomtForUniversalSegmentationOutput

from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.ops.mask_outputs import pack
from vitrail.ops.panoptic import MergeConfig, merged
from vitrail.tasks import instances, segmentation
from vitrail.vit import ViTConfig

K = 5
NAMES = tuple("abcde")
MODEL = ViTConfig(image_size=48, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=16)
SIZE, IMAGE = (48, 56), (173, 211)
WHOLE = ImageGeometry((0, 0, IMAGE[1], IMAGE[0]), SIZE, IMAGE)


def truth(size: tuple[int, int] = IMAGE) -> Tensor:
    """Smooth regions of K classes, int64 (h, w)."""
    return F.interpolate(torch.randn(1, K, 9, 11), size, mode="bicubic")[0].argmax(dim=0)


def seen(true: Tensor, size: tuple[int, int] = SIZE) -> Tensor:
    """What is best to say of it at the input's size: the share of each class in each pixel, (K, H, W)."""
    return F.adaptive_avg_pool2d(F.one_hot(true, K).movedim(-1, 0).float(), size)


def miou(found: Tensor, true: Tensor) -> float:
    return float(multiclass_jaccard_index(found, true, K))


def test_a_perfect_segmenter_is_as_good_as_its_logits_allow() -> None:
    task = segmentation.Task(segmentation.Config(model=MODEL, classes=NAMES))
    true = truth()
    logits = seen(true)
    reference = F.interpolate(logits[None], IMAGE, mode="bilinear", align_corners=False)[0].argmax(dim=0)
    (prediction,) = task.decode(logits[None], [WHOLE])
    (evaluated,) = task.metrics().reduce(logits[None], [WHOLE])
    np.testing.assert_array_equal(prediction.map, reference)
    np.testing.assert_array_equal(evaluated, reference)
    early = WHOLE.original_maps(logits.argmax(dim=0))
    assert miou(reference, true) > miou(early, true) + 0.03


def test_perfect_masks_likewise() -> None:
    decoder = {"dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16, "num_queries": K}
    settings = {"model": MODEL, "classes": NAMES, "decoder": decoder}
    task = instances.Task(instances.Config(**settings))
    true = F.one_hot(truth(), K).movedim(-1, 0).bool()
    logits = F.adaptive_avg_pool2d(true.float(), SIZE) - 0.5
    objects = torch.cat((torch.diag(torch.linspace(0.9, 0.6, K)), torch.zeros(K, 4)), dim=1)
    (found,) = task.decode(pack(objects[None], logits[None]), [WHOLE])
    reference = F.interpolate(logits[None], IMAGE, mode="bilinear", align_corners=False)[0] > 0
    assert found.labels.tolist() == list(range(K))
    np.testing.assert_array_equal(found.masks, reference)
    early = WHOLE.original_maps(logits > 0)

    def iou(masks: Tensor) -> Tensor:
        return (masks & true).sum((1, 2)) / (masks | true).sum((1, 2))

    assert (iou(torch.from_numpy(found.masks)) > iou(early) + 0.02).all()


@pytest.mark.parametrize("size", [(50, 70), (64, 31), (20, 24)])
def test_segments_are_those_of_transformers(size: tuple[int, int]) -> None:
    side, num_queries = 32, 30
    masks = F.interpolate(torch.randn(1, num_queries, 3, 4), (8, 8), mode="bicubic") * 3
    logits = torch.randn(1, num_queries, K + 1) * 4
    outputs = EomtForUniversalSegmentationOutput(class_queries_logits=logits, masks_queries_logits=masks)
    settings = {"threshold": 0.3, "mask_threshold": 0.4, "overlap_mask_area_threshold": 0.15, "stuff_classes": [3, 4]}
    length = {"shortest_edge": side, "longest_edge": side}
    (theirs,) = EomtImageProcessor().post_process_panoptic_segmentation(outputs, [size], size=length, **settings)
    height, width = get_size_with_aspect_ratio(size, side, side)  # the rest of the input is padding
    geometry = ImageGeometry((0, 0, side * size[1] / width, side * size[0] / height), (side, side), size)
    things = [True, True, True, False, False]
    found = merged(logits[0], masks[0], geometry, things, MergeConfig(score=0.3, mask=0.4, overlap=0.15))
    wanted = theirs["segmentation"].long()
    segments = {each["id"]: each["label_id"] for each in theirs["segments_info"]}
    assert len(segments) > 2
    assert sorted(found.labels.tolist()) == sorted(segments.values())
    for number, label in segments.items():
        ours = found.numbers[wanted == number].unique()
        assert len(ours) == 1
        assert found.labels[ours[0] - 1] == label
        assert ((found.numbers == ours[0]) == (wanted == number)).all()
    assert (found.numbers[wanted == -1] == 0).all()


@pytest.mark.parametrize("size", [(173, 211), (48, 56), (31, 90), (20, 20), (300, 40)])
@pytest.mark.parametrize("resize", ["square", "pad", "crop"])
def test_numbers_are_interpolated_between_the_pixels_that_show_the_image(resize: str, size: tuple[int, int]) -> None:
    geometry = Preprocess(PreprocessConfig(size=SIZE, resize=resize, crop_pct=0.8)).geometry(size)
    values = torch.randn(3, *SIZE)
    values[:, geometry.padding()] = torch.nan  # has no part in any
    left, top, right, bottom = geometry.region
    rows, columns = (~geometry.padding()).nonzero().T.numpy()
    down = (np.arange(size[0]) + 0.5 - top) / (bottom - top) * SIZE[0]
    across = (np.arange(size[1]) + 0.5 - left) / (right - left) * SIZE[1]
    inside = np.meshgrid((down > 0) & (down < SIZE[0]), (across > 0) & (across < SIZE[1]), indexing="ij")
    shown = inside[0] & inside[1]
    places = np.meshgrid(
        np.clip(down - 0.5, rows.min(), rows.max()),
        np.clip(across - 0.5, columns.min(), columns.max()),
        indexing="ij",
    )
    wanted = np.stack([map_coordinates(plane.nan_to_num().double().numpy(), places, order=1) for plane in values])
    found = geometry.original_values(values, fill=-7).numpy()
    np.testing.assert_allclose(found[:, shown], wanted[:, shown], rtol=1e-4, atol=1e-4)
    assert (found[:, ~shown] == -7).all()
    np.testing.assert_array_equal(~geometry.unseen().numpy(), shown)
    labels = geometry.original_labels(values, fill=255).numpy()
    assert (labels == np.where(shown, wanted.argmax(axis=0), 255)).mean() > 0.999
    masks = torch.stack([*geometry.original_masks(values)]).numpy()
    assert (masks == (shown & (wanted > 0))).mean() > 0.999


def test_a_large_image_of_many_classes_takes_little_memory() -> None:
    """60 classes on 6 megapixels, whose numbers would take 1.4 GB."""
    code = """
import resource, torch
from vitrail.data.transforms.geometry import ImageGeometry
torch.set_num_threads(1)
logits = torch.randn(60, 64, 64)
geometry = ImageGeometry((0, 0, 3000, 2000), (64, 64), (2000, 3000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert geometry.original_labels(logits, 255).shape == (2000, 3000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200_000  # KB
