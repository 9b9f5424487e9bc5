"""Every task of the registry keeps the contract; a new file is tested the moment it exists."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from compiled import assert_compiled_layers_run
from PIL import Image

import vitrail
from vitrail import registry
from vitrail.config import from_dict, to_dict
from vitrail.data.objects import Objects
from vitrail.data.segments import Segments
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.errors import UserError
from vitrail.explain import explain
from vitrail.metrics import mode_of
from vitrail.nn.encoder import Encoder
from vitrail.predictions import RankedPrediction, SpatialPrediction
from vitrail.tasks import Task
from vitrail.trainable import Embedder, Trainable, image_encoder
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=16, patch_size=4, dim=32, depth=2, heads=2, mlp_dim=64)
NAMES = ("ant", "bee", "cat")


def some_objects(count: int) -> Objects:
    """Boxes that lie within 16 pixels."""
    sides = np.random.default_rng(count).uniform(0, 8, (count, 4)).astype(np.float32)
    boxes = np.concatenate((sides[:, :2], sides[:, :2] + sides[:, 2:]), axis=1)
    masks = np.zeros((count, 16, 16), dtype=bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().astype(int), strict=True):
        mask[top : bottom + 1, left : right + 1] = True
    labels, crowd = torch.arange(count) % len(NAMES), torch.zeros(count, dtype=torch.bool)
    return Objects(torch.from_numpy(boxes), labels, crowd, (16, 16), masks=torch.from_numpy(masks))


def some_segments(count: int) -> Segments:
    """Rows of 16 pixels, below some of no segment."""
    numbers = torch.arange(16).div(16 / (count + 1), rounding_mode="floor").int()[:, None].expand(16, 16)
    return Segments(numbers.contiguous(), torch.arange(count) % len(NAMES), torch.zeros(count, dtype=torch.bool))


TARGETS: dict[str, Any] = {
    "class": np.array([0, 2, 1, 2]),
    "multilabel": np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=np.float32),
    "boxes": [some_objects(count) for count in (2, 0, 3, 1)],
    "masks": [some_objects(count) for count in (2, 0, 3, 1)],
    "semantic": np.random.default_rng(0).integers(0, len(NAMES), (4, 16, 16)),
    "panoptic": [some_segments(count) for count in (2, 1, 3, 1)],
    "image": np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16), dtype=np.uint8),
    "number": np.array([[3, 100, -1], [4, 250, -2], [5, 130, 0], [6, 90, 1]], dtype=np.float32),
}

# random weights of this size in a deep decoder would make rounding errors large
DECODER = {"decoder": {"dim": 16, "depth": 2, "heads": 2, "mlp_dim": 32, "num_queries": 5}}
SMALL = {
    "detection": DECODER,
    "detection_tokens": {"num_queries": 5, "mid_positions": True},
    "detection_deformable": {
        "decoder": {"dim": 16, "depth": 2, "heads": 2, "reading_heads": 4, "mlp_dim": 32, "num_queries": 5, "groups": 2}
    },
    "instances": DECODER,
    "panoptic": {"num_queries": 5, "num_blocks": 1, "num_upscale": 1, "threshold": 0.3, "things": NAMES[:2]},
}

OUTPUTS = {"super_resolution": ("detail",)}  # names that are not those of the data

LEARNING = [name for name in registry.names("tasks") if registry.load("tasks", name).Task.takes]
tasks = pytest.mark.parametrize("name", LEARNING)


def build(name: str, **options: Any) -> tuple[Task, dict[str, Any]]:
    kind = registry.load("tasks", name).Task
    targets = TARGETS[kind.takes[0]]
    task = kind(kind.configure(MODEL, NAMES, targets, SMALL.get(name, {}) | options))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    given = targets if isinstance(targets, list) else torch.from_numpy(targets)
    batch = {"images": torch.randn(4, 3, 16, 16), "targets": given, "index": torch.arange(4)}
    return task.eval(), batch


@tasks
def test_the_loss_is_finite_and_reaches_every_parameter(name: str) -> None:
    task, batch = build(name)
    loss = task.loss(batch)["loss"]
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    missing = [n for n, p in task.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert missing == []


@tasks
@pytest.mark.filterwarnings("ignore")
def test_the_layers_of_a_loss_are_compiled(name: str) -> None:
    assert_compiled_layers_run(*build(name))


@tasks
def test_the_config_survives_json_and_rebuilds_the_task(name: str) -> None:
    task, batch = build(name)
    module = registry.load("tasks", name)
    config = from_dict(module.Config, json.loads(json.dumps(to_dict(task.config))))
    assert config == task.config
    again = module.Task(config).eval()
    again.load_state_dict(task.state_dict())
    assert torch.equal(again(batch["images"]), task(batch["images"]))
    assert task.name == name


@tasks
def test_predict_is_decode_of_forward_and_batching_changes_nothing(name: str) -> None:
    task, batch = build(name)
    together = [p.to_dict() for p in task.predict(batch["images"])]
    alone = [task.predict(image[None])[0].to_dict() for image in batch["images"]]
    assert json.loads(json.dumps(together)) == together
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(_numbers(a), _numbers(b), atol=1e-5, rtol=1e-4)


@tasks
def test_predictions_draw_on_a_copy(name: str) -> None:
    task, batch = build(name)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    before = picture.tobytes()
    drawn = task.predict(batch["images"])[0].draw(picture)
    assert drawn.height >= drawn.width * 40 // 60
    assert picture.tobytes() == before


@tasks
def test_encoders_are_submodules_under_their_paths(name: str) -> None:
    task, _ = build(name)
    for path, encoder in task.encoders().items():
        assert task.get_submodule(path) is encoder
        assert isinstance(encoder, Encoder)
    assert image_encoder(task) is next(iter(task.encoders().values()))


@tasks
def test_inputs_are_those_of_the_encoder(name: str) -> None:
    task, _ = build(name)
    assert (task.inputs.media, task.inputs.channels, task.inputs.size) == ("image", 3, (16, 16))
    task.inputs.accepts((16, 24))
    with pytest.raises(UserError):
        task.inputs.accepts((17, 24))


@tasks
def test_one_pass_gives_outputs_and_embedding(name: str) -> None:
    task, batch = build(name)
    outputs, embedding = task.forward_with_embedding(batch["images"])
    torch.testing.assert_close(outputs, task(batch["images"]))
    torch.testing.assert_close(embedding, task.embed(batch["images"]))
    assert embedding.shape == (4, 32)
    graph = task.graph_outputs(batch["images"])
    assert torch.equal(graph["outputs"], outputs)
    assert torch.equal(graph["embedding"], embedding)


@tasks
def test_outputs_have_names_and_a_score_for_each(name: str) -> None:
    task, batch = build(name)
    assert task.names == OUTPUTS.get(name, NAMES)
    assert task.class_scores(task(batch["images"])).shape == (4, len(task.names))


@tasks
def test_predictions_are_in_pixels_of_the_size_given(name: str) -> None:
    task, _ = build(name)
    (prediction,) = task.predict(torch.randn(1, 3, 16, 24))
    assert isinstance(prediction, SpatialPrediction) == task.spatial()
    if isinstance(prediction, SpatialPrediction):
        assert prediction.size == (16, 24)
        assert all(list(row) == list(prediction.columns) for row in prediction.rows())
        images, geometry = torch.randn(1, 3, 16, 24), Preprocess(PreprocessConfig(size=(16, 24))).geometry((32, 48))
        (twice,) = task.decode(task(images), [geometry])
        assert isinstance(twice, SpatialPrediction)
        assert twice.size == (32, 48)


@tasks
def test_predictions_show_themselves(name: str) -> None:
    task, batch = build(name)
    prediction = task.predict(batch["images"])[0]
    assert len(repr(prediction)) < 100
    assert Image.open(io.BytesIO(prediction._repr_png_())).format == "PNG"
    if isinstance(prediction, RankedPrediction):
        assert len(prediction.to_dict(2)["top"]) == len(prediction.top(2)) == 2


@tasks
def test_rows_of_an_evaluation_are_the_same_in_any_batch(name: str) -> None:
    task, batch = build(name)
    geometries = [Preprocess(PreprocessConfig(size=16)).geometry((16, 16))] * 4 if task.spatial() else None
    more = {} if geometries is None else {"geometries": geometries}
    together, apart = task.metrics(), task.metrics()
    with torch.no_grad():
        rows = task.evaluate_batch(batch | more)
        assert len(rows) == 4
        together.update(rows, batch["targets"])
        for i in range(4):
            one = {key: value[i : i + 1] for key, value in (batch | more).items()}
            apart.update(task.evaluate_batch(one), batch["targets"][i : i + 1])
    assert together.compute() == pytest.approx(apart.compute(), rel=1e-4, abs=1e-5, nan_ok=True)


@tasks
@pytest.mark.parametrize("border", [0, 8], ids=["", "border"])
def test_patches_have_colours_and_likenesses_in_one_image_and_across_two(name: str, border: int) -> None:
    task, batch = build(name)
    padding = torch.zeros(1, 16, 16, dtype=torch.bool)
    padding[..., 16 - border :] = border > 0
    if border and not task.spatial():
        pytest.skip("its images are whole")
    one, other = (batch["images"][i : i + 1] for i in range(2))
    given = (padding,) if border else ()
    options = {"padding": padding} if border else {}
    (colours,) = explain(task, one, "pca", **options)
    (alike,) = explain(task, one, "similarity", patch=4, **options)
    assert colours.values.shape == (4, 4, 3)
    assert alike.values.shape == (4, 4)
    assert alike.values[1, 0] == pytest.approx(1, abs=1e-5)
    assert alike.values.std() > 0
    for method, own, extra in (("pca", colours, {}), ("similarity", alike, {"patch": 4})):
        (same,) = explain(task, one, method, reference=(one, *given), **options, **extra)
        (theirs,) = explain(task, other, method, reference=(one, *given), **options, **extra)
        np.testing.assert_allclose(same.values, own.values, atol=1e-5)
        assert theirs.values.shape == own.values.shape
        assert not np.allclose(theirs.values, own.values, atol=0.01)


@tasks
def test_another_forward_takes_the_place_of_the_tasks_own(name: str) -> None:
    task, batch = build(name)
    outputs, shapes = task(batch["images"]).detach(), []

    def forward(images: torch.Tensor) -> torch.Tensor:
        shapes.append(images.shape)
        return outputs

    task.evaluate_batch(batch | {"geometries": [Preprocess(PreprocessConfig(size=16)).geometry((16, 16))] * 4}, forward)
    assert shapes == [(4, 3, 16, 16)]


def test_a_model_without_a_head_predicts_its_features_and_says_what_it_lacks() -> None:
    module = registry.load("tasks", "features")
    model = module.Task(module.Config(model=MODEL)).eval()
    assert isinstance(model, Embedder)
    assert not isinstance(model, Trainable)
    assert model.names == ()
    predictor = vitrail.Predictor(model, PreprocessConfig(size=16), device="cpu")
    image = np.zeros((20, 20, 3), np.uint8)
    assert predictor.embed([image, image]).shape == (2, 32)
    np.testing.assert_array_equal(predictor.predict(image).features, predictor.embed(image))
    with pytest.raises(UserError, match="cannot be measured"):
        vitrail.evaluate(model, [])


@tasks
def test_metrics_hold_the_monitored_value(name: str) -> None:
    task, batch = build(name)
    family = task.metrics()
    with torch.no_grad():
        family.update(task.evaluate_batch(batch), batch["targets"])
    scalars = family.compute()
    assert np.isfinite(scalars[task.monitor])
    assert set(type(family).scalars or scalars) == set(scalars)
    assert mode_of(task.monitor) == task.monitor_mode


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for v in value.values() for n in _numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in _numbers(v)]
    return [] if isinstance(value, str) else [float(value)]


def test_regression_learns_on_a_common_scale_and_answers_in_units() -> None:
    task, batch = build("regression")
    targets = batch["targets"]
    assert task.config.mean == pytest.approx(targets.mean(0).tolist())
    torch.nn.init.zeros_(task.head.output.weight)
    torch.nn.init.zeros_(task.head.output.bias)
    torch.testing.assert_close(task(batch["images"]), targets.mean(0).expand(4, 3))
    assert task.loss(batch)["loss"].item() == pytest.approx(1, abs=1e-5)


def test_classification_takes_soft_targets_and_ranks() -> None:
    task, batch = build("classification", label_smoothing=0.1)
    hard = task.loss(batch)["loss"]
    soft = task.loss(batch | {"targets": torch.nn.functional.one_hot(batch["targets"], 3).float()})["loss"]
    torch.testing.assert_close(hard, soft)
    prediction = task.predict(batch["images"])[0]
    assert prediction.top(2)[0] == (prediction.label, prediction.score)
    assert prediction.score == max(score for _, score in prediction.top(3))
    assert sum(score for _, score in prediction.top(3)) == pytest.approx(1)


def test_the_class_token_pool_needs_a_class_token() -> None:
    module = registry.load("tasks", "classification")
    model = ViTConfig(image_size=16, patch_size=4, dim=32, depth=1, heads=2, mlp_dim=64, class_token=False)
    with pytest.raises(ValueError, match="class_token=true; choose pool='mean'"):
        module.Task(module.Config(model=model, classes=NAMES, pool="cls"))
