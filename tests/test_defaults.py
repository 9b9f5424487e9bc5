"""Settings that a training chooses where its user says nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail import registry
from vitrail.config import override, parse_assignments
from vitrail.data import Annotations, DataConfig, SourceConfig
from vitrail.data.storage.arrays import Arrays
from vitrail.data.targets import Extents, load
from vitrail.defaults import (
    Choice,
    Facts,
    Quality,
    effective,
    fine_tuning,
    image_size,
    length,
    quality_in_words,
    spatial,
    too_few,
    whole_images,
)
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
@pytest.mark.parametrize(("pretrained", "quality"), [(True, "good"), (True, "best"), (False, "good")])
@pytest.mark.parametrize("num_images", [1, 10, 200, 100_000])
def test_the_defaults_of_every_task_are_settings_that_build_it(
    task: str, pretrained: bool, quality: Quality, num_images: int
) -> None:
    module = registry.load("tasks", task)
    if not hasattr(module.Task, "defaults"):
        assert task == "features"  # which is not trained
        return
    choices = module.Task.defaults(facts(num_images, pretrained=pretrained, quality=quality))
    run = override(Run(data=DataConfig(source=SourceConfig(spec="x"))), {each.path: each.value for each in choices})
    assert all(each.reason for each in choices)
    assert run.data.loader.batch_size <= num_images * run.data.loader.passes
    with torch.device("meta"):
        built = module.Task(
            module.Task.configure(run.model, ["a", "b"], np.zeros((2, 2), np.float32), run.task_options)
        )
    built.inputs.accepts(run.preprocess.size)


def test_explicit_values_win() -> None:
    choices = [Choice(path, 1, "") for path in ("epochs", "optimizer.lr", "task_options.decoder", "ema")]
    given = {"optimizer.base_lr": 1, "task_options": {}, "epoch": 1, "ema.decay": 0.5}
    assert [each.path for each in effective(choices, given)] == ["epochs", "ema"]


def test_a_choice_reads_as_it_is_set() -> None:
    choice = Choice("ema", {"decay": 0.95, "own": True, "of": [None, "a"]}, "steadier")
    assert str(choice) == "ema: {decay: 0.95, own: true, of: [null, a]} (steadier)"
    assert parse_assignments([str(choice).replace(": ", "=", 1).removesuffix(" (steadier)")]) == {"ema": choice.value}


def test_a_default_goes_with_the_switch_that_it_needs() -> None:
    choices = registry.load("tasks", "detection").Task.defaults(facts())
    on, off = ({each.path for each in effective(choices, {"task_options.proposals": given})} for given in (True, False))
    assert on - off == {"task_options.dense"}
    assert on >= off


@pytest.mark.parametrize(
    ("num_images", "batch_size", "epochs"),
    [(1, 1, 100), (7, 1, 15), (10, 2, 20), (39, 8, 25), (200, 8, 4), (100_000, 8, 3)],
)
def test_epochs_make_the_steps(num_images: int, batch_size: int, epochs: int) -> None:
    """39 images are four batches of eight an epoch: the incomplete one is left out."""
    chosen = {each.path: each.value for each in length(facts(num_images), 8, 100, fewest=3).choices(facts(num_images))}
    assert chosen == {"data.loader.batch_size": batch_size, "epochs": epochs}


def values(choices: list[Choice]) -> dict[str, object]:
    return {each.path: each.value for each in choices}


def test_fine_tuning_follows_what_the_user_sets() -> None:
    """A rate by the square root of the batch, an average over a tenth of the steps; the user's are not chosen anew."""
    wide = ViTConfig(dim=384, heads=6, mlp_dim=1536)
    chosen = values(fine_tuning(facts(270, model=wide, batch_size=64, epochs=50)))
    assert (chosen["data.loader.batch_size"], chosen["epochs"]) == (64, 50)
    assert chosen["optimizer.lr"] == pytest.approx(3e-4 * 2 / 2**0.5, rel=0.02)
    assert chosen["ema"] == {"decay": 0.95}
    assert chosen["release"] == "last"


def test_weights_that_know_no_labels_learn_longer() -> None:
    chosen = values(fine_tuning(facts(270, unlabelled=True)))
    assert chosen["epochs"] == 125  # 2,000 steps of 16
    assert values(fine_tuning(facts(100_000, unlabelled=True)))["epochs"] == 50


def test_deeper_models_have_rates_that_fall_less_a_layer() -> None:
    decays = [
        values(fine_tuning(facts(model=ViTConfig(depth=depth))))["optimizer.layer_decay"] for depth in (2, 12, 24, 32)
    ]
    assert decays == [0.7, 0.7, 0.79, 0.82]


@pytest.mark.parametrize(("quality", "epochs", "members"), [("fast", 1, None), ("good", 13, None), ("best", 13, 3)])
def test_quality_is_how_much_is_trained(quality: Quality, epochs: int, members: int | None) -> None:
    chosen = values(whole_images(facts(270, quality=quality)))
    assert (chosen["epochs"], chosen["fit_head"]) == (epochs, True)
    assert (chosen.get("freeze") == ["backbone"]) == (quality == "fast")
    assert chosen.get("members") == members
    assert chosen.get("task_options.mirrored") == (True if quality == "best" else None)


def test_mirror_images_are_alike_where_no_augmentation_says_otherwise() -> None:
    assert "task_options.mirrored" not in values(whole_images(facts(270, quality="best", mirror=False)))


def test_other_qualities_are_told_by_their_work() -> None:
    """13 epochs and the features of the head; against those and an epoch without gradients, or three times 13."""
    told = quality_in_words(facts(270), whole_images)
    assert told == f"good (fast {(2 / 3) / (13 + 1 / 3):.0%} of the time, best 3 times as long)"
    assert quality_in_words(facts(270, quality="best"), spatial) == "best (fast 13% of the time, good 50% of the time)"
    assert quality_in_words(facts(270, epochs=3), spatial) == "good"


def test_few_images_from_scratch_are_named() -> None:
    assert too_few(facts(270, pretrained=True), "photos") is None
    assert too_few(facts(60_000, pretrained=False), "photos") is None
    said = str(too_few(facts(9_999, pretrained=False), "my photos"))
    assert "9,999 images are few" in said
    assert "vitrail train 'my photos' --init WEIGHTS" in said


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((480, 640), None, (240, 320)),
        ((480, 640), 0.1, (240, 320)),
        ((480, 640), 0.05, (368, 480)),
        ((480, 640), 0.01, (480, 640)),
        ((4000, 3000), 0.01, (640, 480)),
        ((4000, 3000), 0.9, (320, 240)),
        ((300, 100), 0.05, (304, 96)),
        ((10, 4000), 0.1, (16, 640)),
    ],
)
def test_the_input_shows_small_objects(size: tuple[int, int], side: float | None, expected: tuple[int, int]) -> None:
    """1.3 patches of 16 pixels along an object, the image's own aspect, and no more pixels than the image has."""
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
