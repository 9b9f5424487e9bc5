"""EoMT: masks of attention, their annealing, and the loss."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data.segments import Segments, SegmentsBatch
from vitrail.errors import UserError
from vitrail.nn.query_tokens import MaskAnnealing
from vitrail.ops.mask_outputs import unpack
from vitrail.tasks.panoptic import Config, Prediction, Task
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=16, patch_size=4, dim=32, depth=3, heads=2, mlp_dim=64, registers=1)
NAMES = ("ant", "bee", "sky")


def build(**options: Any) -> Task:
    torch.manual_seed(0)
    settings = {"model": MODEL, "classes": NAMES, "things": NAMES[:2], "num_queries": 6, "num_blocks": 2}
    task = Task(Config(**{**settings, "num_upscale": 1, **options}))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return task.eval()


def batch(**more: Any) -> dict[str, Any]:
    numbers = torch.zeros(16, 16, dtype=torch.int32)
    numbers[:8], numbers[8:, :8] = 1, 2
    one = Segments(numbers, torch.tensor([2, 0]), torch.tensor([False, False]))
    keys = torch.arange(2) * 7919
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return {"images": images, "targets": SegmentsBatch.of([one, one]), "keys": keys, **more}


def test_queries_join_before_the_last_blocks_and_see_the_patches_of_their_masks() -> None:
    task, images = build(), batch()["images"]
    masked = task(images)
    task.annealing.probabilities.zero_()
    plain = task(images)
    assert masked.shape == plain.shape == (2, 6, 4 + 1 + 64)
    assert not torch.allclose(masked, plain)
    # without masks the queries are tokens like any other
    tokens, _, positions = task.vit.tokenise(images)
    x = next(iter(task.vit.layers(tokens, positions)))
    x = torch.cat((task.queries.expand(2, -1, -1), x), dim=1)
    for block in task.vit.blocks[1:]:
        x = block(x, positions)
    torch.testing.assert_close(unpack(plain, 4)[0], task.head(task.vit.norm(x)[:, :6]))


def test_padding_changes_nothing() -> None:
    task = build(model=dataclasses.replace(MODEL, positions="sincos_2d"))
    image = torch.randn(1, 3, 16, 8)
    canvas = torch.nn.functional.pad(image, (0, 8), value=3.0)
    padding = torch.zeros(1, 16, 16, dtype=torch.bool)
    padding[..., 8:] = True
    task.annealing.probabilities.zero_()
    noise = torch.where(padding[:, None], torch.randn(1, 3, 16, 16), canvas)
    torch.testing.assert_close(task(canvas, padding), task(noise, padding))
    task.annealing.probabilities.fill_(1)
    torch.testing.assert_close(task(canvas, padding), task(noise, padding))


def test_masks_are_annealed_block_by_block() -> None:
    annealing = MaskAnnealing(2)
    shares = []
    for step in range(0, 401, 50):
        annealing.after_step(step, 400)
        shares.append(annealing.shares())
    assert shares[:3] == [(1.0, 1.0)] * 3
    assert shares[3] == (pytest.approx(0.5**0.9), 1.0)
    assert shares[4] == (0.0, 1.0)
    assert shares[5] == (0.0, pytest.approx(0.5**0.9))
    assert shares[6:] == [(0.0, 0.0)] * 3
    other = MaskAnnealing(2)
    other.load_state_dict(annealing.state_dict())
    assert other._known == (0.0, 0.0)


def test_the_queries_without_a_mask_depend_on_the_keys_alone() -> None:
    task = build()
    task.annealing.probabilities.fill_(0.5)
    first, again = (task.loss(batch())["loss"] for _ in range(2))
    assert torch.equal(first, again)
    other = batch()
    assert not torch.equal(first, task.loss(other | {"keys": other["keys"] + 1})["loss"])


def test_the_loss_falls_to_a_perfect_prediction() -> None:
    task, data = build(), batch()
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    for _ in range(150):
        loss = task.loss(data)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = task.predict(data["images"])[0]
    assert sorted(found.labels.tolist()) == [0, 2]
    metrics = task.metrics()
    metrics.update(task.evaluate_batch(data), [*data["targets"]])
    assert metrics.compute()["pq"] > 0.8


def test_crowds_and_images_without_segments_are_no_targets() -> None:
    task = build()
    nothing = Segments(torch.zeros(16, 16, dtype=torch.int32), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool())
    crowd = Segments(torch.ones(16, 16, dtype=torch.int32), torch.tensor([1]), torch.tensor([True]))
    losses = [task.loss(batch(targets=SegmentsBatch.of([each, each]))) for each in (nothing, crowd)]
    assert losses[0]["loss"].isfinite()
    assert torch.equal(losses[0]["loss"], losses[1]["loss"])
    assert losses[0]["mask"] == losses[0]["dice"] == 0


def prediction() -> Prediction:
    numbers = np.zeros((4, 6), np.int32)
    numbers[:2], numbers[2:, :2], numbers[2:, 2:4] = 1, 2, 3
    return Prediction(NAMES, (True, True, False), numbers, np.array([2, 0, 0]), np.array([0.9, 0.8, 0.7], np.float32))


def test_semantic_and_instance_views() -> None:
    found = prediction()
    assert found.semantic().map.tolist() == [[2] * 6] * 2 + [[0, 0, 0, 0, 255, 255]] * 2
    things = found.instances()
    assert things.names == ["ant", "ant"]
    assert things.boxes_xyxy.tolist() == [[0, 2, 2, 4], [2, 2, 4, 4]]
    assert things.masks is not None
    assert things.masks.sum(axis=(1, 2)).tolist() == [4, 4]
    assert found.to_dict()["segments"][0] == {
        "id": 1, "label": "sky", "score": pytest.approx(0.9), "is_thing": False, "share": 0.5,
    }  # fmt: skip
    assert np.asarray(found.to_png())[3, 3].tolist() == [3, 0, 0]
    assert found.label_map().size == (6, 4)
    assert repr(found) == "<3 segments: sky 90.0%, ant 80.0%>"
    big = dataclasses.replace(found, map=np.array([[70_000]], np.int32))
    assert np.asarray(big.to_png()).tolist() == [[[112, 17, 1]]]
    assert found.draw(Image.new("RGB", (60, 40))).width >= 60


def test_wrong_options_are_refused() -> None:
    for options, text in (
        ({"num_blocks": 9}, "num_blocks=9 is more than the 3 blocks"),
        ({"things": ("bees",)}, "did you mean 'bee'"),
        ({"model": dataclasses.replace(MODEL, positions="relative", registers=0)}, "relative positions"),
    ):
        with pytest.raises(UserError, match=text):
            build(**options)
