"""Object detection in real time on a plain ViT: queries read a few places of joined feature maps (Chen et al. 2024,
LW-DETR, "A Transformer Replacement to YOLO for Real-Time Detection").

Shapes: B images, G groups of Q queries, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail import defaults
from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.defaults import Choice, Facts
from vitrail.nn.deformable_decoder import (
    Best,
    DeformableConfig,
    DeformableDecoder,
    GroupProposals,
    LearnedQueries,
    apart,
    first_boxes,
    moved,
)
from vitrail.nn.detection_tokens import TokenMlp
from vitrail.nn.init import initialise, start_rare
from vitrail.nn.joined_maps import JoinConfig, JoinedMaps
from vitrail.nn.levels import Level, levels_of
from vitrail.nn.windows import SplitConfig
from vitrail.ops.detections import MOST, Ranking
from vitrail.ops.matching import CostConfig
from vitrail.ops.objects import TrueObjects
from vitrail.ops.regions import on_canvas, regions, to_pixels, truth_of
from vitrail.ops.set_criterion import SetCriterion
from vitrail.ops.set_losses import RULES
from vitrail.predictions.objects import Prediction
from vitrail.tasks.detection import NUM_STEPS, Detector
from vitrail.trainable import Losses
from vitrail.vit import Features, ViT, ViTConfig

__all__ = ["Config", "Prediction", "Task"]

MapScale = Literal["1/2", "1", "2"]


@config
class Config:
    """Args:
    classes: names in the order of the scores.
    decoder: width, depth, number of queries and of their groups in training.
    layers: of the encoder, whose tokens are joined to the feature maps; −1 is the last.
    scales: feature maps that queries read, as cells per patch along each side.
    join: the convolutions that make them.
    window: blocks that attend in windows, for large images; None: all attend to all.
    class_loss: one sigmoid a class, as of ``detection``.
    max_detections: of an image, those with the best scores.
    suppress: IoU over which a detection falls to a better one of its class, or None.
    threshold: score from which an object is predicted.
    """

    model: ViTConfig
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=100_000)]
    decoder: DeformableConfig = DeformableConfig()
    layers: Annotated[tuple[int, ...], Field(min_length=1, max_length=256)] = (-1,)
    scales: Annotated[tuple[MapScale, ...], Field(min_length=1, max_length=3)] = ("1",)
    join: JoinConfig = JoinConfig()
    window: SplitConfig | None = None
    class_loss: Literal["focal", "varifocal", "matchability"] = "varifocal"
    max_detections: Annotated[int, Field(gt=0)] = MOST
    suppress: Annotated[float, Field(gt=0, lt=1)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _layers(self) -> Config:
        if any(not -self.model.depth <= layer < self.model.depth for layer in self.layers):
            raise ValueError(f"layers {self.layers} are not all of the encoder's {self.model.depth}")
        if int(self.decoder.dim * self.join.expansion) < 1:
            raise ValueError(f"join.expansion {self.join.expansion} leaves nothing of dim {self.decoder.dim}")
        return self

    @property
    def ranking(self) -> Ranking:
        """How queries become detections."""
        return Ranking(max_detections=self.max_detections, suppress=self.suppress)


class Found(NamedTuple):
    """What a pass through encoder and decoder finds, for G groups of queries."""

    layers: list[tuple[Tensor, Tensor]]
    """Logits B G·Q K and boxes B G·Q 4, as shares of the image, of every decoder layer."""
    proposed: list[Best]
    """What each group's queries began as."""
    region: Tensor
    """The part of each canvas that is image: boxes_xyxy (B, 4) in pixels."""
    features: Features
    """Of the last layer that is joined."""


