"""DINO against a few lines after its paper's pseudo code."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distilling import MODEL, OPTIONS, assert_two_ranks_equal_one, batch_of, build, head_of, steps, tiny_run
from torch import Tensor

import vitrail
from vitrail import registry
from vitrail.build import open_checkpoint
from vitrail.checkpoints import native
from vitrail.config import to_dict
from vitrail.data import ViewConfig, open_data
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.metrics import representation
from vitrail.self_supervision.panels import attention_and_pca
from vitrail.tasks import classification
from vitrail.train import optimizer as train_optimizer
from vitrail.train.init_weights import initialise_from
from vitrail.train.loop import fit
from vitrail.train.opening import build_task
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.precision import guarded_step
from vitrail.vit import ViTConfig

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def reference(task: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The loss (algorithm 1 of the paper), and the teacher's outputs of which the batch's centre is made."""
    views = sorted((batch[f"view{i}"] for i in range(5)), key=lambda view: -view.shape[-1])
    teacher, total, count = task.teacher, 0.0, 0
    student_outputs = [head_of(task.head, task.vit(view).tokens[:, 0]) for view in views]
    teacher_outputs = [head_of(teacher["head"], teacher["vit"](view).tokens[:, 0]).detach() for view in views[:2]]
    for i, t in enumerate(teacher_outputs):
        for j, s in enumerate(student_outputs):
            if i != j:
                t_prob = torch.softmax((t - task.centre.mean) / 0.04, dim=1)
                total += -(t_prob * torch.log(torch.softmax(s / 0.1, dim=1))).sum(dim=1).mean()
                count += 1
    assert count == 2 * 5 - 2
    return total / count, torch.cat(teacher_outputs)


