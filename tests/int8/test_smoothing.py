"""SmoothQuant changes no result and evens out what it reads; the noise of int8 is what integer arithmetic gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitrail.int8.layers import layers, watch
from vitrail.int8.noise import round_activations, round_weights, worst_first
from vitrail.int8.smoothing import smooth

NAMES = ["attention.qkv", "attention.out", "mlp.fc1", "mlp.fc2"]


@pytest.fixture
def images():
    return list(torch.randn(9, 1, 3, 16, 24))


def inputs(task, images):
    found = {}
    watch(task, images, lambda name, layer, x: found.setdefault(name, []).append(x.flatten(0, -2)))
    return {name: torch.cat(each) for name, each in found.items()}


def spread(x):
    """The largest channel over the middle one."""
    largest = x.abs().amax(0)
    return float(largest.max() / largest.median())


def test_the_layers_are_those_of_the_blocks(tiny_predictor, images):
    task = tiny_predictor().task
    assert list(layers(task)) == [f"vit.blocks.{i}.{name}" for i in range(2) for name in NAMES]
    seen = inputs(task, images)
    assert {name: tuple(x.shape) for name, x in seen.items()} == {
        name: (9 * 7, layer.in_features) for name, layer in layers(task).items()
    }
    assert not any(layer._forward_pre_hooks for layer in layers(task).values())


@pytest.mark.parametrize(
    "block", [{}, {"mlp": "swiglu"}, {"key_bias": False}, {"qk_norm": True, "layer_scale": 0.1}, {"order": "post"}]
)
def test_smoothing_changes_no_result(block, tiny_predictor, images):
    task = tiny_predictor(block=block).task
    with torch.no_grad():
        for each in task.vit.blocks:
            each.norm1.weight[5] = 60.0
    before = {name: value.clone() for name, value in task.state_dict().items()}
    smoothed = smooth(task, images)
    with torch.inference_mode():
        expected, got = task(torch.cat(images)), smoothed(torch.cat(images))
    assert (got - expected).abs().max() < 1e-4 * expected.abs().max()
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    plain, even = inputs(task, images), inputs(smoothed, images)
    for name in plain:
        if name.endswith(("qkv", "fc1")) and not block.get("order"):
            assert not torch.equal(plain[name], even[name])
        else:
            torch.testing.assert_close(even[name], plain[name], rtol=1e-3, atol=1e-3)
    if not block.get("order"):
        assert spread(even["vit.blocks.0.attention.qkv"]) < spread(plain["vit.blocks.0.attention.qkv"]) / 3


def test_the_scales_are_the_papers(tiny_predictor, images):
    """With α = 1/2 the largest value of a channel's input and of its weights are equal afterwards."""
    smoothed = smooth(tiny_predictor().task, images)
    for name, x in inputs(smoothed, images).items():
        if name.endswith(("qkv", "fc1")):
            weights = layers(smoothed)[name].weight.abs().amax(0)
            torch.testing.assert_close(x.abs().amax(0), weights, rtol=1e-3, atol=1e-5)


def test_rounding_is_that_of_integers():
    x = torch.cat((torch.randn(50, 7) * 3 + 1, torch.zeros(1, 7)))
    low, high = float(x.min()), float(x.max())
    scale = (high - low) / 255
    expected = torch.fake_quantize_per_tensor_affine(x, scale, round(-low / scale), 0, 255)
    torch.testing.assert_close(round_activations(x), expected, rtol=1e-4, atol=1e-5)
    assert not round_activations(x)[-1].any(), "zero stays zero"
    scales = x.abs().amax(1).clamp(min=1e-6) / 127
    zeros = torch.zeros(len(x), dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, -127, 127)
    torch.testing.assert_close(round_weights(x), expected, rtol=1e-4, atol=1e-5)


def test_a_layer_with_an_outlier_is_the_worst(tiny_predictor, images):
    task = tiny_predictor().task
    with torch.no_grad():
        fc2: nn.Linear = task.vit.blocks[1].mlp.fc2
        fc2.weight[:, 0] *= 3000  # its own row scales leave the other weights no bits
        task.vit.blocks[1].mlp.fc1.weight[0] = 0
        task.vit.blocks[1].mlp.fc1.bias[0] = 0  # and GELU(0) = 0: the outlier adds no energy
    worst = worst_first(task, images)
    assert sorted(worst) == sorted(layers(task))
    assert worst[0] == "vit.blocks.1.mlp.fc2"
