from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data.drawing import colour
from vitrail.data.objects import Objects
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.box_distribution import DistributionConfig
from vitrail.nn.denoising import DenoisingConfig
from vitrail.nn.dense_scores import DenseConfig
from vitrail.nn.detr_decoder import DecoderConfig
from vitrail.nn.object_queries import OneToManyConfig
from vitrail.nn.query_groups import Layer
from vitrail.nn.windows import WindowConfig
from vitrail.ops.regions import regions, to_pixels, truth_of
from vitrail.tasks.detection import Config, Prediction, Task
from vitrail.vit import ViTConfig

NAMES = ("ant", "bee", "cat")
MODEL = {"image_size": 32, "patch_size": 4, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48, "positions": "sincos_2d"}
DECODER = DecoderConfig(dim=16, depth=2, heads=2, mlp_dim=32, num_queries=6)


def build(*, std=0.2, model=None, **options):
    options = {"decoder": DECODER, **options}
    task = Task(Config(model=ViTConfig(**MODEL | (model or {})), classes=NAMES, **options)).eval()
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return task


def objects(count, side=32.0, crowd=None):
    start = torch.rand(count, 2) * side / 2
    boxes = torch.cat((start, start + torch.rand(count, 2) * side / 2), dim=1)
    crowd = torch.zeros(count, dtype=torch.bool) if crowd is None else crowd
    return Objects(boxes, torch.randint(3, (count,)), crowd, (int(side), int(side)))


@pytest.mark.parametrize(("scale", "pixels"), [("1", 4), ("2", 2), ("1/2", 8)])
def test_a_strip_of_an_image_is_proposed_boxes_of_its_height(scale, pixels):
    """Cells are shares of the image, wherever it ends on its canvas."""
    task, padding = build(scales=(scale,)), torch.ones(2, 16, 32, dtype=torch.bool)
    for row, (height, width) in enumerate(((4, 32), (8, 20))):
        padding[row, :height, :width] = False
    (level,) = task._encode(torch.randn(2, 3, 16, 32), padding).levels
    torch.testing.assert_close(level.cell, torch.tensor([[pixels / 32, pixels / 4], [pixels / 20, pixels / 8]]))
    torch.nn.init.zeros_(task.proposals.box.output.weight)
    torch.nn.init.zeros_(task.proposals.box.output.bias)
    alone = task._encode(torch.randn(1, 3, 4, 32), None)
    (_, _, _, heights) = task._begin(alone)[1].boxes[0].unbind(dim=1)
    torch.testing.assert_close(heights, torch.ones_like(heights), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"scales": ("1",)},
        {"scales": ("2", "1", "1/2")},
        {"window": WindowConfig(size=3, num_global=1)},
        {"model": {"positions": "rope_2d", "registers": 2}},
    ],
    ids=["plain", "pyramid", "windows", "rotary"],
)
def test_images_of_different_sizes_in_one_batch_give_what_they_give_alone(options):
    task = build(**options)
    sizes = [(32, 32), (20, 28), (12, 16)]
    canvas, padding = torch.randn(3, 3, 32, 32), torch.ones(3, 32, 32, dtype=torch.bool)
    images = [torch.randn(3, *size) for size in sizes]
    for row, image in enumerate(images):
        canvas[row, :, : image.shape[1], : image.shape[2]] = image
        padding[row, : image.shape[1], : image.shape[2]] = False
    together = task(canvas, padding)
    for row, image in enumerate(images):
        torch.testing.assert_close(together[row], task(image[None])[0], atol=2e-4, rtol=1e-3)


