"""Panoptic segmentation: every pixel is of an object or of stuff. EoMT: queries are tokens of a plain ViT's last blocks
(Kerssies et al. 2025, "Your ViT is secretly an image segmentation model").

Shapes: B images, Q queries, K classes, n segments, D width, (h, w) token grid, (H', W') the grid of the masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config, from_dict, to_dict
from vitrail.data import keyed_random
from vitrail.data.batch import Batch
from vitrail.data.segments import SegmentColumn, Segments
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.errors import UserError, did_you_mean
from vitrail.metrics.panoptic import Metrics
from vitrail.nn.attend import full
from vitrail.nn.dense_heads import resized
from vitrail.nn.init import initialise
from vitrail.nn.query_tokens import MaskAnnealing, QueryTokens
from vitrail.nn.upscale import MaskMlp, UpscaleBlock
from vitrail.nn.windows import Windows
from vitrail.ops.grid import Pair
from vitrail.ops.mask_matching import MaskWeights, TrueMasks, mask_set_losses
from vitrail.ops.mask_outputs import pack, unpack
from vitrail.ops.panoptic import Found, MergeConfig
from vitrail.ops.patches import padded_cells
from vitrail.ops.set_losses import SoftmaxRule
from vitrail.predictions.segments import Prediction
from vitrail.tasks import Task as Base
from vitrail.trainable import Losses, ModelConfig
from vitrail.vit import ViT, ViTConfig

if TYPE_CHECKING:
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import TileGrid

__all__ = ["Config", "Prediction", "Task"]

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Layer = tuple[Tensor, Tensor]
"""Logits of classes (B, Q, K + 1) and of masks (B, Q, H', W')."""


@config
class Config:
    """Args:
    classes: names in the order of the scores.
    things: the classes whose objects are segments of their own; the others are stuff.
    num_queries: at least as many as an image has segments.
    num_blocks: the last blocks of the ViT, which queries take part in.
    num_upscale: doublings of the token grid, up to the grid of the masks.
    label_weight, mask_weight, dice_weight: of the parts of the loss and of the matching.
    no_object: weight of queries without a segment in the loss of the classes.
    loss_scale: cells of the compared masks for a cell of the grid, along each side.
    threshold: probability of its class from which a query is used.
    mask_threshold: probability from which a pixel is of a mask.
    overlap_threshold: share of its mask that a segment keeps beside the others; below, it is dropped.
    """

    model: ViTConfig
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=100_000)]
    things: tuple[str, ...]
    num_queries: Annotated[int, Field(gt=0, le=10_000)] = 200
    num_blocks: Annotated[int, Field(gt=0, le=256)] = 4
    num_upscale: Annotated[int, Field(ge=0, le=5)] = 2
    label_weight: Weight = 2.0
    mask_weight: Weight = 5.0
    dice_weight: Weight = 5.0
    no_object: Share = 0.1
    loss_scale: Literal[1, 2, 4] = 1
    threshold: Share = 0.8
    mask_threshold: Share = 0.5
    overlap_threshold: Share = 0.8

    @property
    def is_thing(self) -> tuple[bool, ...]:
        """Of each class."""
        return tuple(name in self.things for name in self.classes)

    @property
    def merging(self) -> MergeConfig:
        """Which queries and pixels become segments."""
        return MergeConfig(self.threshold, self.mask_threshold, self.overlap_threshold)


class Task(Base[Prediction]):
    """Targets: one :class:`~vitrail.data.segments.Segments` an image.

    Outputs: logits of the classes and of "no object", and of the masks, packed into one tensor
    (:mod:`vitrail.ops.mask_outputs`). ``batch["padding"]`` bool (B, H, W) marks the pixels outside of the image.
    """

    monitor: ClassVar[str] = "pq"
    takes: ClassVar[tuple[str, ...]] = ("panoptic",)
    class_rows: tuple[str, ...] = ("head.weight", "head.bias")
    shaping: ClassVar[tuple[str, ...]] = ("num_queries", "num_blocks", "num_upscale")
    config: Config

    @property
    def capacity(self) -> tuple[int, str]:
        """Its queries."""
        return self.config.num_queries, "task_options.num_queries"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        model = config.model
        if config.num_blocks > model.depth:
            raise UserError(f"num_blocks={config.num_blocks} is more than the {model.depth} blocks of the model")
        if model.needs_grid:
            raise UserError("queries have no place in relative positions; choose other positions")
        if strange := set(config.things).difference(config.classes):
            raise UserError(
                f"things has {min(strange)!r}, which is no class; {did_you_mean(min(strange), config.classes)}"
            )
        self.rule = SoftmaxRule(config.no_object)
        self.weights = MaskWeights(config.label_weight, config.mask_weight, config.dice_weight)
        self.vit = ViT(model)
        self.queries = nn.Parameter(torch.empty(config.num_queries, model.dim))
        self.upscale = nn.Sequential(*(UpscaleBlock(model.dim) for _ in range(config.num_upscale)))
        self.mask_mlp = MaskMlp(model.dim)
        self.head = nn.Linear(model.dim, self.rule.num_outputs(len(config.classes)))
        self.annealing = MaskAnnealing(config.num_blocks)
        for part in (self.upscale, self.mask_mlp, self.head):
            initialise(part)
        if not self.queries.is_meta:
            nn.init.normal_(self.queries)

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: object, options: Mapping[str, object]
    ) -> ModelConfig:
        """As of every task; things are the data's, or all classes where the data does not say."""
        is_thing = targets.things.tolist() if isinstance(targets, SegmentColumn) else [True] * len(names)
        things = [name for name, thing in zip(names, is_thing, strict=True) if thing]
        made: Config = from_dict(Config, {"things": things, **options, "model": to_dict(model), "classes": list(names)})
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.config.classes

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the mean of the patches, B D."""
        return self._patches(self._run(images, None)[0], images).mean(dim=1)

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Tensor:
        """B C H W → B Q K+2+H'·W'."""
        return self.forward_with_embedding(images, padding)[0]

    def forward_with_embedding(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` and :meth:`embed` give, in one pass."""
        tokens, _ = self._run(images, padding)
        return pack(*self._predicted(tokens, images)), self._patches(tokens, images).mean(dim=1)

    def loss(self, batch: Batch) -> Losses:
        """Matched losses of the tokens before each block with queries, and of the last ones."""
        images, layers = batch["images"], list[Layer]()
        tokens, _ = self._run(images, batch.get("padding"), layers, batch.get("keys"))
        layers.append(self._predicted(tokens, images))
        height, width = (side * self.config.loss_scale for side in layers[0][1].shape[-2:])
        truth = true_masks(cast("Iterable[Segments]", batch["targets"]), (height, width), images.device)
        parts = mask_set_losses(self.rule, layers, truth, self.weights, self.divisors(batch)["segments"])
        return {"loss": torch.stack([*parts.values()]).sum(), **parts}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The segments to find."""
        found = [~target.crowd for target in cast("Iterable[Segments]", batch["targets"])]
        return {"segments": torch.cat(found).sum()}

    def after_step(self, step: int, num_steps: int) -> None:
        """Anneal the masks of attention."""
        self.annealing.after_step(step, num_steps)

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """The segments of each image."""
        return [self._prediction(each) for each in self.metrics().reduce(outputs, geometries)]

    def decode_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Prediction:
        """The segments of all tiles, each once (:mod:`vitrail.ops.panoptic_tiles`)."""
        return self._prediction(self.reduce_tiles(found, grid))

    def reduce_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Found:
        """The same."""
        return self.metrics().reduce_tiles(found, grid)

    def output_parts(self, outputs: Tensor) -> dict[str, Tensor]:
        """Logits of classes and of masks."""
        logits, masks = unpack(outputs, len(self.config.classes) + 1)
        return {"classes": logits, "masks": masks}

    def class_scores(self, outputs: Tensor) -> Tensor:
        """The mean over the pixels of each class's sum over queries of probability × mask (their semantic map)."""
        logits, masks = unpack(outputs, len(self.config.classes) + 1)
        shares = masks.float().sigmoid().mean(dim=(2, 3))
        return torch.einsum("bqk,bq->bk", self.rule.scores(logits.float()), shares)

    def as_targets(self, predictions: Sequence[Prediction]) -> list[Segments]:
        """The segments."""
        return [
            Segments(
                torch.from_numpy(each.map), torch.from_numpy(each.labels), torch.zeros(len(each), dtype=torch.bool)
            )
            for each in predictions
        ]

    def metrics(self) -> Metrics:
        """Panoptic quality."""
        return Metrics(self.config.classes, self.config.is_thing, self.config.merging)

    def _prediction(self, found: Found) -> Prediction:
        classes, things = self.config.classes, self.config.is_thing
        return Prediction(classes, things, found.numbers.numpy(), found.labels.numpy(), found.scores.numpy())

    def _run(
        self,
        images: Tensor,
        padding: Tensor | None,
        layers: list[Layer] | None = None,
        keys: Tensor | None = None,
    ) -> tuple[Tensor, Pair]:
        """The normalised tokens B Q+T D after the last block, and their grid.

        Args:
            layers: in training, gets what is predicted before each block with queries.
            keys: in training, the batch's, which decide the queries without a mask.
        """
        if padding is not None:
            images = images.masked_fill(padding.unsqueeze(1), 0)
        tokens, grid, positions = self.vit.tokenise(images)
        hidden = padding if padding is None else padded_cells(padding, grid).flatten(1)
        attend = QueryTokens(
            queries=self.queries,
            first=self.config.model.depth - self.config.num_blocks,
            seen=partial(self._seen, images, grid, layers, keys, self.annealing.shares()),
            padding=hidden,
            plain=full if hidden is None else Windows(grid, self.vit.depth, None, hidden),
        )
        return self.vit.encode(tokens, positions, attend), grid

    def _seen(
        self,
        images: Tensor,
        grid: Pair,
        layers: list[Layer] | None,
        keys: Tensor | None,
        shares: tuple[float, ...],
        block: int,
        tokens: Tensor,
    ) -> Tensor | None:
        """The patches that each query attends to, bool (B, Q, N); without training by the larger part of queries."""
        share = shares[block] if layers is not None else float(shares[block] >= 0.5)
        if layers is None and not share:
            return None
        predicted = self._predicted(self.vit.norm(tokens), images)
        if layers is not None:
            layers.append(predicted)
        if not share:
            return None
        seen = resized(predicted[1].detach(), grid).flatten(2) > 0
        if share < 1:
            assert keys is not None, "a batch of training has keys"
            numbers = keyed_random.uniform(keys.numpy().view(np.uint64), f"mask {block}", self.config.num_queries)
            seen = seen | torch.from_numpy(numbers > share).to(seen.device)[..., None]
        return seen

    def _predicted(self, tokens: Tensor, images: Tensor) -> Layer:
        """Normalised tokens B Q+T D → logits of classes and masks."""
        queries = tokens[:, : self.config.num_queries]
        map_ = self._patches(tokens, images).transpose(1, 2).unflatten(2, self.vit.grid(images))
        return self.head(queries), torch.einsum("bqd,bdhw->bqhw", self.mask_mlp(queries), self.upscale(map_))

    def _patches(self, tokens: Tensor, images: Tensor) -> Tensor:
        """The last tokens, B N D."""
        return tokens[:, self.config.num_queries + self.vit.num_prefix :]


def true_masks(targets: Iterable[Segments], grid: Pair, device: torch.device) -> TrueMasks:
    """The segments to find, and how much of each cell of the grid is theirs; crowds are left out."""
    labels, masks = [], []
    for target in targets:
        wanted = ~target.crowd
        labels.append(target.labels[wanted])
        whole = target.masks()[wanted].to(device)
        masks.append(F.adaptive_avg_pool2d(whole.float(), grid))
    counts = tuple(map(len, labels))
    return TrueMasks(torch.cat(labels).to(device), torch.cat(masks), counts)
