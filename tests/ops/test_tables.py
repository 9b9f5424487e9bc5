"""Tables of positions: made once for a size, whatever runs between two uses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vitrail.nn.dense_heads import enlarged
from vitrail.ops import tables
from vitrail.ops.rope import rope_2d
from vitrail.ops.tables import kept
from vitrail.vit import ViT, ViTConfig

CPU = torch.device("cpu")
SIZES = [(16, 16), (24, 16)]


@pytest.fixture(autouse=True)
def _none_kept() -> None:
    tables._kept.cache_clear()


def vit(positions: Any) -> ViT:
    made = ViT(ViTConfig(image_size=16, patch_size=4, dim=32, depth=1, heads=2, mlp_dim=32, positions=positions))
    return made.eval()


def tokens(model: ViT, size: tuple[int, int]) -> Tensor:
    return model(torch.linspace(-1, 1, 3 * size[0] * size[1]).view(1, 3, *size)).tokens


class NoTables(TorchDispatchMode):
    """Refuses float64, in which tables are computed."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        assert not isinstance(made, Tensor) or made.dtype != torch.float64, func
        return made


@pytest.mark.parametrize("positions", ["rope_2d", "sincos_2d", "sincos_1d"])
def test_a_size_that_was_seen_has_its_table(positions: str) -> None:
    model = vit(positions)
    first = [tokens(model, size) for size in SIZES]
    with NoTables():
        again = [tokens(model, size) for size in SIZES]
    assert all(map(torch.equal, again, first))
    with pytest.raises(AssertionError), NoTables():
        tokens(model, (8, 24))


def test_a_table_is_the_same_tensor_and_equals_what_was_asked_for() -> None:
    found = kept(rope_2d, CPU, (3, 5), 8)
    assert all(map(torch.equal, found, rope_2d((3, 5), 8)))
    assert all(a is b for a, b in zip(found, kept(rope_2d, CPU, (3, 5), 8), strict=True))
    assert kept(rope_2d, torch.device("meta"), (3, 5), 8)[0].is_meta


def test_the_oldest_tables_go() -> None:
    for height in range(1, tables.MOST + 20):
        kept(rope_2d, CPU, (height, 1), 4)
    assert tables._kept.cache_info().currsize == tables.MOST


def test_what_an_evaluation_made_can_be_trained_with() -> None:
    model = vit("rope_2d")
    with torch.inference_mode():
        expected = tokens(model, SIZES[1])
    found = tokens(model, SIZES[1])
    found.square().sum().backward()
    torch.testing.assert_close(found.detach(), expected.clone())


@pytest.mark.parametrize("positions", ["rope_2d", "sincos_2d"])
def test_tracing_keeps_nothing_and_finds_the_same(positions: str) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = vit(positions)

        def forward(self, images: Tensor) -> Tensor:
            return self.vit(images).tokens

    model, images = Tokens().eval(), torch.randn(2, 3, *SIZES[1])
    program = torch.export.export(model, (images,))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)(images)
    assert tables._kept.cache_info().currsize == 0
    for found in (program.module()(images), compiled, copy.deepcopy(model)(images)):
        torch.testing.assert_close(found, model(images))
    assert not any("cos" in name or "table" in name for name in model.state_dict())


def test_gradients_of_functions_leave_ordinary_tables() -> None:
    model = vit("rope_2d")

    def total(images: Tensor) -> Tensor:
        return model(images).tokens.square().sum()

    images = torch.randn(2, 3, *SIZES[1])
    gradient = torch.func.grad(total)(images)
    leaf = images.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(total(leaf), leaf)[0], gradient)


def test_a_model_built_on_meta_gets_real_tables() -> None:
    with torch.device("meta"):
        made = kept(rope_2d, CPU, (2, 2), 4)
    assert not made[0].is_meta


def test_logits_are_enlarged_by_a_matrix_that_is_kept() -> None:
    logits = torch.randn(2, 3, 4, 5)
    found = [enlarged(logits.to(dtype), (9, 11)) for dtype in (torch.float32, torch.bfloat16)]
    assert tables._kept.cache_info().misses == 2
    wanted = nn.functional.interpolate(logits, (9, 11), mode="bilinear")
    torch.testing.assert_close(found[0], wanted)
    torch.testing.assert_close(found[1].float(), wanted, rtol=0.03, atol=0.03)
