"""What a detector's queries attend to for the objects they found (Carion et al. 2020, DETR, figure 6; of detection
tokens Fang et al. 2021, YOLOS).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.explain import Heat, Target, heat, index_of_layer, layer_index
from vitrail.explain.attentions import encoder_of_all_tokens
from vitrail.nn.deformable_decoder import DeformableDecoder, DeformableLayer
from vitrail.nn.detr_decoder import DecoderLayer, DetrDecoder
from vitrail.nn.recording import recorded
from vitrail.ops.grid import Pair
from vitrail.tasks import Task, detection_tokens
from vitrail.trainable import EncoderModule, image_encoder

AnyDecoder = DetrDecoder | DeformableDecoder
AnyLayer = DecoderLayer | DeformableLayer


@config
class Options:
    """Of what, and where.

    Args:
        target: the queries that give this class the highest scores, whatever they rank first; default: the objects
            found, of any class.
        most: the number of queries, of the highest scores.
        decoder_layer: of the decoder (0 is the first, -1 the last).
        layer: of the encoder, where queries are tokens of it (``detection_tokens``), likewise.
    """

    target: Target = None
    most: Annotated[int, Field(gt=0, le=100)] = 4
    decoder_layer: int = -1
    layer: int = -1


def suits(task: EncoderModule) -> bool:
    """Whether the task has a decoder with queries, or queries among the tokens."""
    return _decoder(task) is not None or isinstance(task, detection_tokens.Task)


@torch.no_grad()
def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[Heat]:
    """The mean over heads of a query's attention to each token, a map per object, the highest score last.

    Of feature maps in several scales, each token has the sum of what its cells receive. Deformable attention reads
    between cells, each of which has its share; what it reads beyond the image is missing from 1. What is missing
    from 1 of a detection token's attention goes to the tokens before the patches.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such layer or class, or a task without queries.
    """
    if not suits(task) or not isinstance(task, Task):
        raise UserError(f"{task.name} has no queries to explain; choose another method")
    classes = task.names
    if options.target is not None and options.target >= len(classes):
        raise UserError(f"there is no class {options.target}; this model has classes 0 to {len(classes) - 1}")
    grid, decoder = image_encoder(task).grid(images), _decoder(task)
    if decoder is None:
        layer, where = layer_index(task, options.layer), "layer"
        attention, outputs = _of_tokens(task, layer, images, *padding)
        grids = [grid]
    else:
        layer, where = index_of_layer(options.decoder_layer, len(decoder.layers), "the decoder"), "decoder layer"
        attention, outputs, grids = _run(task, decoder, cast("AnyLayer", decoder.layers[layer]), images, *padding)
    maps = []
    for place, label, score in reversed(_surest(outputs[0, :, : len(classes)], options)):
        values = _on_tokens(attention[place], grids, grid)
        maps.append(heat(f"{classes[label]} {score:.0%}, query {place} in {where} {layer}", values, grid))
    return maps


def _decoder(task: EncoderModule) -> AnyDecoder | None:
    return next((module for module in task.modules() if isinstance(module, AnyDecoder)), None)


def _of_tokens(task: Task[Any], layer: int, images: Tensor, *padding: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of each detection token to the N patches, Q N, and the outputs."""
    vit = encoder_of_all_tokens(task)
    with recorded({layer: vit.blocks[layer]}) as found:
        outputs = task(images, *padding)
    mean = found[layer][0].mean(dim=0)
    num_queries = mean.shape[0] - vit.num_prefix - math.prod(vit.grid(images))
    return mean[:num_queries, num_queries + vit.num_prefix :], outputs


def _surest(scores: Tensor, options: Options) -> list[tuple[int, int, float]]:
    """Scores of each query and class (Q, C) → (query, label, score) of the queries to explain, highest score first."""
    best, labels = scores.max(dim=1)
    if options.target is not None:
        best, labels = scores[:, options.target], torch.full_like(labels, options.target)
    order = best.argsort(descending=True, stable=True)[: options.most].tolist()
    return [(place, int(labels[place]), float(best[place])) for place in order]


def _run(
    task: EncoderModule, decoder: AnyDecoder, layer: AnyLayer, images: Tensor, *padding: Tensor
) -> tuple[Tensor, Tensor, list[Pair]]:
    """Attention of each query Q N, the outputs, and the grids of the feature maps that the N tokens are from."""
    caught: list[tuple[Any, ...]] = []
    grids: list[Pair] = []

    def keep(_: Any, inputs: tuple[Any, ...]) -> None:
        grids.extend((level.map.shape[2], level.map.shape[3]) for level in inputs[1])

    hooks = [
        decoder.register_forward_pre_hook(keep),
        layer.image.register_forward_pre_hook(lambda _, inputs: caught.append(inputs)),
    ]
    try:
        outputs = task(images, *padding)
    finally:
        for hook in hooks:
            hook.remove()
    return layer.image.weights(*caught[0])[0].mean(dim=0), outputs, grids


def _on_tokens(row: Tensor, grids: list[Pair], grid: Pair) -> Tensor:
    """One query's attention (N,) to maps of several scales → what the tokens of ``grid`` receive, (h·w,)."""
    parts = row.float().split([height * width for height, width in grids])
    total = torch.zeros(grid)
    for part, (height, width) in zip(parts, grids, strict=True):
        cells = part.cpu().reshape(1, 1, height, width)
        shared = F.interpolate(cells, grid) if height < grid[0] else F.adaptive_avg_pool2d(cells, grid)
        total += shared[0, 0] * (height * width / (grid[0] * grid[1]))
    return total.flatten()
