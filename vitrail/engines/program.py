"""A task as a graph that other programs can run: what every file format is written from."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.engines import DEFAULT_OUTPUTS, INPUT, Meta
from vitrail.errors import UserError
from vitrail.nn.attention import Attention
from vitrail.nn.patch_embed import PatchEmbed
from vitrail.nn.positions import LearnedPositions, SinusoidalPositions
from vitrail.nn.relative_bias import RelativeBias
from vitrail.ops.grid import Pair
from vitrail.ops.interpolation import interpolate
from vitrail.ops.relative import num_entries
from vitrail.trainable import Embedder, image_encoder
from vitrail.vit import ViT

EXAMPLE_BATCH = 2  # a graph takes a size of 1 in its example for a constant


@dataclass(frozen=True)
class Program:
    """A traced task.

    Attributes:
        graph: ``images`` float32 (B, C, H, W) → a tuple of ``outputs``.
        outputs: their names, as ``Embedder.graph_outputs`` gives them.
        size: the only (height, width) that it takes; None: any that patches cover, from two patches a side.
        fixed: why there is only one.
        inputs: their names, where they are something else than images.
    """

    graph: ExportedProgram
    outputs: tuple[str, ...]
    size: Pair | None
    fixed: str
    inputs: tuple[str, ...] = (INPUT,)


def output_names(meta: Meta) -> tuple[str, ...]:
    """The names of the outputs of a file with this meta, in the order of the graph."""
    named = meta.get("outputs") if isinstance(meta, Mapping) else None
    return tuple(map(str, named)) if isinstance(named, list) else DEFAULT_OUTPUTS


class _Outputs(nn.Module):
    """All outputs in one pass, as a tuple."""

    def __init__(self, task: Embedder) -> None:
        super().__init__()
        self.task = task

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.task.graph_outputs(images).values())


def trace(task: Embedder, preprocess: PreprocessConfig) -> Program:
    """Trace a copy of ``task`` with a dynamic batch and, where its positions allow, a dynamic image size.

    Args:
        preprocess: its size is the one that remains where there can be only one.

    Raises:
        UserError: the task needs the padding mask, or PyTorch cannot trace it.
    """
    if preprocess.resize == "pad" and task.spatial():
        raise UserError(
            "a graph would read the border of an image as part of it; train with data.preprocess.resize=square"
        )
    twin = copy.deepcopy(task).cpu().float().eval().requires_grad_(False)
    _project_apart(twin)
    vit, size = image_encoder(twin), preprocess.size
    fixed = _fixed(vit, size)
    dims: dict[int, Any] = {0: Dim("batch", min=1, max=2**20)}
    if not fixed:
        _position_any_grid(twin)
        dims |= {axis: _covered(vit, axis - 2, name, task.graph_step) for axis, name in ((2, "rows"), (3, "columns"))}
        size = _another(vit, size, task.graph_step)
    images = torch.randn(EXAMPLE_BATCH, vit.config.channels, *size)
    try:
        with torch.no_grad():
            names = tuple(twin.graph_outputs(images))
            graph = torch.export.export(_Outputs(twin), (images,), dynamic_shapes=(dims,))
    except Exception as error:  # of a task or a part that is not ours
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"the task {task.name!r} cannot become a graph ({reason}); run it in eager or torch") from error
    return Program(graph, names, size if fixed else None, fixed)


def _fixed(vit: ViT, size: Pair) -> str:
    """Why the graph can take one image size only; empty: it can take others."""
    if not vit.fixed_token_count:  # such as one whose layers merge tokens: their count would be an endless formula
        return f"its encoder is a {type(vit).__name__}"
    if vit.config.positions in ("learned", "relative") and vit.config.resampling == "bicubic_offset":
        return "its positions are resampled by bicubic_offset, which treats the native grid apart"
    if vit.config.decomposed is not None:
        return "its windows are cut from the grid of that size"
    if isinstance(vit.embed, PatchEmbed) and (vit.embed.config.pad or vit.embed.config.drop):
        return "its patches need not cover the image (embed.pad, embed.drop)"
    if 1 in vit.embed.grid(size):
        return "the image is one patch high or wide"
    return ""


def _stride(vit: ViT) -> Pair:
    return vit.embed.stride if isinstance(vit.embed, PatchEmbed) else vit.embed.patch_size


def _covered(vit: ViT, axis: int, name: str, step: int) -> Any:
    """The sizes along one axis that patches cover: stride · n + (patch − stride), n a multiple of ``step``."""
    stride, patch = _stride(vit)[axis], vit.embed.patch_size[axis]
    if isinstance(vit.embed, PatchEmbed) and vit.embed.config.centre:
        patch = stride  # what a patch has beyond its stride is added at the border
    if step > 1:
        return stride * step * Dim(name, min=2, max=2**14 // step)
    return (
        stride * Dim(name, min=2, max=2**14) + (patch - stride)
        if patch > stride
        else stride * Dim(name, min=2, max=2**14)
    )


def _another(vit: ViT, size: Pair, step: int) -> Pair:
    """A size for the example that differs from the native one, so that nothing in the graph depends on it."""
    (down, right) = (step * stride for stride in _stride(vit))
    height, width = (max(own, side) for own, side in zip(vit.config.image_size, size, strict=True))
    if step > 1:
        height, width = height // down * down, width // right * right
    return height + down, width + 2 * right


def _project_apart(task: Embedder) -> None:
    """A linear layer for queries, keys and values each: runtimes copy what is cut out of the product of all three."""
    for module in task.modules():
        if isinstance(module, Attention):
            module.qkv = nn.ModuleList(_thirds(module))  # type: ignore[assignment]
            module.separate = partial(_separate, module)  # type: ignore[method-assign]


def _thirds(attention: Attention) -> Iterator[nn.Linear]:
    biases: tuple[Tensor | None, ...] = (None, None, None)
    if attention.qv_bias is not None:
        q_bias, v_bias = attention.qv_bias.chunk(2)
        biases = (q_bias, None, v_bias)
    elif attention.qkv.bias is not None:
        biases = attention.qkv.bias.chunk(3)
    for kernel, bias in zip(attention.qkv_kernels(), biases, strict=True):
        layer = nn.utils.skip_init(nn.Linear, kernel.shape[1], kernel.shape[0], bias=bias is not None)
        layer.load_state_dict({"weight": kernel} if bias is None else {"weight": kernel, "bias": bias})
        yield layer.requires_grad_(False)


def _separate(attention: Attention, x: Tensor) -> tuple[Tensor, ...]:
    shape = (attention.heads, attention.head_dim)
    return tuple(layer(x).unflatten(-1, shape) for layer in cast("nn.ModuleList", attention.qkv))


def _position_any_grid(task: Embedder) -> None:
    """Positions computed in the graph for the grid of the images, without the native grid's short cut."""
    for module in task.modules():
        if isinstance(module, LearnedPositions):
            module.on_grid = partial(_learned, module)  # type: ignore[method-assign]
        elif isinstance(module, SinusoidalPositions):
            module.on_grid = module.table  # type: ignore[method-assign]
        elif isinstance(module, RelativeBias):
            module.on_grid = partial(_relative, module)  # type: ignore[method-assign]


def _learned(positions: LearnedPositions, grid: Pair) -> Tensor:
    head, body = positions.embedding.tensor_split((positions.num_prefix,), dim=1)
    return torch.cat((head, interpolate(body, positions.grid, grid, positions.resampling)), dim=1)


def _relative(bias: RelativeBias, grid: Pair) -> Tensor:
    old, new = ((2 * height - 1, 2 * width - 1) for height, width in (bias.grid, grid))
    patches, rest = bias.table.tensor_split((num_entries(bias.grid, class_token=False),))
    return torch.cat((interpolate(patches[None], old, new, bias.resampling)[0], rest))
