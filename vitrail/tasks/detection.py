"""Object detection: DETR on a plain ViT. A set of boxes an image, each object once, without suppression afterwards.

Shapes: B images, Q queries, K classes, n objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Protocol, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail import defaults
from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.objects import Objects
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.defaults import Choice, Facts
from vitrail.metrics.detection import Metrics
from vitrail.nn.denoising import Denoising, DenoisingConfig, Noised
from vitrail.nn.dense_scores import DenseConfig, DenseScores
from vitrail.nn.detr_decoder import DecoderConfig, DetrDecoder, Queries
from vitrail.nn.feature_pyramid import FeaturePyramid, Scale
from vitrail.nn.init import initialise, start_rare
from vitrail.nn.levels import Level, levels_of
from vitrail.nn.object_queries import ObjectQueries, OneToManyConfig
from vitrail.nn.proposals import Proposals, Proposed
from vitrail.nn.query_groups import GroupLayers, Layer, distribution_losses, joined, scored
from vitrail.nn.windows import WindowConfig
from vitrail.ops.detections import MOST, Detections, Ranking, ranked
from vitrail.ops.grid import Pair
from vitrail.ops.matching import CostConfig, Pairs
from vitrail.ops.objects import TrueObjects
from vitrail.ops.regions import regions, to_pixels, truth_of
from vitrail.ops.set_criterion import Further, SetCriterion
from vitrail.ops.set_losses import RULES, Truth
from vitrail.ops.view_merging import merged_views
from vitrail.predictions.objects import Prediction
from vitrail.tasks import Task as Base
from vitrail.trainable import Losses, ModelConfig
from vitrail.vit import Features, ViT, ViTConfig

if TYPE_CHECKING:
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import TileGrid

__all__ = ["Config", "Detector", "Prediction", "Task"]


class Encoded(NamedTuple):
    """A batch as the decoder takes it."""

    images: Tensor
    """B C H W."""
    padding: Tensor | None
    """bool (B, H, W), or None."""
    region: Tensor
    """The part of each canvas that is image: boxes_xyxy (B, 4) in pixels."""
    features: Features
    levels: list[Level]
    """The feature maps that queries attend to."""


NUM_STEPS = 4200  # of a training on few images
PROPOSALS = "task_options.proposals"


@config
class Config:
    """Args:
    classes: names in the order of the scores.
    decoder: width, depth and number of queries.
    scales: feature maps that queries attend to, as cells per patch along each side (ViTDet's simple pyramid).
    proposals: queries begin at the cells that look most like an object (two-stage DETR); else at learned boxes.
    learned_content: what such queries begin with is learned (DINO); else it is the features of their cells.
    window: blocks that attend in windows, for large images; None: all attend to all.
    class_loss: one sigmoid a class, which learns the class alone (``focal``, Deformable DETR) or how well the box fits
        too (``varifocal``, RT-DETR; ``matchability``, DEIM); or ``softmax`` with "no object" (DETR).
    denoising: noised objects as further queries in training (DN-DETR, or contrastive as in DINO), or None.
    one_to_many: further queries in training, several for each object (H-DETR), or None.
    dense: in training every cell of the feature maps learns too, several for each object (Co-DETR), or None.
    max_detections: of an image, those with the best scores.
    suppress: IoU over which a detection falls to a better one of its class, or None: the decoder alone tells doubles,
        which it learns late.
    threshold: score from which an object is predicted.
    """

    model: ViTConfig
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=100_000)]
    decoder: DecoderConfig = DecoderConfig()
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = ("1",)
    proposals: bool = True
    learned_content: bool = False
    window: WindowConfig | None = None
    class_loss: Literal["focal", "varifocal", "matchability", "softmax"] = "focal"
    denoising: DenoisingConfig | None = DenoisingConfig()
    one_to_many: OneToManyConfig | None = None
    dense: DenseConfig | None = None
    max_detections: Annotated[int, Field(gt=0)] = MOST
    suppress: Annotated[float, Field(gt=0, lt=1)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _dense_proposals(self) -> Config:
        if self.dense is not None and not self.proposals:
            raise ValueError("dense teaches the boxes of proposals; leave proposals on, or dense out")
        if self.learned_content and not self.proposals:
            raise ValueError("without proposals, content is learned anyway; leave learned_content out")
        return self

    @property
    def ranking(self) -> Ranking:
        """How queries become detections."""
        return Ranking(
            exclusive=self.class_loss == "softmax", max_detections=self.max_detections, suppress=self.suppress
        )


class DetectorConfig(ModelConfig, Protocol):
    """What the config of every detector has."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def threshold(self) -> float: ...

    @property
    def ranking(self) -> Ranking: ...


class Detector(Base[Prediction]):
    """What detectors share, however they find objects.

    Targets: one :class:`~vitrail.data.targets.Objects` an image, boxes in pixels of the model's input.

    Outputs: B Q K+4, the scores of the classes and boxes_xyxy in pixels of the input; one tensor, so that every engine
    runs it. ``batch["padding"]`` bool (B, H, W), where there is one, marks the pixels outside of the image.
    """

    monitor: ClassVar[str] = "ap"
    takes: ClassVar[tuple[str, ...]] = ("boxes", "masks")
    config: DetectorConfig

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.config.classes

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The objects to find."""
        region = regions(batch["images"], batch.get("padding"))
        truth = truth_of(cast("Sequence[TrueObjects]", batch["targets"]), region)
        return {"objects": torch.tensor(len(truth.labels), device=region.device)}

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """The classes of queries whose score is over the threshold, best first."""
        pairs = zip(outputs.detach().float().cpu(), geometries, strict=True)
        return [self._predicted(self._found(row), geometry) for row, geometry in pairs]

    def decode_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Prediction:
        """The objects of all tiles, each once (:mod:`vitrail.ops.tile_merging`)."""
        objects = self.metrics().of_tiles(found, grid).over(self.config.threshold)
        labels, scores, boxes = (part.numpy() for part in objects[:3])
        return Prediction(self.config.classes, labels, scores, boxes, grid.size)

    def reduce_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> object:
        """The same, of any score."""
        return self.metrics().reduce_tiles(found, grid)

    def output_parts(self, outputs: Tensor) -> dict[str, Tensor]:
        """Scores and boxes in pixels."""
        return {"scores": outputs[..., :-4], "boxes": outputs[..., -4:]}

    def class_scores(self, outputs: Tensor) -> Tensor:
        """The best score of each class."""
        return outputs[..., : len(self.config.classes)].amax(dim=1)

    def average_views(self, outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Tensor:
        """The objects of all V views, each once, by the means of scores and boxes: B V·Q K+4."""
        return merged_views(outputs, mirrored, size).rows

    def as_targets(self, predictions: Sequence[Prediction]) -> list[Objects]:
        """The objects."""
        return [
            Objects(
                boxes_xyxy=torch.from_numpy(each.boxes_xyxy),
                labels=torch.from_numpy(each.labels),
                crowd=torch.zeros(len(each), dtype=torch.bool),
                size=each.size,
                masks=None if each.masks is None else torch.from_numpy(each.masks),
            )
            for each in predictions
        ]

    def metrics(self) -> Metrics:
        """COCO's average precision and recall, VOC's mAP."""
        return Metrics(self.config.classes, self.config.ranking)

    def _found(self, row: Tensor) -> Detections:
        """What is predicted of an image's outputs (Q, K+4)."""
        return ranked(row, self.config.ranking).over(self.config.threshold)

    def _predicted(self, found: Detections, geometry: ImageGeometry) -> Prediction:
        boxes = geometry.original_boxes(found.boxes_xyxy).numpy()
        return Prediction(self.config.classes, found.labels.numpy(), found.scores.numpy(), boxes, geometry.original)


class Task(Detector):
    """DETR: queries attend to feature maps of the backbone, and every layer of a decoder refines their boxes."""

    class_rows: tuple[str, ...] = (
        "head.weight", "head.bias", "early.*.weight", "early.*.bias", "proposals.score.weight", "proposals.score.bias",
        "denoising.label.weight", "dense.score.weight", "dense.score.bias",
    )  # fmt: skip
    shaping: ClassVar[tuple[str, ...]] = (
        "decoder", "scales", "proposals", "learned_content", "window", "class_loss", "denoising", "one_to_many",
        "dense",
    )  # fmt: skip
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        decoder, num_classes = config.decoder, len(config.classes)
        dim = decoder.dim
        rule, sigmoid = RULES[config.class_loss], config.class_loss != "softmax"
        self.criterion = SetCriterion(rule, CostConfig(label=2.0 if sigmoid else 1.0))
        width = rule.num_outputs(num_classes)
        self.vit = ViT(config.model)
        self.pyramid = FeaturePyramid(config.model.dim, dim, config.scales)
        learned = config.learned_content
        self.proposals = Proposals(dim, width, decoder.num_queries, learned) if config.proposals else None
        self.queries = None if config.proposals else ObjectQueries(decoder.num_queries, dim)
        many = config.one_to_many
        self.many = ObjectQueries(many.num_queries, dim) if many else None
        self.denoising = Denoising(num_classes, dim, config.denoising) if config.denoising else None
        self.dense = DenseScores(dim, num_classes, config.dense) if config.dense else None
        self.decoder = DetrDecoder(decoder)
        self.head = nn.Linear(dim, width)
        self.early = nn.ModuleList(
            nn.Linear(dim, width) for _ in range(decoder.depth - 1 if decoder.separate_heads else 0)
        )
        parts = (self.pyramid, self.proposals, self.queries, self.many, self.dense, self.decoder, self.head, self.early)
        for part in parts:
            if part is not None:
                initialise(part)
        if sigmoid:
            others = (each.score for each in (self.proposals, self.dense) if each is not None)
            start_rare(self.head, *cast("Iterable[nn.Linear]", self.early), *others)

    @classmethod
    def defaults(cls, facts: Facts) -> list[Choice]:
        """Many small steps for a set predictor, a decoder as wide as the encoder, and what tells doubles soon."""
        heads, few = min(max(facts.model.dim // 32, 3), 8), facts.num_images < defaults.FEW
        most = facts.objects.most if facts.objects is not None else 0
        decoder = {
            "dim": 32 * heads,
            "depth": 3 if few else 6,
            "heads": heads,
            "mlp_dim": 128 * heads,
            "num_queries": min(max(math.ceil(1.5 * most / 10) * 10, 30), 300),
            "relation": True,
        }
        doubles = [Choice("task_options.suppress", 0.6, "few images teach late which of two detections is a double")]
        return [
            *defaults.spatial(facts, batch_size=4, num_steps=NUM_STEPS),
            Choice("task_options.decoder", decoder, f"{facts.num_images:,} images, with {most} objects at most"),
            Choice("task_options.dense", {}, "in training every cell learns, not the matched queries alone", PROPOSALS),
            *(doubles if few else []),
        ]

    @property
    def capacity(self) -> tuple[int, str]:
        """Its queries, of which so many are predicted."""
        queries, most = self.config.decoder.num_queries, self.config.max_detections
        return (
            (queries, "task_options.decoder.num_queries") if queries <= most else (most, "task_options.max_detections")
        )

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the mean of the patches, B D."""
        return self.vit.dense(images, None, self.config.window)[0][0].patches.mean(dim=1)

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Tensor:
        """B C H W → B Q K+4."""
        return self.forward_with_embedding(images, padding)[0]

    def forward_with_embedding(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` and :meth:`embed` give, in one pass."""
        encoded = self._encode(images, padding)
        last = self.decoder(self._begin(encoded)[0], encoded.levels)[-1]
        return self._outputs(last.content, last.boxes, encoded), encoded.features.patches.mean(dim=1)

    def loss(self, batch: Batch) -> Losses:
        """Matched losses of every layer and of the proposals, those of the denoising and of the one-to-many queries."""
        encoded = self._encode(batch["images"], batch.get("padding"))
        truth = truth_of(cast("Sequence[TrueObjects]", batch["targets"]), encoded.region)
        num_objects = self.divisors(batch)["objects"]
        first, proposed = self._begin(encoded)
        groups = {"main": first}
        if self.many is not None:
            groups["many"] = self.many(len(encoded.images))
        noised = None if self.denoising is None else self.denoising(truth)
        if noised is not None:
            groups["noised"] = noised.queries
        decoded = self.decoder(joined(list(groups.values())), encoded.levels)
        layers = GroupLayers(decoded, self._logits, groups)

        main = layers.of("main")
        content = [each.content[:, : first.content.shape[1]] for each in decoded]
        beside = self._further(encoded, batch)
        costs = [] if beside is None else beside.costs(content)
        parts, pairs = self.criterion.matched(scored(main), truth, num_objects, costs)
        further = {} if beside is None else dict(beside.losses(content, pairs, num_objects))
        further |= self._distribution_losses(main, truth, pairs, num_objects, main[0].logits[..., 0].numel())
        if self.config.one_to_many is not None:
            repeats = self.config.one_to_many.repeats
            repeated = truth.repeated(repeats)
            further["many"] = self.criterion.total(scored(layers.of("many")), repeated, repeats * num_objects)
        if noised is not None:
            further["noised"] = self._denoised(layers.of("noised"), noised, truth, num_objects)
        if proposed is not None:
            further["proposed"] = self.criterion.total([(proposed.logits, proposed.boxes)], truth, num_objects)
            if self.dense is not None:
                further["dense"] = self.dense.loss(self.criterion, proposed, truth, num_objects)
        return self.criterion.losses(parts, further)

    @property
    def unordered(self) -> bool:
        """Proposals are ranked, and rounding may exchange two."""
        return self.proposals is not None

    def _encode(self, images: Tensor, padding: Tensor | None) -> Encoded:
        """The image and its feature maps."""
        (features,), hidden = self.vit.dense(images, padding, self.config.window)
        region = regions(images, padding)
        levels = levels_of(self.pyramid(features.map, hidden), self.config.scales, images, features.grid, region)
        return Encoded(images, padding, region, features, levels)

    def _begin(self, encoded: Encoded) -> tuple[Queries, Proposed | None]:
        """The object queries, and the proposals that they begin at."""
        if self.proposals is None:
            assert self.queries is not None
            return self.queries(encoded.images.shape[0]), None
        proposed = self.proposals(encoded.levels, len(self.config.classes))
        return proposed.queries, proposed

    def _outputs(self, x: Tensor, boxes: Tensor, encoded: Encoded) -> Tensor:
        """Raw outputs from decoded queries B Q D and their boxes B Q 4."""
        return torch.cat((self.criterion.rule.scores(self.head(x).float()), to_pixels(boxes, encoded.region)), dim=-1)

    def _further(self, encoded: Encoded, batch: Batch) -> Further | None:
        """What else queries learn of a batch's objects."""
        return None

    def _logits(self, layer: int, x: Tensor) -> Tensor:
        """Of the classes, from a decoder layer's queries."""
        head = self.early[layer] if layer < len(self.early) else self.head
        return cast("Tensor", head(x))

    def _denoised(self, layers: Sequence[Layer], noised: Noised, truth: Truth, num_objects: Tensor) -> Tensor:
        """The loss of noised queries."""
        assert self.config.denoising is not None
        num_near = self.config.denoising.groups * num_objects
        num_queries = self.config.denoising.queries_per_object * num_near
        chosen = [layer.chosen(noised.image, noised.query) for layer in layers]
        pairs = [noised.pairs] * len(layers)
        total = self.criterion.denoised(scored(chosen), truth, noised.pairs, num_near, num_queries)
        return torch.stack(
            [total, *self._distribution_losses(chosen, truth, pairs, num_near, num_queries).values()]
        ).sum()

    def _distribution_losses(
        self,
        layers: Sequence[Layer],
        truth: Truth,
        pairs: Sequence[Pairs],
        num_objects: Tensor,
        num_queries: Tensor | int,
    ) -> Losses:
        """``fgl`` and ``ddf``, where layers have distributions."""
        config = self.config.decoder.distribution
        if config is None:
            return {}
        numbers = num_objects, num_queries - num_objects
        local, distilled = distribution_losses(config, layers, self.criterion.rule, truth, pairs, *numbers)
        return {"fgl": local, "ddf": distilled}