@pytest.mark.parametrize("normalised", [True, False])
def test_loss_and_gradients_are_the_papers(normalised: bool) -> None:
    task, batch = build("dino", normalise_prototypes=normalised), batch_of()
    expected, _ = reference(task, batch)
    losses = task.loss(batch)
    torch.testing.assert_close(losses["loss"], expected, **CLOSE)
    trained = [p for p in task.parameters() if p.requires_grad]
    for found, wanted in zip(
        torch.autograd.grad(losses["loss"], trained), torch.autograd.grad(expected, trained), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_the_monitors() -> None:
    task, batch = build("dino"), batch_of()
    losses = task.loss(batch)
    whole = torch.cat((batch["view1"], batch["view3"]))
    torch.testing.assert_close(losses["feature_std"], representation.feature_std(task(whole)))
    _, outputs = reference(task, batch)
    targets = torch.softmax((outputs - task.centre.mean) / 0.04, dim=1)
    entropy = torch.distributions.Categorical(targets).entropy().mean() / math.log(24)
    torch.testing.assert_close(losses["teacher_entropy"], entropy, **CLOSE)


def test_the_centre_moves_once_a_step_toward_the_mean_of_all_pieces() -> None:
    task, pieces = build("dino", centre_momentum=0.8), [batch_of(4), batch_of(2)]
    before = task.centre.mean.clone()
    outputs = torch.cat([reference(task, piece)[1] for piece in pieces])
    for piece in pieces:
        task.loss(piece)
        assert torch.equal(task.centre.mean, before)
    task.after_step(0, 10)
    expected = 0.8 * before + 0.2 * outputs.mean(dim=0)
    torch.testing.assert_close(task.centre.mean, expected, **CLOSE)
    task.after_step(1, 10)  # nothing new
    torch.testing.assert_close(task.centre.mean, expected, **CLOSE)
    task.loss({name: value * torch.nan if "view" in name else value for name, value in batch_of().items()})
    task.after_step(2, 10)
    torch.testing.assert_close(task.centre.mean, expected, **CLOSE)


@pytest.mark.parametrize("step", [0, 1, 37, 99])
def test_the_teacher_follows_at_the_papers_pace(step: int) -> None:
    task = build("dino")
    before = {name: value.clone() for name, value in task.teacher.named_parameters()}
    student = dict(task.named_parameters())
    task.after_step(step, 100)
    momentum = 1 - (1 - 0.996) * (math.cos(math.pi * step / 100) + 1) / 2
    for name, value in task.teacher.named_parameters():
        torch.testing.assert_close(value, momentum * before[name] + (1 - momentum) * student[name])


def test_the_teachers_temperature_rises_and_stays() -> None:
    task, found = build("dino", teacher_temperature=(0.02, 0.07), temperature_warmup=0.5), []
    for step in range(10):
        found.append(float(task.temperature))
        task.after_step(step, 10)
    assert found == pytest.approx([0.02, 0.03, 0.04, 0.05, 0.06, *[0.07] * 5])
    constant = build("dino", teacher_temperature=(0.02, 0.07), temperature_warmup=0.0)
    assert float(constant.temperature) == pytest.approx(0.07)


RULES: dict[str, tuple[dict[str, Any], Callable[..., torch.optim.Optimizer]]] = {
    "adamw": ({"name": "adamw"}, torch.optim.AdamW),
    "adam": ({"name": "adam"}, torch.optim.Adam),
    "sgd": ({"name": "sgd", "momentum": 0.9}, functools.partial(torch.optim.SGD, momentum=0.9)),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("clip_each", [True, False])
def test_frozen_prototypes_have_no_gradient_no_state_and_no_decay(rule: str, clip_each: bool) -> None:
    """DINO's recipe: clip_gradients, cancel_gradients_last_layer (p.grad = None), torch's optimizer."""
    task = build("dino", freeze_prototypes=0.5, normalise_prototypes=False)
    theirs, batches = copy.deepcopy(task), [batch_of() for _ in range(12)]
    settings, make = RULES[rule]
    config = OptimizerConfig(**settings, lr=1e-2, weight_decay=0.3)
    optimizer = train_optimizer.build(task, config, batch_size=6)
    kernels = train_optimizer.kernels(theirs)
    groups = [
        [p for p in theirs.parameters() if p.requires_grad and (p in kernels) is wanted] for wanted in (True, False)
    ]
    reference = make([{"params": groups[0], "weight_decay": 0.3}, {"params": groups[1], "weight_decay": 0.0}], lr=1e-2)
    before = copy.deepcopy(task.head.state_dict())
    for step, batch in enumerate(batches):
        loss = task.loss(batch)["loss"]
        loss.backward()
        task.before_step(step, len(batches))
        guarded_step(optimizer, None, loss.detach(), 0.5, clip_each=clip_each)

        reference.zero_grad()
        theirs.loss(batch)["loss"].backward()
        last = (theirs.head.prototypes.weight, theirs.head.lengths)
        if step < 6:
            for p in last:
                p.grad = None
        trained = [p for p in theirs.parameters() if p.grad is not None]
        for part in [[p] for p in trained] if clip_each else [trained]:
            torch.nn.utils.clip_grad_norm_(part, 0.5)
        reference.step()

        for each in (task, theirs):
            each.after_step(step, len(batches))
        if step < 6:
            assert torch.equal(task.head.prototypes.weight, before["prototypes.weight"])
            assert torch.equal(task.head.lengths, before["lengths"])
            for p in (task.head.prototypes.weight, task.head.lengths):  # SGD's momentum is as that of a first step
                assert not any(slot.any() for slot in optimizer.state.get(p, {}).values())
    assert not torch.equal(task.head.lengths, before["lengths"])
    for (name, found), wanted in zip(task.named_parameters(), theirs.parameters(), strict=True):
        if not name.endswith("qkv.bias"):  # keys' have no gradient but rounding noise, which Adam makes full steps of
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", ["dino", "ibot"])
def test_the_loop_keeps_no_state_of_frozen_prototypes(name: str, tmp_path: Path) -> None:
    run = tiny_run(
        name, task_options={**OPTIONS, "freeze_prototypes": 1.0}, epochs=1, ema={}, optimizer={"weight_decay": 0.5}
    )
    fit(run, tmp_path / "run")
    newest = max((tmp_path / "run" / "state").glob("0*"))
    saved = native.load(newest / "state.safetensors").state
    assert not [key for key in saved if key.startswith("optimizer/head.prototypes")]
    assert [key for key in saved if key.startswith("optimizer/head.mlp.4")]
    torch.manual_seed(run.seed)
    first = build_task(run, open_data(run.data))
    for part in ("task/head", "task/teacher.head", "ema/head"):
        torch.testing.assert_close(
            saved[f"{part}.prototypes.weight"], first.head.prototypes.weight, rtol=1e-5, atol=1e-7
        )


def test_prototypes_are_weight_normalised() -> None:
    """DINO's head: weight_norm of the last layer, whose lengths learn unless norm_last_layer."""
    task, x = build("dino", normalise_prototypes=False), torch.randn(5, 16)
    head = task.head
    last = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(8, 24, bias=False))
    with torch.no_grad():
        last.parametrizations.weight.original0.copy_(head.lengths)
        last.parametrizations.weight.original1.copy_(head.prototypes.weight)
    unit = torch.nn.functional.normalize(head.mlp(x), dim=1)
    torch.testing.assert_close(head(x), last(unit))
    (head(x) ** 3).sum().backward()
    (last(unit.detach()) ** 3).sum().backward()
    torch.testing.assert_close(head.lengths.grad, last.parametrizations.weight.original0.grad, **CLOSE)
    torch.testing.assert_close(head.prototypes.weight.grad, last.parametrizations.weight.original1.grad, **CLOSE)
    assert build("dino").head.lengths is None


def test_no_gradient_reaches_the_teacher() -> None:
    task = build("dino")
    steps(task, [batch_of(), batch_of()], 0, 4)
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())
    assert task.teacher_vit is task.teacher["vit"]
    assert not torch.equal(task.teacher_vit.blocks[0].mlp.fc1.weight, task.vit.blocks[0].mlp.fc1.weight)


