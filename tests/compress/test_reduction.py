"""Token merging and pruning, against references written from the papers token by token."""

from __future__ import annotations

import math

import pytest
import torch

from vitrail import compress, registry
from vitrail.compress.methods import evit, tome
from vitrail.compress.reduced import ReducedViT
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.predictor import Predictor
from vitrail.vit import ViTConfig

MODELS = {
    "class token": {},
    "registers": {"registers": 2},
    "one register": {"registers": 1, "class_token": False},
    "distilled": {"distillation_token": True},
    "mean": {"class_token": False},
    "attention pool": {"class_token": False, "pool": "attention"},
    "post-norm": {"block": {"order": "post"}, "final_norm": False},
    "rotary": {"positions": "rope_2d"},
    "layer scale": {"block": {"layer_scale": 0.5, "qk_norm": True}},
    "conv stem": {"embed": {"kind": "conv"}},
    "overlapping": {"embed": {"kind": "patch", "stride": (4, 4)}},
    "hybrid": {"embed": {"kind": "resnet", "layers": ()}},
}
SHAPE = {"image_size": (24, 32), "patch_size": 8, "depth": 3}  # 3 × 4 patches
NONE = {"tome": {"r": 0}, "evit": {"keep": 1.0}}
SOME = {"tome": {"r": 2}, "evit": {"keep": 0.5}}


@pytest.fixture(params=list(MODELS))
def predictor(request, tiny_predictor):
    return tiny_predictor(**SHAPE | MODELS[request.param])


@pytest.fixture
def images():
    return torch.randn(2, 3, 24, 32)


@pytest.mark.parametrize("method", ["tome", "evit"])
def test_none_is_the_plain_model_to_the_bit(method, predictor, images):
    same = compress.apply(predictor, method, **NONE[method]).task
    assert torch.equal(same(images), predictor.task(images))
    assert torch.equal(same.embed(images), predictor.task.embed(images))


@pytest.mark.parametrize("method", ["tome", "evit"])
def test_contract_of_a_reduction(method, predictor, images):
    before = predictor.task(images).detach()
    task = compress.apply(predictor, method, **SOME[method]).task
    outputs, features = task(images), task.vit(images)
    assert not torch.allclose(outputs, before, atol=1e-4)
    assert torch.equal(predictor.task(images), before), "the plain model stays as it is"
    assert [id(p) for p in task.parameters()] == [id(p) for p in predictor.task.parameters()]
    assert task.state_dict().keys() == predictor.task.state_dict().keys()
    plain = predictor.task.vit(images)
    assert features.grid == plain.grid
    assert features.prefix.shape == plain.prefix.shape
    assert features.patches.shape == plain.patches.shape
    assert features.map.shape == plain.map.shape
    assert features.remaining.shape[1] < plain.patches.shape[1]
    for row in features.source:  # every patch is somewhere and every token stands for one
        assert row.unique().tolist() == list(range(features.remaining.shape[1]))
    assert torch.equal(features.patches[1, 5], features.remaining[1, features.source[1, 5]])
    for i in range(2):  # alone as in a batch
        torch.testing.assert_close(task(images[i : i + 1]), outputs[i : i + 1], rtol=1e-4, atol=1e-5)
        assert torch.equal(task.vit(images[i : i + 1]).source[0], features.source[i])
    (loss,) = torch.autograd.grad(outputs.sum(), task.vit.blocks[0].attention.qkv.weight)
    assert loss.abs().sum() > 0