def test_a_larger_canvas_changes_no_gradient():
    task = build(denoising=DenoisingConfig(groups=2, box=0, label=0))
    images, targets = torch.randn(2, 3, 24, 24), [objects(3, side=24), objects(1, side=24)]
    canvas, padding = torch.randn(2, 3, 32, 40), torch.ones(2, 32, 40, dtype=torch.bool)
    canvas[..., :24, :24], padding[..., :24, :24] = images, False
    found = []
    for batch in ({"images": images}, {"images": canvas, "padding": padding}):
        loss = task.loss({**batch, "targets": targets})["loss"]
        found.append((loss, torch.autograd.grad(loss, list(task.parameters()))))
    (loss, gradients), (other_loss, others) = found
    torch.testing.assert_close(other_loss, loss)
    largest = max(gradient.abs().max() for gradient in gradients)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other / largest, gradient / largest, atol=1e-5, rtol=0)


def test_regions_and_pixels():
    padding = torch.ones(1, 8, 10, dtype=torch.bool)
    padding[0, 2:6, 1:9] = False
    region = regions(torch.zeros(1, 3, 8, 10), padding)
    assert region.tolist() == [[1, 2, 9, 6]]
    pixels = to_pixels(torch.tensor([[[0.5, 0.5, 0.5, 0.5]]]), region)
    assert pixels.tolist() == [[[3, 3, 7, 5]]]
    true = Objects(pixels[0], torch.tensor([2]), torch.tensor([False]), (8, 10))
    torch.testing.assert_close(truth_of([true], region).boxes, torch.full((1, 4), 0.5))


def test_crowds_difficult_objects_and_boxes_outside_are_nothing_to_find():
    true = objects(4, crowd=torch.tensor([False, True, False, False]))
    true = replace(true, difficult=torch.tensor([False, False, False, True]))
    true.boxes_xyxy[2] = torch.tensor([40, 40, 50, 50.0])
    found = truth_of([true, objects(0)], regions(torch.zeros(2, 3, 32, 32), None))
    assert found.counts == (1, 0)
    assert found.labels.tolist() == true.labels[:1].tolist()


