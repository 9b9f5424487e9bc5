from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from contrasting import (
    assert_two_ranks_equal_one,
    batch_of,
    build,
    detached,
    gradients,
    newest_state,
    projected,
    same_config,
    tiny_run,
)
from ranks import on_two_ranks

from vitrail import registry
from vitrail.config import override
from vitrail.data import open_data
from vitrail.errors import UserError
from vitrail.train import opening, precision
from vitrail.train.distributed import World
from vitrail.train.loop import fit
from vitrail.train.trial import few_images


def test_the_loss_is_that_of_the_paper() -> None:
    task, batch = build("simclr", temperature=0.3), batch_of()
    features = torch.cat([task.vit(batch[name]).cls for name in ("view0", "view1")]).detach()
    z = projected(task.projector, features).detach()
    z = z / z.norm(dim=1, keepdim=True)
    weights = (z @ z.T / 0.3).exp().fill_diagonal_(0)
    partner = weights[torch.arange(16), torch.arange(16).roll(8)]
    found = detached(task.loss(batch))
    assert float(found["loss"]) == pytest.approx(float(-(partner / weights.sum(dim=1)).log().mean()), abs=1e-5)
    assert float(found["accuracy"]) == pytest.approx(float((weights.amax(dim=1) == partner).double().mean()))
    directions = (features / features.norm(dim=1, keepdim=True)).double()
    assert float(found["feature_std"]) == pytest.approx(float(directions.std(dim=0).mean() * 4), abs=1e-5)


def test_the_views_may_change_places() -> None:
    task, batch = build("simclr"), batch_of()
    swapped = {"view0": batch["view1"], "view1": batch["view0"], "keys": batch["keys"]}
    for name, value in task.loss(batch).items():
        torch.testing.assert_close(task.loss(swapped)[name], value, rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    task = build("simclr")
    task.loss(batch_of())["loss"].backward()
    assert gradients(task).keys() == dict(task.named_parameters()).keys()


def test_learning_lowers_the_loss_and_collapse_shows() -> None:
    task, batch = build("simclr"), batch_of()
    rule = torch.optim.AdamW(task.parameters(), lr=1e-3)
    first = task.loss(batch)
    for _ in range(30):
        rule.zero_grad()
        last = task.loss(batch)
        last["loss"].backward()
        rule.step()
    assert last["loss"] < 0.7 * first["loss"]
    assert last["accuracy"] > first["accuracy"]
    torch.nn.init.zeros_(task.vit.norm.weight)
    assert float(task.loss(batch)["feature_std"]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_equal_one_process(strategy: str) -> None:
    assert_two_ranks_equal_one(build("simclr"), strategy, tolerance=1e-5)


def measured_precision(rank: int) -> str:
    precision.has_fast_bf16 = lambda: True
    run = tiny_run("simclr", precision="auto")
    data, world = open_data(run.data), World(torch.device("cpu"), rank, 2)
    loader = data.train_loader(rank=rank, world_size=2)
    task = opening.build_task(run, data)
    batch = few_images(loader, task, world.device, run.accumulate)
    return world.broadcast(precision.resolve(run.precision, task, lambda copy: copy.loss(batch)["loss"], world.device))


def test_two_ranks_measure_the_precision_together() -> None:
    first, second = on_two_ranks(measured_precision)
    assert first == second != "auto"


def test_the_state_goes_there_and_back() -> None:
    task, batch = build("simclr"), batch_of()
    again = same_config(task)
    again.load_state_dict(task.state_dict())
    assert torch.equal(again.loss(batch)["loss"], task.loss(batch)["loss"])


@pytest.mark.parametrize("name", ["simclr", "moco_v3"])
def test_bad_batches_are_refused(name: str) -> None:
    task, batch = build(name), batch_of(4)
    with pytest.raises(UserError, match=f"'{name}' compares two views of an image, not 0; give data.views two"):
        task.loss({"images": batch["view0"], "keys": batch["keys"]})
    with pytest.raises(UserError, match="not 3"):
        task.loss({**batch, "view2": batch["view0"]})
    single = {key: value[:1] for key, value in batch.items()}
    with pytest.raises(UserError, match=r"there is one; set data\.loader\.batch_size to 2 or more"):
        task.loss(single)
    single["view0"][0, 0, 0, 0] = torch.nan
    assert task.eval().loss(single)["loss"].isnan()  # which image of a batch is at fault can be asked
    assert task.loss({key: value[1:2] for key, value in batch.items()})["loss"].isfinite()


@pytest.mark.parametrize("name", ["simclr", "moco_v3"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.views.0.count": 1}, r"at least 2 views of an image and data\.views has 1"),
        ({"data.augment": "light"}, r"learns from several: set data\.views\.0\.augment and so on"),
        ({"data.views.0.augment.mix.mixup": 0.2}, r"set data\.views\.0\.augment\.mix=\{\} and .*\.repeats=1"),
        ({"data.views.0.augment": "deit", "data.views.0.augment.mix": {}}, "neither mixed nor repeated"),
    ],
)
def test_views_that_make_no_sense_are_refused(
    name: str, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        fit(override(tiny_run(name), changes), tmp_path / "run")


@pytest.mark.parametrize("name", ["simclr", "moco_v3"])
def test_an_image_that_is_not_finite_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = registry.load("pretrain", name).Task
    loss = task.loss

    def spoiled(self: Any, batch: dict[str, Any]) -> Any:
        bad = (batch["keys"] % 32 == 0)[:, None, None, None]
        return loss(self, {**batch, "view0": batch["view0"].masked_fill(bad, torch.nan)})

    monkeypatch.setattr(task, "loss", spoiled)
    with pytest.raises(UserError, match=r"3 steps in a row were not finite; caused by .+: repair or remove it"):
        fit(tiny_run(name), tmp_path / "run")


class PlugPulled(Exception):
    pass


@pytest.mark.parametrize("name", ["simclr", "moco_v3"])
def test_a_resumed_training_is_the_same_to_the_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(name, save_steps=2)
    fit(run, tmp_path / "straight")
    task = registry.load("pretrain", name).Task
    after_step = task.after_step

    def pulling(self: Any, step: int, num_steps: int) -> None:
        after_step(self, step, num_steps)
        if step == num_steps - 2:
            raise PlugPulled

    with monkeypatch.context() as patch:
        patch.setattr(task, "after_step", pulling)
        with pytest.raises(PlugPulled):
            fit(run, tmp_path / "resumed")
    fit(run, tmp_path / "resumed")
    digests = [(newest_state(tmp_path / each) / "manifest.json").read_text() for each in ("straight", "resumed")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["simclr", "moco_v3"])
def test_the_recipe_builds_its_views(name: str) -> None:
    run = registry.load("recipes", name).run()
    assert sum(view.count for view in run.data.views) == registry.load("pretrain", name).Task.num_views == 2
    assert run.task == name
    assert run.optimizer.peak_lr(4096) == pytest.approx(2.4e-3)
