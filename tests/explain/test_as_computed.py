"""Explanations show the attention that the task computes: in windows, beside padding, with queries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from decoders import DETR

from vitrail import compress, registry
from vitrail.config import from_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.explain import explain, vit_figures
from vitrail.explain.attentions import attentions
from vitrail.explain.query_attention import query_attention
from vitrail.nn.windows import WindowConfig
from vitrail.predictor import Predictor

MODEL = {
    "image_size": (20, 28),
    "patch_size": 4,
    "dim": 32,
    "depth": 4,
    "heads": 2,
    "mlp_dim": 48,
    "class_token": False,
}
GRID, NUM_PATCHES = (5, 7), 35
WINDOW = {"window": {"size": 3, "num_global": 2}}  # layers 1 and 3 are global
DECODER = {"decoder": DETR}
QUERIES = {"num_queries": 3, "num_blocks": 2, "num_upscale": 1}
CASES = {
    "segmentation in windows": ("segmentation", {}, WINDOW),
    "several levels": ("segmentation", {"registers": 2}, WINDOW | {"decoder": "multilevel", "hidden": 8}),
    "detection in windows": ("detection", {"class_token": True, "registers": 1}, WINDOW | DECODER),
    "instances, rotary": ("instances", {"positions": "rope_2d"}, WINDOW | DECODER | {"masks": {"dim": 8}}),
    "post-norm": ("detection", {"block": {"order": "post"}}, WINDOW | DECODER),
    "global": ("detection", {"class_token": True}, DECODER),
    "panoptic, masked": ("panoptic", {"class_token": True}, QUERIES),
    "panoptic, as trained": ("panoptic", {}, QUERIES),
}
PADDED = {"whole": None, "padded": (13, 18)}


def build(case, **changes):
    name, model, options = CASES[case]
    model = model | changes
    module = registry.load("tasks", name)
    more = {"things": ["ant"]} if name == "panoptic" else {}
    task = module.Task(from_dict(module.Config, {"model": MODEL | model, "classes": ["ant", "bee"], **options, **more}))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    if case == "panoptic, as trained":
        task.annealing.probabilities.zero_()
    return task.eval()


@pytest.fixture(params=list(CASES))
def task(request):
    return build(request.param)


@pytest.fixture(params=list(PADDED))
def inputs(request):
    images, seen = torch.randn(1, 3, 20, 28), PADDED[request.param]
    if seen is None:
        return (images,)
    padding = torch.ones(1, 20, 28, dtype=torch.bool)
    padding[:, : seen[0], : seen[1]] = False
    return images, padding


def real(inputs):
    """bool (N,): the patches that are not padding, by hand."""
    if len(inputs) == 1:
        return torch.ones(NUM_PATCHES, dtype=torch.bool)
    return torch.tensor(
        [not inputs[1][0, r * 4 : r * 4 + 4, c * 4 : c * 4 + 4].all() for r in range(5) for c in range(7)]
    )


def computed(task, inputs):
    """Of each layer of a plain forward pass: the values v (H T d) and what attention makes of them (T H·d)."""
    values, mixed, hooks = [], [], []
    for block in task.vit.blocks:
        heads = block.attention.heads

        def keep(_, __, output, heads=heads):
            values.append(output.unflatten(-1, (3, heads, -1))[0, :, 2].transpose(0, 1))

        hooks.append(block.attention.qkv.register_forward_hook(keep))
        hooks.append(block.attention.out.register_forward_pre_hook(lambda _, given: mixed.append(given[0][0])))
    with torch.no_grad():
        task(*inputs)
    for hook in hooks:
        hook.remove()
    return values, mixed


@pytest.mark.parametrize("case", CASES)
def test_matrices_are_those_of_the_forward_pass(case, inputs):
    # windows of patches alone are cut before they become values, so those have a token before the patches here
    task = build(case, registers=1) if case in ("segmentation in windows", "post-norm") else build(case)
    values, mixed = computed(task, inputs)
    found = attentions(task, *inputs)
    assert len(found) == len(values) == 4
    for (matrix,), v, expected in zip(found, values, mixed, strict=True):
        torch.testing.assert_close(matrix.sum(dim=-1), torch.ones(matrix.shape[:2]))
        rows = torch.cat((torch.ones(len(expected) - NUM_PATCHES, dtype=torch.bool), real(inputs)))
        torch.testing.assert_close((matrix @ v).transpose(0, 1).flatten(1)[rows], expected[rows], atol=1e-5, rtol=1e-4)
        assert (matrix[:, rows][..., -NUM_PATCHES:][..., ~real(inputs)] == 0).all()
    assert not [hook for module in task.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


def test_there_is_none_beyond_a_window(inputs):
    task = build("detection in windows")
    number = torch.tensor([[r // 3 * 10 + c // 3 for c in range(7)] for r in range(5)]).flatten()
    inside = number[:, None] == number
    for layer, (matrix,) in enumerate(attentions(task, *inputs)):
        patches = matrix[:, 2:, 2:][:, real(inputs)][..., real(inputs)]
        near = inside[real(inputs)][:, real(inputs)]
        assert (patches[:, near] > 0).all()
        assert (patches[:, ~near] == 0).all() == (layer in (0, 2))
        assert (matrix[:, :, :2] > 0).all(), "all attend to class token and register"
        assert (matrix[:, :2, 2:][..., real(inputs)] > 0).all(), "which attend to all"


def test_every_method_shows_them(task, inputs):
    images, *padding = inputs
    border = padding[0] if padding else None
    matrices = [matrix[0].numpy() for matrix in attentions(task, *inputs)]
    prefix = task.vit.num_prefix
    count, image = prefix + NUM_PATCHES, real(inputs).numpy()

    def shown(matrix):
        """(…, T', T') → (…, h, w)."""
        tokens = matrix[..., -count:, -count:]
        rows = (
            tokens[..., 0, :] if task.vit.config.class_token else tokens[..., prefix:, :][..., image, :].mean(axis=-2)
        )
        return rows[..., prefix:].reshape(*rows.shape[:-1], *GRID)

    for layer, matrix in enumerate(matrices):
        maps = [heat.values for heat in explain(task, images, "attention", padding=border, layer=layer)]
        np.testing.assert_allclose(maps[:2], shown(matrix), atol=1e-6)
    np.testing.assert_allclose(
        query_attention(task, images, None, border), np.stack([shown(each) for each in matrices]), atol=1e-6
    )
    of_patch = query_attention(task, images, 8, border)[0]
    np.testing.assert_allclose(
        of_patch.reshape(2, -1), matrices[0][:, -count:, -count:][:, prefix + 8, prefix:], atol=1e-6
    )
    flow = np.eye(len(matrices[0][0]))
    for matrix in matrices:
        joined = np.eye(len(matrix[0]))
        joined[-len(flow) :, -len(flow) :] = flow
        flow = (matrix.mean(axis=0) + np.eye(len(joined))) / 2 @ joined
    (heat,) = explain(task, images, "rollout", padding=border)
    np.testing.assert_allclose(heat.values, shown(flow), atol=1e-6)
    for method in ("gradcam", "relevance"):
        (heat,) = explain(task, images, method, padding=border, target=1)
        assert heat.values.shape == GRID
        assert np.isfinite(heat.values).all()
        if method == "relevance":  # what no token attends to has no relevance but its own
            assert heat.values.reshape(-1)[real(inputs).numpy()].max() > 0
    distances = vit_figures.attention_distances(task, [inputs])
    assert (distances > 0).all()
    assert np.isfinite(distances).all()


def by_hand(task, images, leaf):
    """The score of class 1 of a segmentation in windows, its matrices, and the tokens that enter attention ``leaf``."""
    number = torch.tensor([[r // 3 * 10 + c // 3 for c in range(7)] for r in range(5)]).flatten()
    outside = number[:, None] != number
    vit, matrices, watched = task.vit, [], None
    x, _, _ = vit.tokenise(images)
    for layer, block in enumerate(vit.blocks):
        y = block.norm1(x)
        if layer == leaf:
            watched = y = y.detach().requires_grad_()
        q, k, v = block.attention.project(y)
        scores = q @ k.mT * block.attention.head_dim**-0.5
        if layer in (0, 2):
            scores = scores.masked_fill(outside, -torch.inf)
        matrices.append(scores.softmax(dim=-1))
        x = x + block.attention.out((matrices[-1] @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    map_ = vit.norm(x).transpose(1, 2).unflatten(2, GRID)
    return task.class_scores(task.head([map_], None, (20, 28)))[0, 1], matrices, watched


@pytest.mark.parametrize("layer", range(4))
def test_gradients_in_windows_by_hand(layer):
    task, images = build("segmentation in windows"), torch.randn(1, 3, 20, 28)
    score, _, tokens = by_hand(task, images, layer)
    (gradient,) = torch.autograd.grad(score, tokens)
    (heat,) = explain(task, images, "gradcam", layer=layer, target=1)
    expected = (tokens * gradient)[0].sum(dim=1).relu().reshape(GRID).detach()
    np.testing.assert_allclose(heat.values, expected, rtol=1e-3, atol=1e-6)


def test_relevance_in_windows_by_hand():
    task, images = build("segmentation in windows"), torch.randn(1, 3, 20, 28)
    score, matrices, _ = by_hand(task, images, None)
    gradients = torch.autograd.grad(score, matrices)
    flow = torch.eye(NUM_PATCHES)
    for matrix, gradient in zip(matrices, gradients, strict=True):
        flow = flow + (matrix * gradient)[0].relu().mean(dim=0) @ flow
    (heat,) = explain(task, images, "relevance", target=1)
    np.testing.assert_allclose(heat.values.ravel(), flow.mean(dim=0).detach(), rtol=1e-3, atol=1e-6)


def test_an_encoder_by_itself_with_windows_and_padding():
    vit, window = build("segmentation in windows").vit, WindowConfig(size=3, num_global=2)
    padding = torch.zeros(2, 20, 28, dtype=torch.bool)
    padding[1, 12:] = True
    images = torch.randn(2, 3, 20, 28)
    matrices = vit.attentions(images, [0, 1], padding, window)
    assert (matrices[0][0] == 0).any()
    assert (matrices[1][0] > 0).all()
    assert (matrices[1][1, :, :21, 21:] == 0).all()
    torch.testing.assert_close(matrices[0].sum(dim=-1), torch.ones(2, 2, NUM_PATCHES))


def test_a_predictor_gives_the_padding_of_an_image():
    task = build("detection in windows")
    picture = np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)
    images, padding = Predictor(task, PreprocessConfig(size=(20, 28), resize="pad"), device="cpu").inputs(picture)
    assert images.shape == (1, 3, 20, 28)
    assert padding.shape == (1, 20, 28)
    assert 0 < padding.float().mean() < 1
    (plain,) = Predictor(task, PreprocessConfig(size=(20, 28)), device="cpu").inputs(picture)
    assert plain.shape == (1, 3, 20, 28)


@pytest.mark.parametrize("method", ["attention", "rollout", "gradcam", "relevance"])
def test_merged_tokens_have_no_maps(method, tiny_predictor):
    merged = compress.apply(tiny_predictor(image_size=(24, 32)), "tome", r=2).task
    with pytest.raises(UserError, match="attention maps need all tokens; take the plain model"):
        explain(merged, torch.randn(1, 3, 24, 32), method)


def test_threads_that_record_at_once_each_get_their_own():
    task = build("global")
    images = [torch.randn(1, 3, *MODEL["image_size"]) for _ in range(4)]
    expected = [attentions(task, image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for ours, alone in zip(pool.map(lambda image: attentions(task, image), images), expected, strict=True):
                torch.testing.assert_close(ours, alone)