@pytest.mark.parametrize("class_loss", ["focal", "softmax"])
@pytest.mark.parametrize("extra", [False, True])
def test_every_loss_reaches_its_parameters(class_loss, extra):
    options = {"denoising": DenoisingConfig(groups=2), "one_to_many": OneToManyConfig(num_queries=9, repeats=2)}
    task = build(class_loss=class_loss, **(options if extra else {"denoising": None}))
    losses = task.loss({"images": torch.randn(3, 3, 32, 32), "targets": [objects(2), objects(0), objects(3)]})
    names = {"loss", "label", "l1", "giou", "proposed", *(("noised", "many") if extra else ())}
    assert set(losses) == names
    losses["loss"].backward()
    assert [n for n, p in task.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


@pytest.mark.parametrize("separate_heads", [False, True])
def test_distributions_and_contrastive_queries_reach_their_parameters(separate_heads):
    decoder = replace(DECODER, depth=3, separate_heads=separate_heads, distribution=DistributionConfig(intervals=8))
    denoising = DenoisingConfig(groups=2, contrastive=True)
    task = build(decoder=decoder, denoising=denoising, learned_content=True)
    losses = task.loss({"images": torch.randn(3, 3, 32, 32), "targets": [objects(2), objects(0), objects(3)]})
    assert set(losses) == {"loss", "label", "l1", "giou", "fgl", "ddf", "noised", "proposed"}
    assert losses["ddf"].detach() > 0
    losses["loss"].backward()
    assert [n for n, p in task.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []
    assert len(task.early) == len(task.decoder.distributions) - 1 == 2 * separate_heads
    assert task(torch.randn(2, 3, 32, 32)).shape == (2, 6, 7)


def test_layers_have_heads_of_their_own_if_asked():
    shared, own = build(), build(decoder=replace(DECODER, separate_heads=True))
    assert (len(shared.early), len(own.early), len(own.decoder.early)) == (0, 1, 1)
    x = torch.randn(2, 6, 16)
    assert torch.equal(shared._logits(0, x), shared._logits(1, x))
    assert not torch.allclose(own._logits(0, x), own._logits(1, x))
    assert torch.equal(own._logits(1, x), own.head(x))


def test_queries_of_more_noise_learn_that_they_are_no_object():
    task = build(denoising=DenoisingConfig(groups=1, label=0.0, contrastive=True))
    truth = truth_of([objects(2)], regions(torch.zeros(1, 3, 32, 32), None))
    noised = task.denoising(truth)
    boxes = noised.queries.boxes
    logits = torch.full((1, 4, 3), -9.0)
    logits[0, noised.query[:2], truth.labels] = 9.0
    num_objects, exact = torch.tensor(2), boxes.clone()
    exact[0, noised.query[:2]] = truth.boxes

    def loss(scores):
        return task._denoised([Layer(scores, exact, None)], noised, truth, num_objects)

    assert loss(logits).item() == pytest.approx(0, abs=1e-3)
    logits[0, noised.query[2:], truth.labels] = 9.0
    assert loss(logits).item() > 1


def test_helpers_of_training_do_not_change_what_is_said():
    images = torch.randn(2, 3, 32, 32)
    task = build(denoising=DenoisingConfig(), one_to_many=OneToManyConfig(num_queries=4, repeats=2))
    plain = build(denoising=None)
    plain.load_state_dict({n: v for n, v in task.state_dict().items() if n in plain.state_dict()})
    torch.testing.assert_close(plain(images), task(images))


def test_a_hybrid_stem_is_a_backbone_unchanged():
    stem = {"kind": "resnet", "layers": (1,), "width": 32}
    task = build(std=0.05, model={"embed": stem, "patch_size": 8})
    losses = task.loss({"images": torch.randn(2, 3, 32, 32), "targets": [objects(2), objects(1)]})
    assert losses["loss"].isfinite()
    assert task(torch.randn(1, 3, 32, 32)).shape == (1, 6, 7)


def test_untrained_scores_are_low():
    task = Task(Config(model=ViTConfig(**MODEL), classes=NAMES, decoder=DECODER)).eval()
    assert task(torch.randn(1, 3, 32, 32))[..., :3].mean() < 0.05


def test_predictions_are_on_the_image_that_was_given():
    task = build(threshold=0.01)
    images = torch.randn(1, 3, 24, 40)
    (found,) = task.predict(images)
    assert found.size == (24, 40)
    assert (np.diff(found.scores) <= 0).all()
    (twice,) = task.decode(task(images), [ImageGeometry((0, 0, 80, 48), (24, 40), (48, 80))])
    assert twice.size == (48, 80)
    np.testing.assert_allclose(twice.boxes_xyxy, 2 * found.boxes_xyxy, rtol=1e-6)
    assert len(found.over(float(found.scores[1]))) == 2


def prediction():
    boxes = np.array([[2, 4, 12, 20], [0, 0, 40, 10]], dtype=np.float32)
    return Prediction(NAMES, np.array([2, 0]), np.array([0.9, 0.6], dtype=np.float32), boxes, (20, 40))


def test_predictions_undo_the_preprocessing():
    size = (100, 300)
    geometry = Preprocess(PreprocessConfig(size=(20, 40), resize="pad")).geometry(size)
    outputs = torch.tensor([[[0, 0, 0.9, 2, 4, 12, 20]]])
    (placed,) = build().decode(outputs, [geometry])
    assert placed.size == size
    # 300 pixels became 40, so 100 became 13, with 3 of border above
    np.testing.assert_allclose(placed.boxes_xyxy[0], [15, (4 - 3) * 100 / 13, 90, 100], rtol=1e-5)


def test_exports_say_the_same():
    found = prediction()
    first = found.to_dict()["objects"][0]
    assert (first["label"], first["box_xyxy"]) == ("cat", [2, 4, 12, 20])
    coco = found.to_coco(image_id=7, category_ids=[3, 5, 9])
    assert coco[0] == {"image_id": 7, "category_id": 9, "bbox": [2, 4, 10, 16], "score": pytest.approx(0.9)}
    label, *numbers = found.to_yolo().splitlines()[0].split()
    assert label == "2"
    np.testing.assert_allclose([float(n) for n in numbers], [7 / 40, 12 / 20, 10 / 40, 16 / 20, 0.9], atol=1e-6)
    rows = list(csv.DictReader(io.StringIO(found.to_csv("a.png"))))
    assert [row["label"] for row in rows] == ["cat", "ant"]
    assert float(rows[0]["bottom"]) == 20


def test_supervision_is_asked_for_by_name():
    try:
        import supervision  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="pip install supervision"):
            prediction().to_supervision()
    else:
        detections = prediction().to_supervision()
        np.testing.assert_array_equal(detections.xyxy, prediction().boxes_xyxy)
        assert detections.data["class_name"].tolist() == ["cat", "ant"]


def test_drawing_frames_each_object_in_its_colour_and_leaves_the_image():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 400, 3), dtype=np.uint8))
    before = image.tobytes()
    drawn = prediction().draw(image)
    assert image.tobytes() == before
    pixels = np.asarray(drawn)
    assert (pixels[120, 20] == colour(2)).all()  # the left side of the first box, ten times as large
    assert (pixels[60:90, 200] == np.asarray(image)[60:90, 200]).any(axis=1).all()


