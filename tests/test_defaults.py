"""Settings that a training chooses where its user says nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail import registry
from vitrail.config import override
from vitrail.data import Annotations, DataConfig, SourceConfig
from vitrail.data.storage.arrays import Arrays
from vitrail.data.targets import Extents, load
from vitrail.defaults import Choice, Facts, effective, image_size, steps
from vitrail.train.run import Run
from vitrail.vit import ViTConfig

MODEL = ViTConfig()


def facts(
    num_images: int = 200, size: tuple[int, int] = (480, 640), side: float | None = 0.1, **kinds: object
) -> Facts:
    objects = None if side is None else Extents(np.full((20, 2), side), 7)
    given = {"model": MODEL, "pretrained": True, "image_sizes": np.array([size])} | kinds
    return Facts(num_images=num_images, objects=objects, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", registry.names("tasks"))
@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("num_images", [1, 200, 100_000])
def test_the_defaults_of_every_task_are_settings_that_build_it(task: str, pretrained: bool, num_images: int) -> None:
    module = registry.load("tasks", task)
    if not hasattr(module.Task, "defaults"):
        assert task == "features"  # which is not trained
        return
    choices = module.Task.defaults(facts(num_images, pretrained=pretrained))
    run = override(Run(data=DataConfig(source=SourceConfig(spec="x"))), {each.path: each.value for each in choices})
    assert all(each.reason for each in choices)
    with torch.device("meta"):
        built = module.Task(
            module.Task.configure(run.model, ["a", "b"], np.zeros((2, 2), np.float32), run.task_options)
        )
    built.inputs.accepts(run.preprocess.size)


def test_explicit_values_win() -> None:
    choices = [Choice(path, 1, "") for path in ("epochs", "optimizer.lr", "task_options.decoder", "ema")]
    given = {"optimizer.base_lr": 1, "task_options": {}, "epoch": 1, "ema.decay": 0.5}
    assert [each.path for each in effective(choices, given)] == ["epochs", "ema"]


@pytest.mark.parametrize(("num_images", "epochs"), [(7, 100), (200, 4), (8, 100), (100_000, 3)])
def test_epochs_make_the_steps(num_images: int, epochs: int) -> None:
    chosen = {each.path: each.value for each in steps(facts(num_images), 8, 100, fewest=3)}
    assert chosen == {"data.loader.batch_size": 8, "epochs": epochs}


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((480, 640), None, (192, 256)),
        ((480, 640), 0.1, (272, 368)),
        ((480, 640), 0.01, (480, 640)),
        ((4000, 3000), 0.01, (640, 480)),
        ((4000, 3000), 0.9, (224, 160)),
        ((300, 100), 0.05, (304, 96)),
        ((10, 4000), 0.1, (16, 640)),
    ],
)
def test_the_input_shows_small_objects(size: tuple[int, int], side: float | None, expected: tuple[int, int]) -> None:
    """Two patches of 16 pixels along an object, the image's own aspect, and no more pixels than the image has."""
    (choice,) = image_size(facts(size=size, side=side))
    assert choice.value == expected


def test_facts_of_a_source() -> None:
    images = np.zeros((3, 20, 40, 3), np.uint8)
    annotations = Annotations(
        boxes_xyxy=np.array([[0, 0, 4, 10], [10, 5, 30, 10], [0, 0, 40, 20]], np.float32),
        labels=np.zeros(3, np.int64),
        crowd=np.zeros(3, bool),
        offsets=np.array([0, 2, 2, 3]),
        sizes=np.array([[20, 40]] * 3, np.int32),
        image_ids=np.arange(3),
        category_ids=np.array([1]),
        rows=np.array([2, 0]),
    )
    source = Arrays(images=images[:2], label="x", channels=3, targets=annotations, kind="boxes", classes=("a",))
    found = Facts.of(source, MODEL, pretrained=False)
    assert found.objects is not None
    np.testing.assert_allclose(found.objects.shares, [[1, 1], [0.5, 0.1], [0.25, 0.5]])
    assert (found.num_images, found.objects.most) == (2, 2)
    assert found.image_sizes.tolist() == [[20, 40]] * 2
    assert load("class").extents(np.zeros(3, np.int64)) is None


def test_images_that_cannot_be_read_are_left_to_the_training() -> None:
    file = io.BytesIO()
    Image.new("RGB", (5, 7)).save(file, "PNG")

    class Broken(Arrays):
        def read(self, index: int) -> bytes:  # type: ignore[override]
            return file.getvalue() if index else b"no image"

    maps = np.zeros((2, 7, 5), np.uint8)
    source = Broken(images=maps, label="x", channels=3, targets=maps, kind="semantic", classes=("a", "b"))
    assert Facts.of(source, MODEL, pretrained=True).image_sizes.tolist() == [[7, 5]]
    assert not image_size(facts(image_sizes=np.empty((0, 2))))
