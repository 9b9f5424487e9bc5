"""The fast paths of a whole block: the same numbers as the plain formula, and out of the way where they must be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn import attention as attention_module
from vitrail.nn.block import Block, BlockConfig
from vitrail.nn.checkpointing import checkpoint_blocks
from vitrail.ops.attention.kept_weights import KeptWeights
from vitrail.vit import ViT, ViTConfig


def block(**options: Any) -> Block:
    torch.manual_seed(0)
    made = Block(32, 2, 64, BlockConfig(**options))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made


def step(module: nn.Module, x: Tensor, *, bf16: bool, **options: Any) -> list[Tensor]:
    """Output, gradient of the input, gradients of the parameters."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = module(x, **options)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [out, *torch.autograd.grad(out, [x, *module.parameters()], grad.to(out.dtype))]


def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention is PyTorch's call from here on."""

    def sdpa(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)

    monkeypatch.setattr(attention_module, "attention", sdpa)


def count_kept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    apply = KeptWeights.apply
    monkeypatch.setattr(KeptWeights, "apply", lambda *args: calls.append(1) or apply(*args))
    return calls


def error(a: Tensor, b: Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"order": "post"}, {"layer_scale": 0.5}, {"head_dim": 12}])
def test_bfloat16_blocks(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = block(**options), torch.randn(2, 17, 32)
    wanted = step(module.double(), x.double(), bf16=False)
    module.float()
    calls = count_kept(monkeypatch)
    fast = step(module, x, bf16=True)
    assert calls
    plainly(monkeypatch)
    plain = step(module, x, bf16=True)
    for a, b, c in zip(fast, plain, wanted, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert error(a, c) < max(1.5 * error(b, c), 0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_precisions_are_the_plain_path(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = block().to(dtype), torch.randn(2, 17, 32, dtype=dtype)
    calls = count_kept(monkeypatch)
    fast = step(module, x, bf16=False)
    assert not calls
    plainly(monkeypatch)
    torch.testing.assert_close(fast, step(module, x, bf16=False), rtol=0, atol=0)


def test_dropout_and_inference_take_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_kept(monkeypatch)
    x = torch.randn(2, 17, 32)
    step(block(attention_dropout=0.1), x, bf16=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        block()(x)
    assert not calls
    step(block(attention_dropout=0.1).eval(), x, bf16=True)  # gradients flow, and nothing is dropped
    assert calls


def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(ViTConfig(image_size=(16, 16), patch_size=(4, 4), dim=32, depth=2, heads=2, mlp_dim=64))


def test_a_bfloat16_model_without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_kept(monkeypatch)
    model = vit().bfloat16()
    model(torch.randn(2, 3, 16, 16, dtype=torch.bfloat16)).tokens.float().square().sum().backward()
    assert len(calls) == 2
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())


def test_checkpointed_blocks_have_the_same_gradients() -> None:
    images, results = torch.randn(2, 3, 16, 16), []
    for checkpointed in (False, True):
        model = vit()
        if checkpointed:
            checkpoint_blocks(model.blocks)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(images).tokens.float().square().sum()
        results.append(torch.autograd.grad(loss, list(model.parameters())))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_export_with_gradients_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = vit().bfloat16()

        def forward(self, images: Tensor) -> Tensor:
            return self.vit(images).tokens

    model, images = Tokens(), torch.randn(2, 3, 16, 16, dtype=torch.bfloat16)
    with torch.enable_grad():
        program = torch.export.export(model, (images,))
    names = [str(node.target) for node in program.graph.nodes]
    assert sum("scaled_dot_product_attention" in name for name in names) == 2
    assert error(program.module()(images), model(images)) < 0.02


def test_compiled_training(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    calls = count_kept(monkeypatch)
    x = torch.randn(2, 17, 32)
    module = block()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    found = step(compiled, x, bf16=True)
    assert not calls
    for a, b in zip(found, step(module, x, bf16=True), strict=True):
        assert error(a, b) < 0.03