class Task(Detector):
    """A two-stage DETR with deformable attention, whose boxes every layer finds anew from those of the proposals."""

    class_rows: tuple[str, ...] = ("head.weight", "head.bias")
    shaping: ClassVar[tuple[str, ...]] = ("decoder", "layers", "scales", "join", "window", "class_loss")
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        scores = (f"proposals.{group}.score" for group in range(config.decoder.groups))
        self.class_rows += tuple(f"{score}.{part}" for score in scores for part in ("weight", "bias"))
        decoder, num_classes = config.decoder, len(config.classes)
        self.criterion = SetCriterion(RULES[config.class_loss], CostConfig(label=2.0))
        self.vit = ViT(config.model)
        self.maps = JoinedMaps(config.model.dim, len(config.layers), decoder.dim, config.scales, config.join)
        self.proposals = nn.ModuleList(GroupProposals(decoder.dim, num_classes) for _ in range(decoder.groups))
        self.queries = LearnedQueries(decoder.groups, decoder.num_queries, decoder.dim)
        self.decoder = DeformableDecoder(decoder, len(config.scales))
        self.head = nn.Linear(decoder.dim, num_classes)
        self.box = TokenMlp(decoder.dim, 4)
        for part in (self.maps, self.proposals, self.queries, self.decoder, self.head, self.box):
            initialise(part)
        self._begin_as_proposed()

    def _begin_as_proposed(self) -> None:
        """Rare classes, and boxes where they are."""
        groups = [cast("GroupProposals", each) for each in self.proposals]
        start_rare(self.head, *(each.score for each in groups))
        for box in (self.box, *(each.box for each in groups)):
            nn.init.zeros_(box.fc3.weight)
            nn.init.zeros_(box.fc3.bias)

    @classmethod
    def defaults(cls, facts: Facts) -> list[Choice]:
        """Many small steps for a set predictor, and few groups where there is little to learn."""
        most = facts.objects.most if facts.objects is not None else 0
        dim = 32 * min(max(facts.model.dim // 32, 4), 8)
        decoder = {
            "dim": dim,
            "heads": dim // 32,
            "reading_heads": dim // 16,
            "mlp_dim": 4 * dim,
            "num_queries": min(max(math.ceil(1.5 * most / 10) * 10, 30), 300),
            "groups": 5 if facts.num_images < defaults.FEW else 13,
        }
        return [
            *defaults.spatial(facts, batch_size=4, num_steps=NUM_STEPS),
            Choice("task_options.decoder", decoder, f"{facts.num_images:,} images, with {most} objects at most"),
        ]

    @property
    def capacity(self) -> tuple[int, str]:
        """Its queries, of which so many are predicted."""
        queries, most = self.config.decoder.num_queries, self.config.max_detections
        return (
            (queries, "task_options.decoder.num_queries") if queries <= most else (most, "task_options.max_detections")
        )

    @property
    def unordered(self) -> bool:
        """Proposals are ranked, and rounding may exchange two."""
        return True

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the mean of the patches, B D."""
        features, _ = self.vit.dense(images, None, self.config.window, self.config.layers)
        return features[-1].patches.mean(dim=1)

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Tensor:
        """B C H W → B Q K+4."""
        return self.forward_with_embedding(images, padding)[0]

    def forward_with_embedding(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` and :meth:`embed` give, in one pass."""
        found = self._find(images, padding, groups=1)
        logits, boxes = found.layers[-1]
        scores = self.criterion.rule.scores(logits.float())
        outputs = torch.cat((scores, to_pixels(boxes, found.region)), dim=-1)
        return outputs, found.features.patches.mean(dim=1)

    def loss(self, batch: Batch) -> Losses:
        """Matched losses of every layer and of the proposals, in each group."""
        groups = self.config.decoder.groups
        found = self._find(batch["images"], batch.get("padding"), groups)
        truth = truth_of(cast("Sequence[TrueObjects]", batch["targets"]), found.region).for_groups(groups)
        num_objects = groups * self.divisors(batch)["objects"]
        layers = [(apart(logits, groups), apart(boxes, groups)) for logits, boxes in found.layers]
        proposed = tuple(torch.stack(part, dim=1).flatten(0, 1) for part in zip(*found.proposed, strict=True))
        parts, _ = self.criterion.matched(layers, truth, num_objects)
        further = {"proposed": self.criterion.total([(proposed[0], proposed[1])], truth, num_objects)}
        return self.criterion.losses(parts, further)

    def _find(self, images: Tensor, padding: Tensor | None, groups: int) -> Found:
        """Images B C H W through encoder, proposals and decoder."""
        features, hidden = self.vit.dense(images, padding, self.config.window, self.config.layers)
        region = regions(images, padding)
        maps = self.maps([each.map for each in features], hidden)
        levels = levels_of(maps, self.config.scales, images, features[0].grid, region)
        proposed = self._propose(levels, groups)
        start = self.queries([each.boxes for each in proposed])
        canvas = regions(images, None)[0, 2:]
        queries = start._replace(boxes=on_canvas(start.boxes, region, canvas))
        decoded = self.decoder(queries, levels, groups)
        layers = [(self.head(x), moved(start.boxes, self.box(x))) for x in decoded]
        return Found(layers, proposed, region, features[-1])

    def _propose(self, levels: list[Level], groups: int) -> list[Best]:
        """The best cells, by the first ``groups`` groups."""
        cells = torch.cat([level.map.flatten(2).transpose(1, 2) for level in levels], dim=1)
        around, hidden = first_boxes(levels)
        chosen = [cast("GroupProposals", each) for each in list(self.proposals)[:groups]]
        return [each(cells, around, hidden, self.config.decoder.num_queries) for each in chosen]
