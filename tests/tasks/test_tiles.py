"""Predictions and measures of pictures that are seen tile by tile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from decoders import DEFORMABLE, DETR
from PIL import Image

from vitrail import registry
from vitrail.data.objects import Objects
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.data.transforms.tiles import TiledPicture
from vitrail.errors import UserError
from vitrail.ops import boxes
from vitrail.ops.tiles import TileConfig
from vitrail.predictor import Predictor
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=32, patch_size=8, dim=16, depth=2, heads=2, mlp_dim=32, positions="sincos_2d")
DECODER = DETR | {"num_queries": 6}
OPTIONS = {
    "detection": {"decoder": DECODER, "threshold": 0.2},
    "instances": {"decoder": DECODER, "threshold": 0.2, "masks": {"stride": 4, "dim": 8}},
    "detection_tokens": {"num_queries": 6, "threshold": 0.2},
    "detection_deformable": {"decoder": DEFORMABLE | {"num_queries": 6}, "threshold": 0.2},
    "segmentation": {"decoder": "detail", "hidden": 8},
    "panoptic": {
        "num_queries": 6,
        "num_blocks": 1,
        "num_upscale": 1,
        "threshold": 0.4,
        "overlap_threshold": 0.0,
        "things": ["ant"],
    },
}


def task_of(name):
    torch.manual_seed(0)
    module = registry.load("tasks", name)
    task = module.Task(module.Task.configure(MODEL, ("ant", "bee"), None, OPTIONS.get(name, {}))).eval()
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    return task


def predictor_of(name, **preprocess):
    return Predictor(task_of(name), PreprocessConfig(size=32, **preprocess), device="cpu")


def picture(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def parts(prediction):
    return {key: value for key, value in vars(prediction).items() if isinstance(value, np.ndarray)}


def same(one, other, exact=True):
    assert one.size == other.size
    for (name, a), b in zip(parts(one).items(), parts(other).values(), strict=True):
        if exact or a.dtype != np.float32:
            np.testing.assert_array_equal(a, b, name)
        else:
            np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("resize", ["square", "pad"])
@pytest.mark.parametrize("name", OPTIONS)
def test_one_tile_is_the_picture(name, resize):
    plain = predictor_of(name, resize=resize)
    images = [picture(40, 56), picture(64, 31, 1)]
    tiled = plain.tiled((64, 64)).predict(images)
    for found, expected in zip(tiled, map(plain.predict, images), strict=True):
        same(found, expected)
        assert len(getattr(found, "labels", [1]))


@pytest.mark.parametrize("name", OPTIONS)
def test_batches_of_tiles_change_nothing_and_a_stream_gives_the_same(name):
    plain, image = predictor_of(name), picture(75, 131)
    predictor = plain.tiled(48, overlap=0.25)
    expected = predictor.predict(image)
    assert expected.size == (75, 131)
    same(predictor.predict(image, batch_size=1), expected, exact=False)
    ((given, streamed), (missing, error)) = predictor.stream([image, "nowhere.png"], 5)
    assert (given, missing) == (image, "nowhere.png")
    same(streamed, expected, exact=False)
    assert isinstance(error, UserError)
    assert plain.preprocess.config.tiles is None
    same(predictor.tiled(None).predict(image), plain.predict(image))


@pytest.mark.parametrize("name", ["detection", "instances", "detection_tokens", "detection_deformable"])
def test_what_is_predicted_is_what_is_measured_above_the_threshold(name):
    predictor = predictor_of(name).tiled(48, overlap=0.25)
    found = TiledPicture.of(picture(75, 131), predictor.preprocess, 8)
    row = predictor.task.reduce_tiles(found.outputs(predictor.task), found.grid)
    objects = getattr(row, "found", row)
    threshold = float(objects.scores.median()) - 1e-5  # sizes of batches round otherwise
    predictor.task.config = replace(predictor.task.config, threshold=threshold)
    sure = (objects.scores >= threshold).numpy()
    prediction = predictor.predict(picture(75, 131))
    assert 3 < sure.sum() < len(sure)
    np.testing.assert_allclose(prediction.boxes_xyxy, objects.boxes_xyxy[: sure.sum()], atol=1e-3)
    np.testing.assert_allclose(prediction.scores, objects.scores[: sure.sum()], atol=1e-5)
    if name == "instances":
        assert [entry["segmentation"] for entry in prediction.to_coco()] == row.masks[: sure.sum()]


class PerPixel(torch.nn.Module):
    """Logits of a pixel from that pixel alone."""

    def forward(self, images, *padding):
        return torch.stack((images.sum(dim=1), images[:, 0] * 2 - images[:, 2], images.square().mean(dim=1)), dim=1)

    def embed(self, images):
        return images.mean(dim=(2, 3))


def test_what_looks_at_single_pixels_gives_the_same_tiled_as_whole():
    image = picture(150, 210)
    module = registry.load("tasks", "segmentation")
    task = module.Task(module.Task.configure(MODEL, ("a", "b", "c"), None, {}))
    whole = Preprocess(PreprocessConfig(size=(150, 210)))
    logits = PerPixel()(whole(image)[None])[0]
    preprocess = PreprocessConfig(size=64)
    predictor = Predictor(task, preprocess, engine=PerPixel(), device="cpu").tiled(64, overlap=0.3)
    map_ = predictor.predict(image).map
    clear = (logits.topk(2, dim=0).values.diff(dim=0).abs() > 1e-5)[0].numpy()
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(map_[clear], logits.argmax(dim=0).numpy()[clear])

    from vitrail.ops.tiles import blended

    tiled = TiledPicture.of(image, predictor.preprocess, 4)
    seen = ((each.tile, each.geometry.bands(each.outputs)) for each in tiled.outputs(PerPixel()))
    torch.testing.assert_close(torch.cat(list(blended(seen, tiled.grid)), dim=1), logits, atol=1e-5, rtol=1e-5)


class Bright:
    """Finds what is brighter than the ground, and of which mask, in each input by itself."""

    def __init__(self, masks):
        self.masks = masks

    def __call__(self, images, *padding):
        from scipy.ndimage import find_objects, label

        from vitrail.ops.mask_outputs import pack

        rows, masks = torch.zeros(len(images), 24, 5), torch.full((len(images), 24, *images.shape[-2:]), -1.0)
        for image, pixels in enumerate(images):
            numbers, _ = label(pixels[0].numpy() > 0)
            for query, (y, x) in enumerate(find_objects(numbers)):
                area = float((numbers == query + 1).sum())
                rows[image, query] = torch.tensor([0.6 + area / 1e5, x.start, y.start, x.stop, y.stop])
                masks[image, query][torch.from_numpy(numbers == query + 1)] = 1
        return pack(rows, masks) if self.masks else rows


@pytest.mark.parametrize("name", ["detection", "instances"])
def test_objects_across_borders_come_out_once_and_whole_in_the_pictures_pixels(name):
    image = np.zeros((300, 420, 3), np.uint8)
    truth = [(10, 10, 40, 30), (85, 40, 125, 80), (96, 100, 260, 180), (300, 90, 330, 110), (180, 200, 190, 299)]
    for left, top, right, bottom in truth:
        image[top:bottom, left:right] = 255
    options = {key: value for key, value in OPTIONS[name].items() if key != "threshold"}
    module = registry.load("tasks", name)
    task = module.Task(module.Task.configure(MODEL, ("box",), None, options))
    preprocess = PreprocessConfig(size=128, interpolation="nearest")
    predictor = Predictor(task, preprocess, engine=Bright(name == "instances"), device="cpu").tiled(128, overlap=0.25)
    found = predictor.predict(Image.fromarray(image))
    overlap = boxes.iou(torch.from_numpy(found.boxes_xyxy)[:, None], torch.tensor(truth).float()[None])
    assert len(found) == len(truth)
    assert overlap.amax(dim=0).min() == 1
    if found.masks is not None:
        np.testing.assert_array_equal(found.masks.any(axis=0), image[..., 0] > 0)
        for mask, box in zip(found.masks, found.boxes_xyxy.astype(int), strict=True):
            assert mask.sum() == (box[2] - box[0]) * (box[3] - box[1])
    family = task.metrics()
    tiled = TiledPicture.of(Image.fromarray(image), predictor.preprocess, 8)
    masks = torch.from_numpy(np.stack([(image[..., 0] > 0) & _inside(box) for box in truth]))
    everything = Objects(
        torch.tensor(truth).float(), torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.bool), (300, 420), 0,
        masks,
    )  # fmt: skip
    family.update(task.evaluate_batch({"tiled": [tiled]}, predictor.engine), [everything])
    assert family.compute()["ap"] == pytest.approx(1)


def _inside(box):
    rows, columns = np.mgrid[:300, :420]
    return (rows >= box[1]) & (rows < box[3]) & (columns >= box[0]) & (columns < box[2])


def test_little_is_held_of_a_large_picture():
    """Inputs and outputs of few tiles at a time, whatever the batch size."""
    sizes = []

    class Counting(PerPixel):
        def forward(self, images, *padding):
            sizes.append(images.numel())
            return super().forward(images)[:, :1].expand(-1, 3, -1, -1)

    module = registry.load("tasks", "segmentation")
    task = module.Task(module.Task.configure(MODEL, ("a", "b", "c"), None, {}))
    predictor = Predictor(task, PreprocessConfig(size=1024), engine=Counting(), device="cpu").tiled(1024, overlap=0)
    assert predictor.predict(Image.new("RGB", (3072, 2048)), batch_size=1000).map.shape == (2048, 3072)
    assert max(sizes) <= 3 * 2**21
    assert sum(sizes) == 3 * 3072 * 2048


@pytest.mark.parametrize(
    ("name", "preprocess", "arguments", "words"),
    [
        ("detection", {}, (48, 1.0), "overlap"),
        ("detection", {}, (4,), "tiles: one of 4×4 pixels is not covered by patches of 8×8; choose 8×8"),
        ("detection", {}, ((48, 50),), "tiles: one of 48×50 pixels is not covered by patches of 8×8; choose 48×48"),
        ("detection", {"resize": "crop"}, (48,), "cuts the border off each tile; set data.preprocess.resize=square"),
        ("classification", {}, (48,), "'classification' cannot predict tile by tile; leave the tiles out"),
    ],
)
def test_mistakes_are_refused_in_one_line(name, preprocess, arguments, words):
    module = registry.load("tasks", name)
    task = module.Task(module.Task.configure(MODEL, ("ant", "bee"), None, OPTIONS.get(name, {})))
    with pytest.raises(UserError, match=words) as caught:
        Predictor(task, PreprocessConfig(size=32, **preprocess), device="cpu").tiled(*arguments)
    assert "\n" not in str(caught.value)


def test_a_file_remembers_the_tiles_it_was_trained_on(tmp_path):
    import vitrail

    tiled = predictor_of("detection").tiled(48, overlap=0.25)
    tiled.save(tmp_path / "tiled.safetensors")
    opened = vitrail.load(tmp_path / "tiled.safetensors")
    assert opened.preprocess.config.tiles == TileConfig(size=48, overlap=0.25)
    same(opened.predict(picture(75, 131)), tiled.predict(picture(75, 131)))
