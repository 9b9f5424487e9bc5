from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from vitrail import registry
from vitrail.config import from_dict, to_dict
from vitrail.errors import UserError
from vitrail.explain import explain, explain_all, method_names
from vitrail.explain.methods.relevance import relevance
from vitrail.explain.methods.rollout import rollout

GRID = (2, 3)
MODELS = {
    "class token": {},
    "registers": {"registers": 2},
    "mean": {"class_token": False},
    "mean of patches beside a class token": {"pool": "mean"},
    "attention pool": {"class_token": False, "pool": "attention"},
    "post-norm": {"block": {"order": "post"}, "final_norm": False},
    "rotary": {"positions": "rope_2d"},
    "qk norm": {"block": {"qk_norm": True}},
    "conv stem": {"embed": {"kind": "conv"}},
}


@pytest.fixture(params=list(MODELS))
def task(request, tiny_predictor):
    return tiny_predictor(**MODELS[request.param]).task


@pytest.fixture
def images():
    return torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def caught_attention(task, images):
    """softmax(q kᵀ / √d) of each block, from hooks on the query-key-value projection of a plain forward pass."""
    found = []

    def keep(module, inputs, output):
        attention = module_of[module]
        q, k, _ = output.unflatten(-1, (3, attention.heads, attention.head_dim)).permute(2, 0, 3, 1, 4)
        q, k = attention.q_norm(q), attention.k_norm(k)
        found.append((q @ k.transpose(-1, -2) / attention.head_dim**0.5).softmax(-1))

    module_of = {block.attention.qkv: block.attention for block in task.vit.blocks}
    hooks = [module.register_forward_hook(keep) for module in module_of]
    with torch.no_grad():
        task(images)
    for hook in hooks:
        hook.remove()
    return found


OF_ANY = [name for name in method_names() if name not in ("queries", "lam", "disagreement")]


@pytest.mark.parametrize("method", OF_ANY)
def test_contract_of_a_method(method, task, images):
    module = registry.load("explain.methods", method)
    options = module.Options()
    assert from_dict(module.Options, json.loads(json.dumps(to_dict(options)))) == options
    before = {name: value.clone() for name, value in task.state_dict().items()}
    outputs = task(images).detach()
    maps = explain(task, images, method)
    assert maps
    assert len({m.title for m in maps}) == len(maps)
    for m in maps:
        assert m.values.shape[:2] == GRID
        assert m.values.dtype == np.float32
        assert (m.values >= 0).all()
        assert np.isfinite(m.values).all()
    if hasattr(options, "target"):  # one output may have no evidence for it at all
        maps += [m for target in range(4) for m in explain(task, images, method, target=target)]
    assert any(np.ptp(m.values) > 0 for m in maps)
    assert torch.equal(task(images), outputs), "the model is as it was"
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in task.parameters())
    assert not [hook for m in task.modules() for hook in (*m._forward_hooks, *m._forward_pre_hooks)]


