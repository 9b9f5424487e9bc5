from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrail.errors import UserError
from vitrail.explain import explain
from vitrail.explain.query_attention import query_attention

GRID = (2, 3)
MODELS = {
    "class token": {},
    "registers": {"registers": 2},
    "without class token": {"class_token": False},
    "rotary": {"positions": "rope_2d"},
}


def images():
    return torch.randn(1, 3, 16, 24)


def matrices(vit, images):
    """softmax(q kᵀ / √d) of every layer, from the block's own projections: L H T T."""
    found = []
    for block in vit.blocks:
        block.attention.register_forward_pre_hook(lambda module, inputs: found.append(module.project(*inputs)[:2]))
    vit(images)
    return torch.stack([torch.einsum("bhid,bhjd->bhij", q, k) / q.shape[-1] ** 0.5 for q, k in found])[:, 0].softmax(-1)


@pytest.mark.parametrize("model", list(MODELS))
def test_a_patch_attends_as_its_row_of_the_matrix_says(model, tiny_predictor):
    task, picture = tiny_predictor(**MODELS[model]).task, images()
    found = np.stack([query_attention(task, picture, patch) for patch in range(6)])
    prefix = task.vit.num_prefix
    with torch.no_grad():
        expected = matrices(task.vit, picture)[:, :, prefix:, prefix:]
    np.testing.assert_allclose(found, expected.permute(2, 0, 1, 3).reshape(6, 2, 2, *GRID), atol=1e-6)


@pytest.mark.parametrize("model", list(MODELS))
def test_without_a_patch_it_is_what_the_attention_method_shows(model, tiny_predictor):
    task, picture = tiny_predictor(**MODELS[model]).task, images()
    found = query_attention(task, picture)
    assert found.shape == (2, 2, *GRID)
    assert found.dtype == np.float32
    for layer in range(2):
        maps = [heat.values for heat in explain(task, picture, "attention", layer=layer)]
        np.testing.assert_allclose(found[layer], maps[:2], atol=1e-6)
        np.testing.assert_allclose(found[layer].mean(axis=0), maps[2], atol=1e-6)


@pytest.mark.parametrize("patch", [-1, 6])
def test_a_patch_that_is_not_there(patch, tiny_predictor):
    with pytest.raises(UserError, match=f"there is no patch {patch}; this image has patches 0 to 5"):
        query_attention(tiny_predictor().task, images(), patch)