@pytest.mark.parametrize("name", ["dino", "ibot"])
def test_a_training_that_goes_on_from_its_state_is_the_same_to_the_bit(name: str) -> None:
    task, batches = build(name, freeze_prototypes=0.3), [batch_of() for _ in range(6)]
    straight = copy.deepcopy(task)
    steps(straight, batches, 0, 6)
    optimizer = steps(task, batches[:3], 0, 6)
    module = registry.load("pretrain", name)
    resumed = module.Task(module.Config(**to_dict(task.config))).train()
    resumed.load_state_dict(task.state_dict())
    fresh = torch.optim.AdamW([p for p in resumed.parameters() if p.requires_grad], lr=1e-2)
    fresh.load_state_dict(optimizer.state_dict())
    steps(resumed, batches[3:], 3, 6, fresh)
    assert all(torch.equal(value, straight.state_dict()[key]) for key, value in resumed.state_dict().items())


@pytest.mark.parametrize("options", [{}, {"freeze_prototypes": 0.5}, {"normalise_prototypes": False}])
def test_two_ranks_equal_one(options: dict[str, Any]) -> None:
    assert_two_ranks_equal_one(build("dino", **options))


def test_backbones_without_class_token_and_with_other_positions() -> None:
    for positions in ("sincos_2d", "rope_2d", "relative"):
        model = ViTConfig(**{**to_dict(MODEL), "class_token": False, "positions": positions})
        task, batch = build("dino", model), batch_of()
        task.loss(batch)["loss"].backward()
        whole = torch.cat((batch["view1"], batch["view3"]))
        torch.testing.assert_close(task(whole), task.teacher["vit"](whole).patches.mean(dim=1))


def test_less_than_two_whole_views_are_refused() -> None:
    with pytest.raises(vitrail.UserError, match=r"16×16 pixels, and there are 1; give data\.views two with scale=1"):
        build("dino").loss(batch_of(sizes=(8, 16, 8)))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (
            {"scale": 0.6},
            r"data\.views\.1 makes 10×10 pixels.*patches of 4×4 do not cover; set data\.views\.1\.multiple=4",
        ),
        (
            {"scale": 0.5, "multiple": 16},
            r"data\.views\.1 makes 16×16 pixels.*no smaller: lower data\.views\.1\.multiple",
        ),
    ],
)
def test_views_that_do_not_fit_are_refused_before_the_training(view: Any, message: str) -> None:
    run = tiny_run("dino", ViewConfig(**view))
    with pytest.raises(vitrail.UserError, match=message):
        build_task(run, open_data(run.data))


@pytest.mark.parametrize("name", ["dino", "ibot"])
def test_it_learns_in_bfloat16_too(name: str) -> None:
    task, batch = build(name), batch_of()
    exact = task.loss(batch)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(batch)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.05)
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["dino", "ibot"])
def test_the_recipes_crops_are_the_papers(name: str) -> None:
    run = registry.load("recipes", name).run()
    sizes = [view.size(run.preprocess.size) for view in run.data.views for _ in range(view.count)]
    assert sizes == [(224, 224)] * 2 + [(96, 96)] * 8
    assert run.task == name
    assert (run.clip, run.clip_each, run.data.preprocess.interpolation) == (3.0, True, "bicubic")
    assert run.task_options == {"normalise_prototypes": False}


@pytest.mark.parametrize("name", ["dino", "ibot"])
def test_the_loop_trains_it(name: str, tmp_path: Path) -> None:
    fit(tiny_run(name), tmp_path / "run")
    assert open_checkpoint(tmp_path / "run").metrics["feature_std"] > 0.01
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert {"train_loss", "train_teacher_entropy", "train_feature_std"} <= set(header.split(","))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Any, Path]:
    """A task whose student is not its teacher, and its file."""
    task = build("dino", ViTConfig(**{**to_dict(MODEL), "channels": 3})).eval()
    vitrail.Predictor(task, PreprocessConfig(size=16), device="cpu").save(tmp_path / "own.safetensors")
    return task, tmp_path / "own.safetensors"


