from __future__ import annotations

from typing import Any

import pytest
import torch

from vitrail.errors import UserError
from vitrail.pretrain.rotation import Config, Task, every_way, turned
from vitrail.vit import ViTConfig

MODEL: dict[str, Any] = {"image_size": 32, "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 64}


def build(*, all_rotations: bool = True, **model: Any) -> Task:
    task = Task(Config(model=ViTConfig(**MODEL, **model), all_rotations=all_rotations)).eval()
    torch.nn.init.normal_(task.head.weight)
    return task


def batch_of(images: torch.Tensor) -> dict[str, Any]:
    return {"images": images, "keys": torch.randint(2**62, (len(images),))}


def test_turns_are_exact() -> None:
    images, turns = torch.randn(8, 2, 5, 5), torch.tensor([0, 1, 2, 3, -1, -2, -3, 5])
    for image, number, result in zip(images, turns.tolist(), turned(images, turns), strict=True):
        assert torch.equal(result, torch.rot90(image, number, (1, 2)))
    assert torch.equal(turned(turned(images, turns), -turns), images)
    assert torch.equal(turned(images, torch.ones(8).long())[0, 0, 0], images[0, 0, :, -1])  # counter-clockwise
    assert all(torch.equal(way, torch.rot90(images, k, (2, 3))) for k, way in enumerate(every_way(images)))


def test_random_turns_are_even_and_hang_on_the_key_alone() -> None:
    task = build()
    batch = batch_of(torch.randn(4000, 3, 1, 1))
    turns = task.turns(batch)
    assert torch.bincount(turns, minlength=4).tolist() == pytest.approx([1000] * 4, abs=140)  # five deviations
    assert torch.equal(task.turns({name: value[7:30] for name, value in batch.items()}), turns[7:30])


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("all_rotations", [True, False])
def test_the_loss_against_a_loop(all_rotations: bool, class_token: bool) -> None:
    task = build(all_rotations=all_rotations, class_token=class_token)
    batch = batch_of(torch.randn(5, 3, 32, 32))
    found = task.loss(batch)
    terms, right = [], []
    for image, drawn in zip(batch["images"], task.turns(batch).tolist(), strict=True):
        for number in range(4) if all_rotations else [drawn]:
            features = task.vit(torch.rot90(image, number, (1, 2))[None])
            row = task.head(features.cls[0] if class_token else features.patches[0].mean(0))
            terms.append(row.exp().sum().log() - row[number])
            right.append(float(row.argmax() == number))
    assert found["loss"].item() == pytest.approx(sum(terms).item() / len(terms), rel=1e-4)
    assert found["accuracy"].item() == pytest.approx(sum(right) / len(right))


def test_it_learns_which_way_is_up() -> None:
    torch.manual_seed(0)
    task = build(all_rotations=False)
    light = torch.linspace(1, -1, 32).view(1, 1, 32, 1)
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    for _ in range(30):
        found = task.loss(batch_of(light + 0.3 * torch.randn(16, 3, 32, 32)))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    batch = batch_of(light + 0.3 * torch.randn(16, 3, 32, 32))
    assert task.loss(batch)["accuracy"] == 1
    shown, back = task.show(batch)
    assert torch.equal(back.images, batch["images"])
    assert torch.equal(shown.images, turned(batch["images"], task.turns(batch)))


def test_images_that_are_not_square_are_refused() -> None:
    task = build()
    batch = batch_of(torch.randn(2, 3, 32, 48))
    for call in (task.loss, task.show):
        with pytest.raises(UserError, match="square images, not 32×48; set"):
            call(batch)
