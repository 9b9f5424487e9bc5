from __future__ import annotations

from typing import Any

import pytest
import torch
from ranks import on_two_ranks, share
from torch import Tensor, nn

from vitrail.nn.projector import BatchStandardise, Projector


def torchs(ours: Projector) -> nn.Sequential:
    """The same of torch's layers, in float64."""
    layers: list[nn.Module] = []
    for layer in ours:
        if isinstance(layer, BatchStandardise):
            width = len(layers[-1].weight)
            theirs = nn.BatchNorm1d(width, affine=layer.weight is not None, track_running_stats=False)
            if layer.weight is not None:
                theirs.weight.data, theirs.bias.data = layer.weight.data, layer.bias.data
            layers.append(theirs)
        elif isinstance(layer, nn.Linear):
            linear = nn.Linear(layer.in_features, layer.out_features, bias=False)
            linear.weight.data = layer.weight.data.clone()
            layers.append(linear)
        else:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers).double()


def random(*dims: int, **options: bool) -> Projector:
    projector = Projector(*dims, **options)
    for parameter in projector.parameters():
        nn.init.normal_(parameter, 0.3)
    return projector


@pytest.mark.parametrize("last_affine", [False, True])
@pytest.mark.parametrize("dims", [(6, 12, 4), (6, 12, 12, 4)])
def test_a_projector_is_torchs_layers(dims: tuple[int, ...], last_affine: bool) -> None:
    ours = random(*dims, last_affine=last_affine)
    theirs = torchs(ours)
    x = torch.randn(9, 6) * 3 + 1
    ours(x).pow(3).sum().backward()
    expected = theirs(x.double())
    expected.pow(3).sum().backward()
    torch.testing.assert_close(ours(x), expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.eval()(x), expected.float(), rtol=1e-4, atol=1e-5)  # the batch's, always
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad.float(), rtol=1e-3, atol=1e-3 * float(other.grad.abs().max()))


def test_the_published_shapes() -> None:
    shapes = [tuple(p.shape) for p in Projector(384, 4096, 4096, 256).parameters()]  # MoCo v3's
    assert shapes == [(4096, 384), (4096,), (4096,), (4096, 4096), (4096,), (4096,), (256, 4096)]
    assert [tuple(p.shape) for p in Projector(3, 2, last_affine=True).parameters()] == [(2, 3), (2,), (2,)]


def test_one_sample_or_equal_samples_are_finite() -> None:
    projector = random(4, 8, 2)
    assert not projector(torch.randn(1, 4)).any()
    assert not projector(torch.randn(1, 4).expand(5, -1)).any()


def test_half_precision_is_standardised_in_float32() -> None:
    layer = BatchStandardise(3)
    x = (1000 + torch.randn(64, 3)).bfloat16()
    torch.testing.assert_close(layer(x), layer(x.float()))
    with torch.autocast("cpu", torch.bfloat16):
        assert random(3, 8, 2)(torch.randn(4, 3)).dtype == torch.float32


def on_a_rank(rank: int, projector: Projector, x: Tensor) -> dict[str, Any]:
    mine = share(x, rank).clone().requires_grad_()
    outputs = projector(mine)
    outputs.pow(3).mean().backward()
    return {
        "outputs": outputs.detach(),
        "input": mine.grad,
        "gradients": [parameter.grad for parameter in projector.parameters()],
    }


def test_two_ranks_standardise_as_one() -> None:
    projector, x = random(6, 12, 4), torch.randn(8, 6) * 2 + 1
    ranks = on_two_ranks(on_a_rank, projector, x)
    alone = x.clone().requires_grad_()
    outputs = projector(alone)
    outputs.pow(3).mean().backward()
    for rank, found in enumerate(ranks):
        torch.testing.assert_close(found["outputs"], share(outputs.detach(), rank), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["input"] / 2, share(alone.grad, rank), rtol=1e-3, atol=1e-6)
    for parameter, *both in zip(projector.parameters(), *(found["gradients"] for found in ranks), strict=True):
        torch.testing.assert_close(sum(both) / 2, parameter.grad, rtol=1e-3, atol=1e-5)