@pytest.mark.parametrize("method", OF_ANY)
def test_frozen_models_and_no_grad_callers_are_explained_too(method, tiny_predictor, images):
    task = tiny_predictor().task
    expected = explain(task, images, method)
    task.requires_grad_(False)
    with torch.no_grad():
        for a, b in zip(explain(task, images, method), expected, strict=True):
            np.testing.assert_allclose(a.values, b.values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("model", ["class token", "registers", "mean", "post-norm", "qk norm"])
def test_attention_is_softmax_of_what_hooks_see(model, tiny_predictor, images):
    task = tiny_predictor(**MODELS[model]).task
    vit = task.vit
    for layer, weights in enumerate(caught_attention(task, images)):
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        np.testing.assert_allclose(vit.attentions(images, [layer])[0].detach(), weights, atol=1e-6)
        rows = weights[0, :, 0] if vit.config.class_token else weights[0].mean(1)
        rows = rows[:, vit.num_prefix :].reshape(-1, *GRID)
        maps = explain(task, images, "attention", layer=layer)
        assert [m.title for m in maps] == [f"layer {layer}, {t}" for t in ("head 0", "head 1", "mean of heads")]
        for m, expected in zip(maps, [*rows, rows.mean(0)], strict=True):
            np.testing.assert_allclose(m.values, expected, atol=1e-6)
        (one,) = explain(task, images, "attention", layer=layer, head=1)
        np.testing.assert_allclose(one.values, rows[1], atol=1e-6)


def test_attention_of_all_layers_is_their_mean_over_heads(tiny_predictor, images):
    task = tiny_predictor().task
    maps = explain(task, images, "attention")
    assert [m.title for m in maps] == ["layer 0, mean of heads", "layer 1, mean of heads"]
    np.testing.assert_allclose(maps[1].values, explain(task, images, "attention", layer=-1)[-1].values, rtol=1e-5)


def random_attentions(depth=3, batch=2, heads=2, tokens=7):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(batch, heads, tokens, tokens, generator=generator).softmax(-1).double() for _ in range(depth)]


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_rollout_by_hand(fusion):
    attentions = random_attentions()
    result = rollout(attentions, fusion).numpy()
    for item in range(2):
        flow = np.eye(7)
        for weights in attentions:
            fused = getattr(np, fusion)(weights[item].numpy(), axis=0)
            fused = fused / fused.sum(1, keepdims=True)
            flow = (0.5 * fused + 0.5 * np.eye(7)) @ flow
        np.testing.assert_allclose(result[item], flow, rtol=1e-6)
    np.testing.assert_allclose(result.sum(-1), 1, rtol=1e-6)


def test_rollout_discards_the_weakest_links_of_each_token():
    (weights,) = random_attentions(depth=1, heads=1)
    flow = rollout([weights], discard=0.5)[0].numpy()
    for row in range(7):
        kept = weights[0, 0, row].numpy().copy()
        kept[np.argsort(kept)[:3]] = 0
        expected = 0.5 * kept / kept.sum()
        expected[row] += 0.5
        np.testing.assert_allclose(flow[row], expected, rtol=1e-6)


def test_rollout_of_uniform_attention_is_uniform_between_the_patches(tiny_predictor, images):
    task = tiny_predictor().task
    for block in task.vit.blocks:
        torch.nn.init.zeros_(block.attention.qkv.weight)
        torch.nn.init.zeros_(block.attention.qkv.bias)
    (heat,) = explain(task, images, "rollout")
    np.testing.assert_allclose(heat.values, heat.values.mean(), rtol=1e-5)


def test_rollout_stops_at_the_layer(tiny_predictor, images):
    task = tiny_predictor().task
    (first,) = explain(task, images, "rollout", layer=0)
    attention = task.vit.attentions(images, [0])[0][0].mean(0)
    np.testing.assert_allclose(first.values.ravel(), attention[0, 1:].detach() / 2, atol=1e-6)


@pytest.mark.parametrize("weights", ["token", "mean"])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("model", ["class token", "mean", "post-norm", "registers"])
def test_gradcam_by_autograd(model, layer, weights, tiny_predictor, images):
    """The tokens are leaves here: the blocks are run by hand from the chosen one on."""
    task = tiny_predictor(**MODELS[model]).task
    vit, prefix = task.vit, task.vit.num_prefix
    x, _, _ = vit.tokenise(images)
    for block in vit.blocks[:layer]:
        x = block(x)
    block = vit.blocks[layer]
    tokens = (block.norm1(x) if block.order == "pre" else x).detach().requires_grad_()
    attended = block.attention(tokens)
    if block.order == "pre":
        x = x.detach() + attended
        x = x + block.mlp(block.norm2(x))
    else:
        x = block.norm1(tokens + attended)
        x = block.norm2(x + block.mlp(x))
    for block in vit.blocks[layer + 1 :]:
        x = block(x)
    x = vit.norm(x)
    outputs = task.head(x[:, 0] if vit.config.class_token else x[:, prefix:].mean(1))[0]
    for target in (0, 3):
        gradient = torch.autograd.grad(outputs[target], tokens, retain_graph=True)[0][0, prefix:]
        alpha = gradient.mean(0) if weights == "mean" else gradient
        expected = (tokens[0, prefix:] * alpha).sum(1).relu().reshape(GRID).detach()
        (heat,) = explain(task, images, "gradcam", layer=layer, weights=weights, target=target)
        np.testing.assert_allclose(heat.values, expected, rtol=1e-3, atol=1e-6)


