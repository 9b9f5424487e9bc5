from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitrail import registry
from vitrail.errors import UserError
from vitrail.explain import explain, explain_all, methods_for
from vitrail.ops.attention import attention
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=(32, 48), patch_size=8, dim=16, depth=1, heads=2, mlp_dim=32)
DECODER = {"dim": 16, "depth": 2, "heads": 2, "mlp_dim": 16, "num_queries": 5}
CLASSES = ("ant", "bee", "cat")


def built(name="detection", **options):
    module = registry.load("tasks", name)
    task = module.Task(module.Task.configure(MODEL, CLASSES, None, {"decoder": DECODER, **options})).eval()
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    return task


@pytest.fixture
def images():
    return torch.randn(1, 3, 32, 48)


@pytest.mark.parametrize("name", ["detection", "instances"])
@pytest.mark.parametrize("scales", [("1",), ("1/2", "1", "2")])
def test_each_map_is_all_of_a_querys_attention_and_the_surest_comes_last(name, scales, images):
    task = built(name, scales=scales)
    maps = explain(task, images, "queries", most=3)
    scores = task(images)[0, :, : len(CLASSES)].detach()
    best = scores.amax(dim=1).sort(descending=True, stable=True)
    said = [
        f"{CLASSES[int(scores[place].argmax())]} {scores[place].max():.0%}, query {place}" for place in best.indices
    ]
    assert [m.title for m in maps] == [f"{each} in decoder layer 1" for each in reversed(said[:3])]
    for each in maps:
        assert each.values.shape == (4, 6)
        assert each.values.min() >= 0
        assert np.ptp(each.values) > 0
        np.testing.assert_allclose(each.values.sum(), 1, rtol=1e-5)


def test_the_weights_are_those_that_the_decoder_mixes_values_by(images):
    task = built()
    taken = []
    module = task.decoder.layers[0].image
    hook = module.register_forward_pre_hook(lambda _, inputs: taken.append(inputs))
    with torch.no_grad():
        task(images)
    hook.remove()
    ((queries, keys, values, bias),) = taken
    weights = module.weights(queries, keys, values, bias)
    q, k, v = (
        layer(x).unflatten(-1, (2, -1)).transpose(1, 2)
        for layer, x in ((module.q, queries), (module.k, keys), (module.v, values))
    )
    torch.testing.assert_close(weights @ v, attention(q, k, v, mask=bias), rtol=1e-5, atol=1e-6)
    for each in explain(task, images, "queries", decoder_layer=0, most=5):
        place = int(each.title.split("query ")[1].split()[0])
        np.testing.assert_allclose(each.values.ravel(), weights[0, :, place].mean(dim=0).detach(), atol=1e-6)


def test_a_class_of_ones_own_even_if_no_query_ranks_it_first(images):
    task = built()
    with torch.no_grad():
        task.head.bias[1] = -5.0
    scores = task(images)[0, :, : len(CLASSES)].detach()
    assert not (scores.argmax(dim=1) == 1).any()
    for target, name in enumerate(CLASSES):
        own = scores[:, target].sort(descending=True, stable=True)
        said = [f"{name} {score:.0%}, query {place} in" for score, place in zip(*own, strict=True)]
        maps = explain(task, images, "queries", target=target, most=100)
        assert [each.title.split(" decoder")[0] for each in maps] == said[::-1]


def test_it_is_one_of_all_methods_of_detectors_alone(tiny_predictor, images):
    detector, classifier = built(), tiny_predictor().task
    assert set(methods_for(detector)) - set(methods_for(classifier)) == {"queries"}
    assert sum("query" in each.title for each in explain_all(detector, images, most=2)) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": 3}, "there is no class 3; this model has classes 0 to 2"),
        ({"decoder_layer": 2}, "there is no layer 2; the decoder has layers 0 to 1"),
        ({"most": 0}, "setting 'most' = 0"),
    ],
)
def test_mistakes(options, words, images, tiny_predictor):
    with pytest.raises(UserError, match=words):
        explain(built(), images, "queries", **options)
    with pytest.raises(UserError, match="classification has no queries"):
        explain(tiny_predictor().task, torch.randn(1, 3, 16, 24), "queries")


def yolos(**options):
    module = registry.load("tasks", "detection_tokens")
    model = replace(MODEL, depth=3, registers=1)
    task = module.Task(module.Task.configure(model, CLASSES, None, {"num_queries": 5, **options})).eval()
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    return task


@pytest.mark.parametrize("options", [{}, {"mid_positions": True}])
@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_detection_tokens_are_shown_by_what_they_attend_to_among_the_patches(options, layer, images):
    task, blocks = yolos(**options), []
    block = task.vit.blocks[layer]
    hook = block.register_forward_pre_hook(lambda _, inputs: blocks.append(inputs[0]))
    with torch.no_grad():
        outputs = task(images)
    hook.remove()
    q, k, _ = block.attention.project(block.before_attention(blocks[0]))
    scores = q @ k.transpose(-2, -1) / block.attention.head_dim**0.5
    weights = (scores.exp() / scores.exp().sum(dim=-1, keepdim=True))[0].mean(dim=0).detach()
    maps = explain(task, images, "queries", most=3, layer=layer)
    best = outputs[0, :, : len(CLASSES)].amax(dim=1).sort(descending=True, stable=True).indices[:3].tolist()
    assert [int(each.title.split("query ")[1].split()[0]) for each in maps] == best[::-1]
    for each, place in zip(maps, best[::-1], strict=True):
        assert each.title.endswith(f" in layer {layer % 3}")
        assert each.values.shape == (4, 6)
        np.testing.assert_allclose(each.values.ravel(), weights[place, -24:], atol=1e-6)


def test_detection_tokens_attend_to_no_padding_and_are_of_the_methods_of_their_task(images):
    task, padding = yolos(), torch.zeros(1, 32, 48, dtype=torch.bool)
    padding[..., 24:] = True
    for each in explain(task, images, "queries", padding=padding):
        assert each.values[:, 3:].max() == 0
        assert each.values[:, :3].min() > 0
    assert "queries" in methods_for(task)
    assert sum("query" in each.title for each in explain_all(task, images, most=2, layer=0)) == 2
    with pytest.raises(UserError, match="there is no layer 3; this model has layers 0 to 2"):
        explain(task, images, "queries", layer=3)
