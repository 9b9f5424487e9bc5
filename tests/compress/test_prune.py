"""Structured pruning: importance by its definition, and a smaller model that is the larger one without parts."""

from __future__ import annotations

import pytest
import torch

import vitrail
from vitrail import compress
from vitrail.compress.methods import prune
from vitrail.config import from_dict, to_dict
from vitrail.errors import UserError
from vitrail.loading import load

MODELS = {
    "plain": {},
    "relative, key bias none": {"positions": "relative", "block": {"key_bias": False}},
    "rotary, wide heads": {"positions": "rope_2d", "block": {"head_dim": 20}},
    "swiglu, qk norm": {"block": {"mlp": "swiglu", "qk_norm": True}},
    "post-norm, no bias": {"block": {"order": "post", "qkv_bias": False}},
    "mean": {"class_token": False},
    "layer scale": {"block": {"layer_scale": 0.3}},
}
SHAPE = {"heads": 4, "mlp_dim": 12}


@pytest.fixture(params=list(MODELS))
def predictor(request, tiny_predictor):
    return tiny_predictor(**SHAPE | MODELS[request.param])


def labelled(sizes=(3, 2)):
    return [{"images": torch.randn(n, 3, 16, 24), "targets": torch.randint(4, (n,))} for n in sizes]


def closed(task, layer, part, places):
    """Hooks that let nothing of these heads or units through."""
    block = task.vit.blocks[layer]
    module, count = (block.attention.out, block.attention.heads) if part == "heads" else (block.mlp.fc2, 12)

    def close(module, inputs):
        (x,) = inputs
        parts = x.unflatten(-1, (count, -1)).clone()
        parts[..., places, :] = 0
        return (parts.flatten(-2),)

    return module.register_forward_pre_hook(close)


def test_a_pruned_model_computes_what_is_left(predictor):
    images, batches = torch.randn(3, 3, 16, 24), labelled()
    importance = prune.calibrate(predictor.task, batches)
    small = compress.apply(predictor, "prune", calibration=batches, share=0.5)
    assert small.task.vit.config.heads == 2
    assert small.task.vit.config.mlp_dim == 6
    assert small.task.vit.config.head_dim == predictor.task.vit.config.head_dim
    hooks = []
    for layer in range(2):
        for part, values, count in (("heads", importance.heads, 2), ("units", importance.units, 6)):
            hooks.append(closed(predictor.task, layer, part, values[layer].argsort()[:count]))
    torch.testing.assert_close(small.task(images), predictor.task(images), rtol=1e-4, atol=1e-4)
    for hook in hooks:
        hook.remove()
    assert not torch.allclose(small.task(images), predictor.task(images), atol=1e-3)


@pytest.mark.parametrize("model", ["plain", "swiglu, qk norm"])
def test_importance_is_the_gradient_at_a_gate(model, tiny_predictor):
    """|∂L/∂ξ| by differences: each gate of one image is closed a little."""
    task, (batch,) = tiny_predictor(**SHAPE | MODELS[model]).task, labelled((2,))
    found = prune.calibrate(task, [batch])

    def loss(image, module, count, place, gate):
        def scale(module, inputs):
            parts = inputs[0].unflatten(-1, (count, -1)).clone()
            parts[..., place, :] *= gate
            return (parts.flatten(-2),)

        hook = module.register_forward_pre_hook(scale)
        with torch.no_grad():
            value = task.loss({name: each[image : image + 1] for name, each in batch.items()})["loss"]
        hook.remove()
        return float(value)

    for layer, block in enumerate(task.vit.blocks):
        for module, count, values in (
            (block.attention.out, 4, found.heads[layer]),
            (block.mlp.fc2, 12, found.units[layer]),
        ):
            for place in range(0, count, 3):
                slopes = [
                    abs(loss(i, module, count, place, 1.02) - loss(i, module, count, place, 0.98)) / 0.04
                    for i in range(2)
                ]
                assert float(values[place]) == pytest.approx(sum(slopes) / 2, rel=0.01, abs=1e-5)


def test_batches_of_any_size_give_the_same_importance(tiny_predictor):
    task, (whole,) = tiny_predictor(**SHAPE).task.train(), labelled((5,))
    parts = [{name: value[i:j] for name, value in whole.items()} for i, j in ((0, 1), (1, 5))]
    one, two = prune.calibrate(task, [whole]), prune.calibrate(task, parts)
    for a, b in zip(one.heads + one.units, two.heads + two.units, strict=True):
        torch.testing.assert_close(a, b)
    assert task.training
    assert not [hook for module in task.modules() for hook in module._forward_pre_hooks]
    assert all(parameter.grad is None for parameter in task.parameters())


def test_nothing_removed_is_the_same_model(predictor):
    images = torch.randn(2, 3, 16, 24)
    same = compress.apply(predictor, "prune", calibration=labelled(), share=0.0)
    assert torch.equal(same.task(images), predictor.task(images))


@pytest.mark.parametrize(("parts", "heads", "units"), [("heads", 2, 12), ("units", 4, 6), ("both", 2, 6)])
def test_parts(parts, heads, units, tiny_predictor):
    small = compress.apply(tiny_predictor(**SHAPE), "prune", calibration=labelled(), share=0.5, parts=parts)
    assert (small.task.vit.config.heads, small.task.vit.config.mlp_dim) == (heads, units)


def test_one_of_each_is_left(tiny_predictor):
    small = compress.apply(tiny_predictor(**SHAPE), "prune", calibration=labelled(), share=0.99)
    assert (small.task.vit.config.heads, small.task.vit.config.mlp_dim) == (1, 1)


def test_a_pruned_model_saves_loads_and_trains_like_any_other(tiny_predictor, tmp_path):
    predictor = tiny_predictor(**SHAPE)
    before = {name: value.clone() for name, value in predictor.task.state_dict().items()}
    small = compress.apply(predictor, "prune", calibration=labelled(), share=0.5)
    path = tmp_path / "small.safetensors"
    small.save(path)
    again = load(path, device="cpu")
    images = torch.randn(2, 3, 16, 24)
    assert torch.equal(again.task(images), small.task(images))
    assert from_dict(vitrail.ViTConfig, to_dict(again.task.vit.config)) == small.task.vit.config
    (batch,) = labelled((4,))
    optimizer = torch.optim.SGD(small.task.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        losses.append(small.task.loss(batch)["loss"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in predictor.task.state_dict().items())


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks_by_their_own_loss(task, tiny_predictor):
    predictor = tiny_predictor(task, **SHAPE)
    targets = torch.randint(2, (3, 4)).float() if task == "multilabel" else torch.randn(3, 2)
    batches = [{"images": torch.randn(3, 3, 16, 24), "targets": targets}]
    small = compress.apply(predictor, "prune", calibration=batches, share=0.5).task
    assert small.vit.config.heads == 2
    assert small(batches[0]["images"]).shape == predictor.task(batches[0]["images"]).shape


@pytest.mark.parametrize(
    ("model", "batches", "options", "message"),
    [
        ({}, [], {}, "there are no images to measure the importance on; give some"),
        ({}, None, {"share": 1.0}, "setting 'share' = 1.0"),
        ({"class_token": False, "pool": "attention"}, None, {}, "attention pooling"),
    ],
)
def test_mistakes(model, batches, options, message, tiny_predictor):
    with pytest.raises(UserError, match=message):
        compress.apply(
            tiny_predictor(**SHAPE | model),
            "prune",
            calibration=labelled() if batches is None else batches,
            **options,
        )