def test_gradcam_and_relevance_take_the_largest_output_by_default(tiny_predictor, images):
    task = tiny_predictor().task
    best = int(task(images).argmax())
    for method in ("gradcam", "relevance"):
        (default,), (chosen,) = explain(task, images, method), explain(task, images, method, target=best)
        assert np.array_equal(default.values, chosen.values)
        (other,) = explain(task, images, method, target=(best + 1) % 4)
        assert not np.allclose(default.values, other.values)


def test_relevance_by_hand():
    attentions = [a[0] for a in random_attentions()]
    gradients = [torch.randn_like(a) for a in attentions]
    flow = np.eye(7)
    for weights, gradient in zip(attentions, gradients, strict=True):
        flow = flow + np.maximum(weights.numpy() * gradient.numpy(), 0).mean(0) @ flow
    np.testing.assert_allclose(relevance(attentions, gradients), flow, rtol=1e-6)


def test_relevance_watches_the_real_attention(tiny_predictor, images):
    """Its open attention gives the fused one's outputs, and its gradient is that of the output by the matrix."""
    task = tiny_predictor().task
    (heat,) = explain(task, images, "relevance", target=2)
    x, _, _ = task.vit.tokenise(images)
    matrices = []
    for block in task.vit.blocks:
        q, k, v = block.attention.project(block.norm1(x))
        matrices.append((q @ k.transpose(-1, -2) * block.attention.head_dim**-0.5).softmax(-1))
        torch.testing.assert_close(matrices[-1] @ v, scaled_dot_product_attention(q, k, v))
        x = x + block.attention.out((matrices[-1] @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    gradients = torch.autograd.grad(task.head(task.vit.norm(x)[:, 0])[0, 2], matrices)
    flow = relevance([m[0].detach() for m in matrices], [g[0] for g in gradients])
    np.testing.assert_allclose(heat.values.ravel(), flow[0, 1:], rtol=1e-4, atol=1e-7)


def test_all_methods_at_once_each_with_the_options_it_has(tiny_predictor, images):
    task = tiny_predictor().task
    titles = [m.title for m in explain_all(task, images, layer=0, head=1, target=2)]
    assert titles == [
        "layer 0, head 1",
        "Grad-CAM for cat, layer 0",
        titles[2],
        "relevance for cat",
        "rollout to layer 0",
        "similar to row 2, column 2 at layer 0",
    ]
    assert titles[2].startswith("PCA of layer 0, ")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("rolout", {}, r"unknown method 'rolout'; did you mean 'rollout'\?"),
        ("attention", {"layer": 2}, "there is no layer 2; this model has layers 0 to 1"),
        ("attention", {"layer": -3}, "there is no layer -3"),
        ("attention", {"head": 2}, "there is no head 2; this model has heads 0 to 1"),
        ("rollout", {"layer": 5}, "there is no layer 5"),
        ("rollout", {"layer": -5}, "there is no layer -5"),
        ("rollout", {"discard": 1.0}, "setting 'discard' = 1.0: input should be less than 1"),
        ("rollout", {"fusion": "sum"}, "setting 'fusion' = 'sum'"),
        ("rollout", {"head": 1}, "unknown setting 'head'"),
        ("gradcam", {"layer": 9}, "there is no layer 9"),
        ("gradcam", {"target": 4}, "there is no output 4; this model has outputs 0 to 3"),
        ("relevance", {"target": 4}, "there is no output 4"),
        ("similarity", {"patch": 6}, "there is no patch 6; this image has patches 0 to 5"),
        ("similarity", {"layer": 2}, "there is no layer 2"),
        ("pca", {"layer": -3}, "there is no layer -3"),
    ],
)
def test_mistakes(method, options, message, tiny_predictor, images):
    with pytest.raises(UserError, match=message):
        explain(tiny_predictor().task, images, method, **options)


def test_an_option_that_no_method_has(tiny_predictor, images):
    with pytest.raises(UserError, match=r"unknown option 'haed'; did you mean 'head'\?"):
        explain_all(tiny_predictor().task, images, haed=1)