def test_a_few_images_are_learned_by_heart():
    """Bright squares and bars on noise, from random weights: a hundred steps go most of the way."""
    images, targets = torch.rand(3, 3, 32, 32) * 0.2, []
    for number, image in enumerate(images):
        boxes = torch.tensor([[2 + 4 * number, 3, 10 + 4 * number, 11], [6, 16 + 4 * number, 20, 20 + 4 * number]])
        labels = torch.tensor([0, 1])
        for (left, top, right, bottom), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            image[label, top:bottom, left:right] += 1
        targets.append(Objects(boxes.float(), labels, labels < 0, (32, 32)))
    model = ViTConfig(**MODEL | {"patch_size": 8})
    task = Task(Config(model=model, classes=NAMES, decoder=DECODER, denoising=DenoisingConfig(groups=2)))
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3, weight_decay=0)
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 20, (100 - step) / 40)
        loss = task.loss({"images": images, "targets": targets})["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
    family = task.metrics()
    with torch.no_grad():
        family.update(task.eval()(images), targets)
    assert family.compute()["ap50"] > 0.4


def test_dense_supervision_needs_proposals():
    with pytest.raises(ValueError, match="leave proposals on"):
        build(dense=DenseConfig(), proposals=False)


def test_learned_content_needs_proposals():
    with pytest.raises(ValueError, match="leave learned_content out"):
        build(learned_content=True, proposals=False)


def test_dense_supervision_is_of_training_alone():
    """Its head changes no output."""
    task, images = build(dense=DenseConfig()), torch.randn(2, 3, 32, 32)
    before = task(images)
    torch.nn.init.normal_(task.dense.score.weight, std=5.0)
    torch.testing.assert_close(task(images), before)
    losses = task.loss({"images": images, "targets": [objects(2), objects(0)]})
    losses["dense"].backward()
    assert task.dense.score.weight.grad.abs().sum() > 0
    assert task.proposals.box.output.weight.grad.abs().sum() > 0


def test_doubles_fall_to_the_better_detection():
    """Two queries at one place, of which one remains."""
    task = build(suppress=0.6)
    row = torch.tensor([[0.9, 0, 0, 2, 2, 12, 12], [0.8, 0.7, 0, 2, 2, 12, 13], [0.6, 0, 0, 20, 20, 30, 30]])
    (found,) = task.decode(row[None], [ImageGeometry.identity((32, 32))])
    assert [found.classes[label] for label in found.labels] == ["ant", "bee", "ant"]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
