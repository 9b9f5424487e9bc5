"""Figures of what a Vision Transformer has learned: figure 7 of Dosovitskiy et al. 2021, for any model.

Left: principal components of the patch embedding's filters. Centre: how alike the position embeddings of the patches
are. Right: the mean attention distance of each head of each layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.explain.attentions import attentions
from vitrail.nn.positions import LearnedPositions, SinusoidalPositions
from vitrail.ops.grid import Pair
from vitrail.ops.patches import padded_cells
from vitrail.trainable import EncoderModule, image_encoder
from vitrail.vit import ViT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

NUM_FILTERS = 28
MAX_PANELS = 8  # position panels a side; a finer grid is shown at evenly spaced places


def filters(vit: ViT, count: int = NUM_FILTERS) -> np.ndarray:
    """Principal components of the first layer's filters, strongest first: (count, h, w, C), each from 0 to 1.

    The components are those of the D filters as vectors of C·h·w numbers; with a stem, of its first convolution.
    """
    kernel = next(m.weight for m in vit.embed.modules() if isinstance(m, nn.Conv2d)).detach().float().cpu()
    rows = kernel.flatten(1) - kernel.flatten(1).mean(dim=0)
    components = torch.linalg.svd(rows, full_matrices=False).Vh[:count]
    images = components.unflatten(1, kernel.shape[1:]).permute(0, 2, 3, 1).numpy()
    if images.shape[-1] not in (1, 3):
        images = images.mean(axis=-1, keepdims=True)
    low, high = images.min(axis=(1, 2, 3), keepdims=True), images.max(axis=(1, 2, 3), keepdims=True)
    scaled: np.ndarray = (images - low) / np.maximum(high - low, 1e-12)
    return scaled


def position_similarity(vit: ViT) -> np.ndarray | None:
    """Cosine similarity of each patch's position embedding with all others, (h, w, h, w); None without embeddings."""
    if not isinstance(vit.positions, LearnedPositions | SinusoidalPositions):
        return None
    embedding = vit.positions.embedding
    height, width = vit.positions.grid
    table = embedding.detach().float().cpu().reshape(-1, embedding.shape[-1])[-height * width :]
    table = nn.functional.normalize(table, dim=1)
    similarity: np.ndarray = (table @ table.T).reshape(height, width, height, width).numpy()
    return similarity


def attention_distance(
    attentions: Tensor, grid: Pair, stride: tuple[float, float], padding: Tensor | None = None
) -> Tensor:
    """Mean distance in pixels between a patch and what it attends to: B heads T T → heads.

    Weights on class token and registers, which have no place, are left out and the others sum to 1 again.

    Args:
        attentions: of which the last tokens are the patches.
        stride: (vertical, horizontal) pixels from one patch to the next.
        padding: bool (B, h, w), patches that do not count; None: all do.
    """
    num_patches = grid[0] * grid[1]
    weights = attentions[..., -num_patches:, -num_patches:]
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places = torch.stack((rows.flatten() * stride[0], columns.flatten() * stride[1]), dim=1).to(weights)
    distances = (weights * torch.cdist(places, places)).sum(dim=-1) / weights.sum(dim=-1)
    if padding is None:
        return distances.mean(dim=(0, 2))
    return distances.transpose(1, 2)[~padding.flatten(1)].mean(dim=0)


def attention_distances(task: EncoderModule, batches: Iterable[tuple[Tensor, ...]]) -> np.ndarray:
    """:func:`attention_distance` of every layer as the task computes it: (depth, heads) in pixels.

    Args:
        batches: images B C H W, preprocessed, and where there is one their padding bool (B, H, W), as
            ``Predictor.inputs`` gives them.
    """
    vit = image_encoder(task)
    total, count = torch.zeros(vit.depth, vit.config.heads, dtype=torch.float64), 0
    for images, *padding in batches:
        grid = vit.grid(images)
        stride = images.shape[-2] / grid[0], images.shape[-1] / grid[1]
        hidden = padded_cells(padding[0], grid) if padding else None
        layers = [attention_distance(each, grid, stride, hidden) for each in attentions(task, images, *padding)]
        total += torch.stack(layers).cpu().double() * len(images)
        count += len(images)
    assert count, "attention distances need an image"
    distances: np.ndarray = (total / count).numpy()
    return distances


def figure(vit: ViT, distances: np.ndarray | None = None) -> Figure:
    """Figure 7. The right part appears where :func:`attention_distances` are given."""
    from matplotlib.figure import Figure

    similarity = position_similarity(vit)
    parts = ["filters", *["positions"] * (similarity is not None), *["distances"] * (distances is not None)]
    drawing = Figure(figsize=(4.6 * len(parts), 4.8), layout="constrained", dpi=130)
    panels = dict(zip(parts, drawing.subfigures(1, len(parts), wspace=0.04, squeeze=False)[0], strict=True))
    _draw_filters(panels["filters"].subplots(), filters(vit))
    if similarity is not None:
        _draw_positions(panels["positions"], similarity)
    if distances is not None:
        _draw_distances(panels["distances"].subplots(), distances)
    return drawing


def _draw_filters(axis: Axes, images: np.ndarray, columns: int = 4) -> None:
    axis.set_title("Patch embedding filters:\nprincipal components", fontsize=11)
    rows, (_, height, width, channels) = -(-len(images) // columns), images.shape
    gap = max(width // 8, 1)
    sheet = np.ones((rows * (height + gap), columns * (width + gap), channels), images.dtype)
    for place, image in enumerate(images):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.axis("off")


def _draw_positions(panel: SubFigure, similarity: np.ndarray) -> None:
    panel.suptitle("Position embeddings:\ncosine similarity of one patch with all", fontsize=11)
    rows, columns = (np.linspace(0, n - 1, min(n, MAX_PANELS)).round().astype(int) for n in similarity.shape[:2])
    axes = panel.subplots(len(rows), len(columns), squeeze=False)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            shown = axes[i, j].imshow(similarity[row, column], cmap="viridis", vmin=-1, vmax=1)
            axes[i, j].set(xticks=[], yticks=[])
    panel.colorbar(shown, ax=axes, shrink=0.75)


def _draw_distances(axis: Axes, distances: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_title("Mean attention distance", fontsize=11)
    for layer, heads in enumerate(distances):
        axis.scatter([layer] * len(heads), heads, s=16, color="#31688e", alpha=0.8, clip_on=False)
    axis.plot(distances.mean(axis=1), color="#b5367a", linewidth=1.5, label="mean of heads")
    axis.set(xlabel="layer", ylabel="pixels", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