def assert_same_weights(found: Any, wanted: Any) -> None:
    assert found.state_dict().keys() == wanted.state_dict().keys()
    assert all(torch.equal(value, wanted.state_dict()[key]) for key, value in found.state_dict().items())


@pytest.mark.parametrize("library", ["huggingface", "timm"])
def test_other_libraries_get_the_teacher(library: str, saved: Any, tmp_path: Path) -> None:
    task, file = saved
    vitrail.convert(file, tmp_path / library, to=library)
    found = open_checkpoint(tmp_path / library).load()
    assert found.name == "features"
    assert_same_weights(found.vit, task.teacher["vit"])


def test_what_is_trained_from_it_starts_from_the_teacher(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    task, file = saved
    tuned = classification.Task(classification.Config(model=task.config.model, classes=("a", "b")))
    initialise_from(tuned, str(file))
    assert "backbone kept, fresh head for 2 outputs" in capsys.readouterr().err
    assert_same_weights(tuned.vit, task.teacher["vit"])

    again = build("dino", task.config.model)
    initialise_from(again, str(file))
    assert_same_weights(again.vit, task.teacher["vit"])
    assert_same_weights(again.teacher_vit, task.teacher["vit"])
    assert_same_weights(again.head, task.head)
    assert_same_weights(again.teacher["head"], task.teacher["head"])

    other = build("dino", task.config.model, num_prototypes=9)
    before = copy.deepcopy(other.head)
    initialise_from(other, str(file))
    assert_same_weights(other.vit, task.teacher["vit"])
    assert_same_weights(other.head, before)


def test_it_may_be_given_another_image_size(saved: Any, tmp_path: Path) -> None:
    task, file = saved
    image = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    larger = vitrail.load(file, image_size=24, device="cpu")
    larger.save(tmp_path / "larger.safetensors")
    again = vitrail.load(tmp_path / "larger.safetensors", device="cpu")
    assert (again.embed(image) == larger.embed(image)).all()
    expected = copy.deepcopy(task.teacher["vit"])
    expected.resize(24)
    assert_same_weights(again.task.teacher_vit, expected)

    tuned = classification.Task(classification.Config(model=expected.config, classes=("a", "b")))
    initialise_from(tuned, str(file))
    assert_same_weights(tuned.vit, expected)


@pytest.mark.parametrize("class_token", [True, False])
def test_maps_of_attention_and_features(class_token: bool) -> None:
    task = build("dino", ViTConfig(**{**to_dict(MODEL), "class_token": class_token, "positions": "sincos_2d"})).eval()
    images = torch.randn(3, 1, 16, 16)
    with torch.inference_mode():
        image, attention, colours = task.show({"images": images, "keys": torch.arange(3)})
        assert torch.equal(image.images, images)
        assert attention.images.shape == (3, 1, 16, 16)
        assert colours.images.shape == (3, 3, 16, 16)
        assert not attention.normalised
        assert not colours.normalised
        weights = task.teacher_vit.attentions(images, [1])[0].mean(dim=1)
        row = weights[:, 0, 1:] if class_token else weights.mean(dim=1)
        low, high = (f(row, dim=1, keepdim=True) for f in (torch.amin, torch.amax))
        coarse = ((row - low) / (high - low)).unflatten(1, (4, 4))
        torch.testing.assert_close(attention.images[:, 0, ::4, ::4], coarse)
        torch.testing.assert_close(attention.images[:, 0, 3::4, 3::4], coarse)

        patches = task.teacher_vit(images).patches.flatten(0, 1)
        axes = torch.linalg.svd(patches - patches.mean(dim=0)).Vh[:3]
        found = colours.images[:, :, ::4, ::4].permute(0, 2, 3, 1).flatten(0, 2)
        assert found.amin(dim=0).tolist() == [0, 0, 0]
        assert found.amax(dim=0).tolist() == [1, 1, 1]
        for component in range(3):
            both = torch.stack((found[:, component], patches @ axes[component]))
            assert abs(float(torch.corrcoef(both)[0, 1])) == pytest.approx(1, abs=1e-3)
    assert [panel.title for panel in attention_and_pca(task.vit, images)] == [
        "image",
        "attention",
        "features as colours",
    ]
