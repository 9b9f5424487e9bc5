"""LW-DETR: deformable attention by its definition, groups of queries, padding, and what a training starts from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail.config import from_dict
from vitrail.data.objects import Objects
from vitrail.errors import UserError
from vitrail.nn.deformable import DeformableAttention
from vitrail.nn.deformable_decoder import DeformableConfig, coordinate_sines
from vitrail.nn.windows import SplitConfig
from vitrail.tasks.detection_deformable import Config, Task
from vitrail.vit import ViTConfig

NAMES = ("ant", "bee", "cat")
MODEL = {"image_size": (24, 32), "patch_size": 8, "dim": 32, "depth": 3, "heads": 2, "mlp_dim": 48}
DECODER = {"dim": 16, "depth": 2, "heads": 2, "reading_heads": 4, "mlp_dim": 32, "num_queries": 6, "groups": 3}


def build(std: float | None = 0.2, **options: Any) -> Task:
    settings: dict[str, Any] = {"decoder": DECODER, "layers": (0, 2), "scales": ("1/2", "1", "2"), **options}
    settings["decoder"] = DeformableConfig(**settings["decoder"])
    task = Task(Config(model=ViTConfig(**MODEL), classes=NAMES, **settings))
    for parameter in task.parameters() if std else ():
        torch.nn.init.normal_(parameter, std=std)
    return task.eval()


def objects(count: int) -> Objects:
    start = torch.rand(count, 2) * 12
    boxes = torch.cat((start, start + 1 + torch.rand(count, 2) * 11), 1)
    return Objects(boxes, torch.randint(3, (count,)), torch.zeros(count, dtype=torch.bool), (24, 32))


def read_at(map_: Tensor, x: float, y: float) -> Tensor:
    """A map D h w at a place in cells, between their centres; zero beyond."""
    total = torch.zeros(map_.shape[0])
    for row in range(map_.shape[1]):
        for column in range(map_.shape[2]):
            share = max(0.0, 1 - abs(x - column - 0.5)) * max(0.0, 1 - abs(y - row - 0.5))
            total += share * map_[:, row, column]
    return total


def attention() -> tuple[DeformableAttention, tuple[Any, ...]]:
    module = DeformableAttention(8, 2, 2, 3)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    maps = [torch.randn(2, 8, 3, 4), torch.randn(2, 8, 2, 2)]
    hidden = torch.zeros(2, 3, 4, dtype=torch.bool)
    hidden[1, :, 2:] = True
    return module, (torch.randn(2, 5, 8), torch.rand(2, 5, 4), maps, [hidden, None])


@torch.no_grad()
def test_deformable_attention_by_its_definition() -> None:
    module, (queries, boxes, maps, hidden) = attention()
    found = module(queries, boxes, maps, hidden)
    for image in range(2):
        for query in range(5):
            offsets = module.offsets(queries[image, query]).reshape(2, 2, 3, 2)
            weights = module.scores(queries[image, query]).reshape(2, 6).softmax(-1).reshape(2, 2, 3)
            parts = []
            for head in range(2):
                total = torch.zeros(4)
                for level, each in enumerate(maps):
                    value = module.value(each[image].flatten(1).T).T.reshape(each[image].shape)
                    if hidden[level] is not None:
                        value = value.masked_fill(hidden[level][image], 0)
                    for point in range(3):
                        x, y = boxes[image, query, :2] + offsets[head, level, point] / 3 * boxes[image, query, 2:] / 2
                        read = read_at(value, float(x) * each.shape[3], float(y) * each.shape[2])
                        total += weights[head, level, point] * read[4 * head : 4 * head + 4]
                parts.append(total)
            torch.testing.assert_close(found[image, query], module.out(torch.cat(parts)), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_its_weights_are_those_that_it_mixes_values_by() -> None:
    module, (queries, boxes, maps, hidden) = attention()
    weights = module.weights(queries, boxes, maps, hidden)
    assert weights.shape == (2, 2, 5, 12 + 4)
    assert weights.min() >= 0
    assert weights.sum(dim=-1).max() <= 1 + 1e-5
    values = torch.cat([module.value(each.flatten(2).transpose(1, 2)) for each in maps], dim=1)
    values[1, :12] = values[1, :12].masked_fill(hidden[0][1].flatten()[:, None], 0)
    mixed = weights @ values.unflatten(-1, (2, 4)).transpose(1, 2)
    expected = module.out(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(queries, boxes, maps, hidden), expected, atol=1e-5, rtol=1e-4)


def test_heads_look_into_directions_of_their_own_at_first() -> None:
    task = build(None)
    bias = task.decoder.layers[0].image.offsets.bias.reshape(4, 3, 2, 2)
    expected = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    for point in range(2):
        for level in range(3):
            torch.testing.assert_close(bias[:, level, point], expected * (point + 1), atol=1e-6, rtol=0)
    assert not task.decoder.layers[0].image.scores.weight.any()
    with torch.no_grad():
        scores = task(torch.randn(1, 3, 24, 32))[..., :3]
    assert scores.max() < 0.2  # objects are rare


def test_sines_of_a_coordinate() -> None:
    boxes = torch.rand(2, 4)
    sines = coordinate_sines(boxes, 6)
    order = [1, 0, 2, 3]
    for place, coordinate in enumerate(order):
        for step in range(3):
            angle = 2 * torch.pi * boxes[:, coordinate] / 10000 ** (2 * step / 6)
            torch.testing.assert_close(sines[:, 6 * place + 2 * step], angle.sin())
            torch.testing.assert_close(sines[:, 6 * place + 2 * step + 1], angle.cos())


def test_groups_do_not_see_each_other_and_the_first_one_predicts() -> None:
    task, images = build(), torch.randn(2, 3, 24, 32)
    with torch.no_grad():
        alone, all_ = task._find(images, None, 1), task._find(images, None, 3)
    for (logits, boxes), (some, where) in zip(all_.layers, alone.layers, strict=True):
        assert logits.shape == (2, 18, 3)
        torch.testing.assert_close(logits[:, :6], some)
        torch.testing.assert_close(boxes[:, :6], where)


def test_the_loss_is_the_mean_over_groups_of_each_alone() -> None:
    torch.manual_seed(0)
    task, images = build(), torch.randn(2, 3, 24, 32)
    batch = {"images": images, "targets": [objects(2), objects(3)]}
    together = task.loss(batch)["loss"]
    single = build(decoder=DECODER | {"groups": 1})
    losses = []
    for group in range(3):
        state = {
            name: value for name, value in task.state_dict().items() if not name.startswith(("proposals", "queries"))
        }
        state |= {
            name.replace(f"proposals.{group}.", "proposals.0."): value
            for name, value in task.state_dict().items()
            if name.startswith(f"proposals.{group}.")
        }
        state |= {f"queries.{part}": getattr(task.queries, part)[group : group + 1] for part in ("content", "change")}
        single.load_state_dict(state)
        losses.append(single.loss(batch)["loss"])
    torch.testing.assert_close(together, torch.stack(losses).mean())


@pytest.mark.parametrize("window", [None, SplitConfig(parts=2, layers=(0,))])
def test_what_is_padding_is_not_read(window: Any) -> None:
    task = build(window=window)
    padding = torch.zeros(1, 24, 32, dtype=torch.bool)
    padding[..., 16:] = True
    canvases = torch.randn(2, 3, 24, 32)
    canvases[1, :, :, :16] = canvases[0, :, :, :16]
    with torch.no_grad():
        first, second = (task(canvas[None], padding) for canvas in canvases)
        torch.testing.assert_close(first, second)
        assert not torch.allclose(task(canvases[:1]), first, atol=1e-3)


def test_an_image_of_fewer_cells_than_queries() -> None:
    task = build(scales=("1/2",))
    outputs = task(torch.randn(1, 3, 24, 32))
    assert outputs.shape == (1, 4, 7)
    assert outputs.isfinite().all()
    assert task.loss({"images": torch.randn(1, 3, 24, 32), "targets": [objects(2)]})["loss"].isfinite()


def test_one_image_can_be_learned() -> None:
    torch.manual_seed(0)
    task = build(None, scales=("1",)).train()
    batch = {"images": torch.randn(2, 3, 24, 32), "targets": [objects(2), objects(3)]}
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    for _ in range(250):
        loss = task.loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    metrics = task.eval().metrics()
    with torch.no_grad():
        metrics.update(task(batch["images"]), batch["targets"])
    assert metrics.compute()["ap50"] > 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": [3]}, "not all of the encoder's 3"),
        ({"decoder": DECODER | {"reading_heads": 3}}, "not a multiple of reading_heads 3"),
        ({"join": {"expansion": 0.01}}, "leaves nothing of dim 16"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_dict(Config, {"model": {"depth": 3}, "classes": ["a"], "decoder": DECODER, **options})