@torch.no_grad()
def reference_tome(task, images, amounts):
    """Outputs and sources by the paper's words: sets are lists of tokens, one image at a time, open attention."""
    vit, outputs, sources = task.vit, [], []
    for image in images:
        x = list(vit.tokenise(image[None])[0][0])
        prefix = vit.num_prefix
        members = [None] * prefix + [[i] for i in range(len(x) - prefix)]
        for block, amount in zip(vit.blocks, amounts, strict=True):
            tokens = torch.stack(x)[None]
            inner = block.norm1(tokens) if block.order == "pre" else tokens
            qkv = block.attention.qkv(inner)[0].unflatten(-1, (3, block.attention.heads, -1))
            q, k, v = qkv.permute(1, 2, 0, 3)
            q, k = block.attention.q_norm(q), block.attention.k_norm(k)
            sizes = torch.tensor([1.0 if m is None else len(m) for m in members])
            scores = q @ k.mT / math.sqrt(q.shape[-1]) + sizes.log()
            attended = block.attention.out((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
            x = block.add_attention(tokens, attended[None])[0]
            x, members = merge_one_by_one(list(x), members, k.mean(0), prefix, amount)
            x = list(block.feed_forward(torch.stack(x)[None])[0])
        final = vit.norm(torch.stack(x))
        where = [
            next(n for n, m in enumerate(members) if m and i in m) for i in range(sum(map(len, filter(None, members))))
        ]
        whole = torch.stack([final[n] for n in where])
        outputs.append(task.head(task.pool(final[None, :prefix], whole[None]))[0])
        sources.append(torch.tensor(where) - prefix)
    return torch.stack(outputs), torch.stack(sources)


def merge_one_by_one(x, members, keys, prefix, amount):
    """The step of the paper's section 3: every other token proposes to its most similar one of the others."""
    amount = min(amount, (len(x) - prefix) // 2)
    if not amount:
        return x, members
    a = [i for i in range(0, len(x), 2) if i >= prefix]
    b = [i for i in range(1, len(x), 2) if i >= prefix]
    edges = []
    for i in a:
        similar = [float(torch.cosine_similarity(keys[i], keys[j], dim=0)) for j in b]
        edges.append((max(similar), i, b[similar.index(max(similar))]))
    merged = sorted(edges, reverse=True)[:amount]
    sums = {j: [x[j] * (len(members[j])), list(members[j])] for j in b}
    for _, i, j in merged:
        sums[j][0] = sums[j][0] + x[i] * len(members[i])
        sums[j][1] += members[i]
    staying = [i for i in a if i not in {i for _, i, _ in merged}]
    order = [*range(prefix), *staying, *b]
    tokens = [sums[i][0] / len(sums[i][1]) if i in sums else x[i] for i in order]
    return tokens, [sums[i][1] if i in sums else members[i] for i in order]


@pytest.mark.parametrize("options", [{"r": 1}, {"r": 4}, {"r": 3, "schedule": "falling"}])
@pytest.mark.parametrize(
    "model", ["class token", "registers", "one register", "mean", "attention pool", "post-norm", "layer scale"]
)
def test_merging_is_the_papers(model, options, tiny_predictor, images):
    predictor = tiny_predictor(**SHAPE | MODELS[model])
    merged = compress.apply(predictor, "tome", **options).task
    amounts = [6, 3, 0] if "schedule" in options else [options["r"]] * 3
    outputs, sources = reference_tome(predictor.task, images, amounts)
    assert torch.equal(merged.vit(images).source, sources)
    torch.testing.assert_close(merged(images), outputs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", ["class token", "registers", "mean"])
def test_pruning_is_the_papers(model, tiny_predictor, images):
    """Image by image: after the attention of a layer the ⌈κN⌉ most attended patches, and Σ aᵢ xᵢ of the others."""
    predictor = tiny_predictor(**SHAPE | MODELS[model])
    task, vit, prefix = predictor.task, predictor.task.vit, predictor.task.vit.num_prefix
    pruned = compress.apply(predictor, "evit", keep=0.6, layers=(0, 2)).task
    for image, result, source in zip(images, pruned(images), pruned.vit(images).source, strict=True):
        x, where = vit.tokenise(image[None])[0], list(range(12))
        for layer, block in enumerate(vit.blocks):
            weights = block.attention.weights(block.before_attention(x))[0].mean(0)
            received = weights[0, prefix:] if vit.config.class_token else weights[prefix:, prefix:].mean(0)
            x = block.add_attention(x, block.attention(block.before_attention(x)))
            if layer in (0, 2):
                best = sorted(range(len(received)), key=lambda i: -received[i])
                count = math.ceil(0.6 * len(received))
                kept, rest = sorted(best[:count]), best[count:]
                fused = sum(received[i] * x[0, prefix + i] for i in rest)
                x = torch.stack([*x[0, :prefix], *(x[0, prefix + i] for i in kept), fused])[None]
                where = [kept.index(w) if w in kept else count for w in where]
            x = block.feed_forward(x)
        x = vit.norm(x)
        assert source.tolist() == where
        expected = task.head(task.pool(x[:, :prefix], x[:, prefix:][:, where]))[0]
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_rotary_positions_of_a_token_are_the_mean_of_its_patches(tiny_predictor, images):
    from vitrail.compress.reduced import Patches, mean_rotation
    from vitrail.ops.rope import rope_2d

    cos, sin = rope_2d((2, 3), 8)
    source = torch.tensor([[0, 1, 1, 2, 0, 1], [2, 2, 0, 1, 0, 0]])
    found = mean_rotation((cos, sin), Patches(torch.zeros(2, 3, 4), source))
    for whole, means in zip((cos, sin), found, strict=True):
        assert means.shape == (2, 1, 3, 4)
        torch.testing.assert_close(means[0, 0, 1], (whole[1] + whole[2] + whole[5]) / 3)
        torch.testing.assert_close(means[1, 0, 2], (whole[0] + whole[1]) / 2)


def test_half_of_the_patches_at_a_time_and_one_at_the_end(tiny_predictor, images):
    task = compress.apply(tiny_predictor(**SHAPE | {"depth": 6}), "tome", r=6).task
    counts = [each.remaining.shape[1] for each in task.vit.intermediates(images)]
    assert counts == [6, 3, 2, 1, 1, 1]
    assert task.vit(images).patches.shape[1] == 12


def test_other_sizes_at_run_time(tiny_predictor):
    task = compress.apply(tiny_predictor(**SHAPE), "tome", r=3).task
    features = task.vit(torch.randn(1, 3, 40, 16))
    assert features.grid == (5, 2)
    assert features.remaining.shape[1] == 2
    assert features.patches.shape[1] == 10


def test_layers_are_those_on_the_way(tiny_predictor, images):
    task = compress.apply(tiny_predictor(**SHAPE), "tome", r=3).task
    first, last = task.vit.intermediates(images, [0, -1], norm=True)
    assert first.remaining.shape[1] == 9
    assert torch.equal(last.tokens, task.vit(images).tokens)
    assert torch.equal(task.vit.intermediates(images, [2])[0].source, last.source)


@pytest.mark.parametrize("method", ["tome", "evit"])
def test_half_precision(method, tiny_predictor, images):
    """Rounding can change what is merged, and with that the outputs a little."""
    predictor = tiny_predictor(**SHAPE)
    task = compress.apply(predictor, method, **SOME[method]).task
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        cast = task(images)
    assert cast.isfinite().all()
    assert (cast - task(images)).abs().mean() < 0.1 * task(images).abs().mean()
    with torch.no_grad():
        assert task.to(torch.bfloat16)(images.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("method", ["tome", "evit"])
def test_a_reduced_model_is_one_graph(method, tiny_predictor, images):
    task = compress.apply(tiny_predictor(**SHAPE), method, **SOME[method]).task
    program = torch.export.export(task, (images,)).module()
    others = torch.randn_like(images)
    torch.testing.assert_close(program(others), task(others), rtol=1e-4, atol=1e-5)


def pretrained(method):
    module = registry.load("pretrain", method)
    model = {"image_size": 16, "patch_size": 4, "dim": 16, "depth": 2, "heads": 2, "mlp_dim": 24}
    task = module.Task(module.Config(model=ViTConfig(**model)))
    return Predictor(task, PreprocessConfig(size=16), device="cpu")


def test_features_of_a_pretrained_model():
    predictor, images = pretrained("mae"), torch.randn(2, 3, 16, 16)
    merged = compress.apply(predictor, "tome", r=4).task
    assert merged.embed(images).shape == predictor.task.embed(images).shape
    assert not torch.allclose(merged.embed(images), predictor.task.embed(images), atol=1e-5)
    with pytest.raises(UserError, match="dino has not one encoder"):
        compress.apply(pretrained("dino"), "tome", r=4)


def test_schedules():
    assert tome.per_layer(tome.Options(r=13), 3) == [13, 13, 13]
    assert tome.per_layer(tome.Options(r=8, schedule="falling"), 12) == [16, 14, 13, 11, 10, 8, 7, 5, 4, 2, 1, 0]
    assert tome.per_layer(tome.Options(r=8, schedule="falling"), 1) == [8]


def test_the_layers_of_pruning_by_default(tiny_predictor, images):
    model = SHAPE | {"depth": 12}
    task = compress.apply(tiny_predictor(**model), "evit", keep=0.5).task
    counts = [each.remaining.shape[1] for each in task.vit.intermediates(images)]
    assert counts == [12] * 3 + [7] * 3 + [5] * 3 + [4] * 3


@pytest.mark.parametrize(
    ("method", "options", "model", "message"),
    [
        ("tome", {"r": 7}, {}, r"at most half of its 12 patches, not 7; give r of at most 6$"),
        ("tome", {"r": 4, "schedule": "falling"}, {}, r"not 8; give r of at most 3$"),
        ("tome", {"r": -1}, {}, "setting 'r' = -1"),
        ("tome", {"ratio": 3}, {}, "unknown setting 'ratio'"),
        ("tome", {"r": 2}, {"positions": "relative"}, "relative positions belong to pairs .* use method=prune"),
        ("evit", {"keep": 0.0}, {}, "setting 'keep' = 0.0"),
        ("evit", {"layers": (3,)}, {}, "there is no layer 3; this model has layers 0 to 2"),
        ("evit", {}, {"positions": "relative"}, "relative positions"),
        ("tomme", {}, {}, "unknown method 'tomme'; did you mean 'tome'?"),
        ("prune", {}, {}, "prune measures on labelled images; give some as calibration"),
    ],
)
def test_mistakes(method, options, model, message, tiny_predictor):
    with pytest.raises(UserError, match=message):
        compress.apply(tiny_predictor(**SHAPE | model), method, **options)


def test_what_merging_does_not_go_with(tiny_predictor, images):
    merged = compress.apply(tiny_predictor(**SHAPE), "tome", r=2)
    with pytest.raises(UserError, match="start from the plain one"):
        compress.apply(merged, "tome", r=2)
    batch = {"images": images, "targets": torch.tensor([1, 3])}
    with pytest.raises(UserError, match="start from the plain one"):
        compress.apply(merged, "prune", calibration=[batch])
    with pytest.raises(UserError, match="attention maps need all tokens"):
        merged.task.vit.attentions(images)
    assert isinstance(merged.task.vit, ReducedViT)
    assert set(compress.method_names()) == {"tome", "evit", "prune"}
    assert evit.STRENGTH == "keep"
