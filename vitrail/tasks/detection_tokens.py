"""Object detection without a decoder: learned tokens attend beside the patches of a plain ViT, and each becomes an
object or none (Fang et al. 2021, YOLOS, "You Only Look at One Sequence").

Shapes: B images, Q queries, T tokens of the ViT, K classes, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.nn.attend import Attend, full
from vitrail.nn.detection_tokens import AddBetween, TokenMlp
from vitrail.nn.init import initialise
from vitrail.nn.positions import LearnedPositions
from vitrail.nn.windows import Windows
from vitrail.ops.detections import Ranking
from vitrail.ops.matching import CostConfig
from vitrail.ops.objects import TrueObjects
from vitrail.ops.patches import padded_cells
from vitrail.ops.regions import regions, to_pixels, truth_of
from vitrail.ops.set_criterion import SetCriterion
from vitrail.ops.set_losses import SoftmaxRule
from vitrail.predictions.objects import Prediction
from vitrail.tasks.detection import Detector
from vitrail.trainable import Losses
from vitrail.vit import ViT, ViTConfig

__all__ = ["Config", "Prediction", "Task"]


@config
class Config:
    """Args:
    classes: names in the order of the scores.
    num_queries: detection tokens; at least as many as an image has objects.
    mid_positions: learned vectors of all tokens are added after each block but the last, too.
    no_object: weight of the queries without an object in the loss of the classes.
    threshold: score from which an object is predicted.
    """

    model: ViTConfig
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=100_000)]
    num_queries: Annotated[int, Field(gt=0, le=10_000)] = 100
    mid_positions: bool = False
    no_object: Annotated[float, Field(ge=0, le=1)] = 0.1
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @property
    def ranking(self) -> Ranking:
        """A query is of one class at most."""
        return Ranking(exclusive=True, max_detections=self.num_queries)


class Task(Detector):
    """A detector whose queries are tokens of all blocks. Boxes are shares of the canvas, as positions are.

    Attributes:
        queries: Q D, with their positions before the first block.
        mid: of queries, prefix tokens and patches, or None.
    """

    class_rows: tuple[str, ...] = ("head.fc3.weight", "head.fc3.bias")
    shaping: ClassVar[tuple[str, ...]] = ("num_queries", "mid_positions")
    config: Config

    @property
    def capacity(self) -> tuple[int, str]:
        """Its queries."""
        return self.config.num_queries, "task_options.num_queries"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        model = config.model
        if model.needs_grid:
            raise UserError("queries have no place in relative positions; choose other positions")
        if config.mid_positions and model.depth == 1:
            raise UserError("mid_positions come between blocks, and the model has one; leave them out")
        rule = SoftmaxRule(config.no_object)
        self.criterion = SetCriterion(rule, CostConfig())
        self.vit = ViT(model)
        self.queries = nn.Parameter(torch.empty(config.num_queries, model.dim))
        self.mid = self._mid_positions() if config.mid_positions else None
        self.head = TokenMlp(model.dim, rule.num_outputs(len(config.classes)))
        self.box = TokenMlp(model.dim, 4)
        for part in (self.mid, self.head, self.box):
            if part is not None:
                initialise(part)
        if not self.queries.is_meta:
            nn.init.trunc_normal_(self.queries, std=0.02)

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the mean of the patches, B D."""
        return self._patches(self._run(images, None)).mean(dim=1)

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Tensor:
        """B C H W → B Q K+4."""
        return self.forward_with_embedding(images, padding)[0]

    def forward_with_embedding(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` and :meth:`embed` give, in one pass."""
        tokens = self._run(images, padding)
        logits, boxes = self._objects(tokens)
        scores = self.criterion.rule.scores(logits.float())
        outputs = torch.cat((scores, to_pixels(boxes, regions(images, None))), dim=-1)
        return outputs, self._patches(tokens).mean(dim=1)

    def loss(self, batch: Batch) -> Losses:
        """Matched losses of the queries."""
        images = batch["images"]
        num_objects = self.divisors(batch)["objects"]
        found = self._objects(self._run(images, batch.get("padding")))
        truth = truth_of(cast("Sequence[TrueObjects]", batch["targets"]), regions(images, None))
        return self.criterion.losses(self.criterion.matched([found], truth, num_objects)[0], {})

    def after_resize(self) -> None:
        """The vectors between blocks follow the patches' grid."""
        if self.mid is not None:
            self.mid.resize(self.vit.embed.grid(self.vit.config.image_size))

    def _mid_positions(self) -> LearnedPositions:
        model = self.config.model
        grid = self.vit.embed.grid(model.image_size)
        num_prefix = self.config.num_queries + self.vit.num_prefix
        return LearnedPositions(grid, model.dim, num_prefix, model.resampling, layers=model.depth - 1)

    def _run(self, images: Tensor, padding: Tensor | None) -> Tensor:
        """The normalised tokens after the last block, B Q+T D; none attends to padding."""
        if padding is not None:
            images = images.masked_fill(padding.unsqueeze(1), 0)
        tokens, grid, positions = self.vit.tokenise(images)
        queries = self.vit.dropout(self.queries.to(tokens.dtype).expand(tokens.shape[0], -1, -1))
        attend: Attend = full
        if padding is not None:
            attend = Windows(grid, self.vit.depth, None, padded_cells(padding, grid).flatten(1))
        if self.mid is not None:
            attend = AddBetween(self.mid.on_grid(grid), attend)
        return self.vit.encode(torch.cat((queries, tokens), dim=1), positions, attend)

    def _objects(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens B Q+T D → logits B Q K+1 and boxes cxcywh B Q 4, shares of the canvas."""
        queries = tokens[:, : self.config.num_queries]
        return self.head(queries), self.box(queries).float().sigmoid()

    def _patches(self, tokens: Tensor) -> Tensor:
        """The last tokens, B N D."""
        return tokens[:, self.config.num_queries + self.vit.num_prefix :]
