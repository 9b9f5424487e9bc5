from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from contrasting import assert_two_ranks_equal_one, batch_of, build, detached, gradients, projected, same_config
from torch import Tensor

FROZEN = ("vit.embed.", "teacher.")


@torch.no_grad()
def reference(task: Any, batch: dict[str, Tensor], temperature: float) -> float:
    """Algorithm 1 of the paper."""
    total = 0.0
    for one, other in (("view0", "view1"), ("view1", "view0")):
        q = projected(task.predictor, projected(task.projector, task.vit(batch[one]).cls))
        k = projected(task.teacher["projector"], task.teacher["vit"](batch[other]).cls)
        q, k = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
        chances = (q @ k.T / temperature).softmax(dim=1)
        total += float(2 * temperature * -chances.diagonal().log().mean())
    return total


def step(task: Any, batch: dict[str, Tensor], rule: torch.optim.Optimizer) -> None:
    rule.zero_grad()
    task.loss(batch)["loss"].backward()
    rule.step()


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_the_loss_is_that_of_the_paper(temperature: float) -> None:
    task, batch = build("moco_v3", temperature=temperature), batch_of()
    found = detached(task.loss(batch))
    assert float(found["loss"]) == pytest.approx(reference(task, batch, temperature), abs=1e-5)
    assert found["accuracy"] in [i / 16 for i in range(17)]
    features = torch.cat([task.vit(batch[name]).cls for name in ("view0", "view1")]).detach().double()
    directions = features / features.norm(dim=1, keepdim=True)
    assert float(found["feature_std"]) == pytest.approx(float(directions.std(dim=0).mean() * 4), abs=1e-5)


def test_the_views_may_change_places() -> None:
    task, batch = build("moco_v3"), batch_of()
    swapped = {"view0": batch["view1"], "view1": batch["view0"], "keys": batch["keys"]}
    for name, value in task.loss(batch).items():
        torch.testing.assert_close(task.loss(swapped)[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("freeze_embed", [True, False])
def test_gradients_reach_the_student_alone(freeze_embed: bool) -> None:
    task = build("moco_v3", freeze_embed=freeze_embed)
    task.loss(batch_of())["loss"].backward()
    frozen = FROZEN if freeze_embed else FROZEN[1:]
    expected = {name for name, _ in task.named_parameters() if not name.startswith(frozen)}
    assert gradients(task).keys() == expected == {n for n, p in task.named_parameters() if p.requires_grad}


def test_the_momentum_encoder_begins_as_the_encoder_and_follows_it() -> None:
    task, batch = build("moco_v3"), batch_of()
    fresh = same_config(task)
    for name, teacher in fresh.teacher.items():
        parameters = zip(teacher.parameters(), getattr(fresh, name).parameters(), strict=True)
        assert all(torch.equal(own, other) for own, other in parameters)

    rule = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for i in range(5):
        step(task, batch, rule)
        before = copy.deepcopy(task)
        task.after_step(i, 5)
        momentum = 1 - 0.5 * (1 + math.cos(math.pi * (i + 1) / 5)) * (1 - 0.99)
        for name, teacher in task.teacher.items():
            parameters = (module.parameters() for module in (teacher, before.teacher[name], getattr(task, name)))
            for own, was, other in zip(*parameters, strict=True):
                expected = momentum * was.double() + (1 - momentum) * other.double()
                torch.testing.assert_close(own.double(), expected, rtol=0, atol=1e-6)
    unmoved = zip(task.teacher.parameters(), before.teacher.parameters(), strict=True)
    assert all(torch.equal(own, was) for own, was in unmoved)  # at the end the momentum is 1


def test_a_frozen_patch_projection_stays() -> None:
    for freeze_embed in (True, False):
        task = build("moco_v3", freeze_embed=freeze_embed)
        before = copy.deepcopy(task.vit.embed.state_dict())
        rule = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
        for i in range(3):
            step(task, batch_of(), rule)
            task.after_step(i, 9)
        after = task.vit.embed.state_dict()
        assert all(torch.equal(after[name], value) == freeze_embed for name, value in before.items())


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_equal_one_process(strategy: str) -> None:
    assert_two_ranks_equal_one(build("moco_v3"), strategy, tolerance=3e-5)


def test_the_state_goes_there_and_back_with_the_momentum_encoder() -> None:
    task, batch = build("moco_v3"), batch_of()
    again = same_config(task)
    again.load_state_dict(task.state_dict())
    assert torch.equal(again.loss(batch)["loss"], task.loss(batch)["loss"])
    again.teacher["projector"][0].weight.data.normal_()
    assert not torch.equal(again.loss(batch)["loss"], task.loss(batch)["loss"])
