"""Object detection: DETR on a plain ViT. A set of boxes an image, each object once, without suppression afterwards.

Shapes: B images, Q queries, K classes, n objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config, from_dict, to_dict
from vitrail.data.batch import Batch
from vitrail.data.objects import Objects
from vitrail.metrics.detection import Metrics
from vitrail.nn.denoising import Denoising, DenoisingConfig, joined
from vitrail.nn.detr_decoder import DecoderConfig, DetrDecoder, Level, Queries
from vitrail.nn.feature_pyramid import CELLS, FeaturePyramid, Scale
from vitrail.nn.init import initialise
from vitrail.nn.object_queries import ObjectQueries, OneToManyConfig
from vitrail.nn.proposals import Proposals, Proposed
from vitrail.nn.windows import WindowConfig
from vitrail.ops import boxes as box_ops
from vitrail.ops.detections import Detections, ranked
from vitrail.ops.matching import CostConfig, Pairs
from vitrail.ops.patches import Pair
from vitrail.ops.set_losses import ClassRule, FocalRule, SoftmaxRule, Truth, matched_losses, set_losses, weighed
from vitrail.tasks import Task as Base
from vitrail.tasks._objects import Prediction
from vitrail.vit import Features, ViT, ViTConfig

__all__ = ["Config", "Prediction", "Task"]

Layers = list[tuple[Tensor, Tensor]]


class Seen(NamedTuple):
    """What is known of a batch before queries look at it."""

    images: Tensor
    """B C H W."""
    padding: Tensor | None
    """bool (B, H, W), or None."""
    region: Tensor
    """What of each canvas is image: boxes_xyxy (B, 4) in pixels."""
    features: Features
    levels: list[Level]
    """The feature maps that queries attend to."""


PRIOR = 0.01  # of a class at the beginning (Lin et al. 2017, section 4.1)


@config
class Config:
    """Args:
    classes: names in the order of the scores.
    decoder: width, depth and number of queries.
    scales: feature maps that queries attend to, as cells per patch along each side (ViTDet's simple pyramid).
    proposals: queries begin at the cells that look most like an object (two-stage DETR); else at learned boxes.
    window: blocks that attend in windows, for large images; None: all attend to all.
    class_loss: ``focal``, one sigmoid a class (Deformable DETR), or ``softmax`` with "no object" (DETR).
    denoising: noised objects as further queries in training (DN-DETR), or None.
    one_to_many: further queries in training, several for each object (H-DETR), or None.
    threshold: score from which an object is shown.
    """

    model: ViTConfig
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=100_000)]
    decoder: DecoderConfig = DecoderConfig()
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = ("1",)
    proposals: bool = True
    window: WindowConfig | None = None
    class_loss: Literal["focal", "softmax"] = "focal"
    denoising: DenoisingConfig | None = DenoisingConfig()
    one_to_many: OneToManyConfig | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Task(Base):
    """Targets: one :class:`~vitrail.data.Objects` an image, boxes in pixels of the model's input.

    Outputs: B Q K+4, the scores of the classes and boxes_xyxy in pixels of the input; one tensor, so that every engine
    runs it. ``batch["padding"]`` bool (B, H, W), where there is one, tells which pixels are none of the image's.
    """

    monitor: ClassVar[str] = "ap"
    takes: ClassVar[tuple[str, ...]] = ("boxes", "masks")
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        decoder, num_classes = config.decoder, len(config.classes)
        dim = decoder.dim
        self.rule: ClassRule = FocalRule() if config.class_loss == "focal" else SoftmaxRule()
        width = self.rule.num_outputs(num_classes)
        self.weights = CostConfig(label=2.0 if config.class_loss == "focal" else 1.0)
        self.vit = ViT(config.model)
        self.pyramid = FeaturePyramid(config.model.dim, dim, config.scales)
        self.proposals = Proposals(dim, width, decoder.num_queries) if config.proposals else None
        self.queries = None if config.proposals else ObjectQueries(decoder.num_queries, dim)
        many = config.one_to_many
        self.many = ObjectQueries(many.num_queries, dim) if many else None
        self.denoising = Denoising(num_classes, dim, config.denoising) if config.denoising else None
        self.decoder = DetrDecoder(decoder)
        self.head = nn.Linear(dim, width)
        for part in (self.pyramid, self.proposals, self.queries, self.many, self.decoder, self.head):
            if part is not None:
                initialise(part)
        if config.class_loss == "focal":
            for layer in (self.head, self.proposals.score) if self.proposals else (self.head,):
                nn.init.constant_(layer.bias, -float(np.log((1 - PRIOR) / PRIOR)))

    @classmethod
    def configure(cls, model: ViTConfig, names: Sequence[str], targets: Any, options: dict[str, Any]) -> Config:
        """Classes are the data's."""
        return from_dict(Config, {**options, "model": to_dict(model), "classes": list(names)})

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the mean of the patches, B D."""
        return self.vit.dense(images, None, self.config.window)[0][0].patches.mean(dim=1)

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Tensor:
        """B C H W → B Q K+4."""
        return self.forward_with_embedding(images, padding)[0]

    def forward_with_embedding(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` and :meth:`embed` give, in one pass."""
        seen = self._see(images, padding)
        x, boxes = self.decoder(self._begin(seen)[0], seen.levels)[-1]
        return self._answer(x, boxes, seen), seen.features.patches.mean(dim=1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Matched losses of every layer and of the proposals, those of the denoising and of the one-to-many queries."""
        seen = self._see(batch["images"], batch.get("padding"))
        targets = cast("Sequence[Objects]", batch["targets"])
        truth = truth_of(targets, seen.region)
        first, proposed = self._begin(seen)
        groups, noised = {"main": first}, None
        if self.many is not None:
            groups["many"] = self.many(len(seen.images))
        if self.denoising is not None:
            groups["noised"], noised = self.denoising(truth)
        found = self.decoder(joined(list(groups.values())), seen.levels)
        answers = [(self.head(x), boxes) for x, boxes in found]
        parts: dict[str, Tensor] = {}
        further: dict[str, Tensor] = {}
        start = 0
        for name, group in groups.items():
            end = start + group.content.shape[1]
            layers = [(logits[:, start:end], boxes[:, start:end]) for logits, boxes in answers]
            start = end
            if name == "main":
                parts, pairs = matched_losses(self.rule, layers, truth, self.weights)
                further |= self._further_losses(found[-1][0], pairs, seen, targets)
            elif name == "many":
                assert self.config.one_to_many is not None
                several = truth.repeated(self.config.one_to_many.repeats)
                further[name] = weighed(matched_losses(self.rule, layers, several, self.weights)[0], self.weights)
            else:
                assert noised is not None
                further[name] = self._restored(layers, truth, noised)
        if proposed is not None:
            losses, _ = matched_losses(self.rule, [(proposed.logits, proposed.boxes)], truth, self.weights)
            further["proposed"] = weighed(losses, self.weights)
        own = weighed(parts, self.weights)
        return {"loss": torch.stack([own, *further.values()]).sum(), **parts, **further}

    def decode(self, outputs: Tensor, size: Pair) -> list[Prediction]:
        """The queries whose best class is over the threshold, best first."""
        return [self._told(ranked(row), size) for row in outputs.detach().float().cpu()]

    def class_scores(self, outputs: Tensor) -> Tensor:
        """The score of each class's surest object."""
        return outputs[..., : len(self.config.classes)].amax(dim=1)

    def metrics(self) -> Metrics:
        """COCO's average precision and recall, VOC's mAP."""
        return Metrics(self.config.classes)

    def _see(self, images: Tensor, padding: Tensor | None) -> Seen:
        """The image and its feature maps."""
        (features,), hidden = self.vit.dense(images, padding, self.config.window)
        region = regions(images, padding)
        patch = [pixels / cells for pixels, cells in zip(images.shape[-2:], features.grid, strict=True)]
        left, top, right, bottom = region.unbind(dim=1)
        levels = []
        for (map_, padded), scale in zip(self.pyramid(features.map, hidden), self.config.scales, strict=True):
            y = centres(patch[0] / CELLS[scale], map_.shape[2], top, bottom)
            x = centres(patch[1] / CELLS[scale], map_.shape[3], left, right)
            levels.append(Level(map_, x, y, padded))
        return Seen(images, padding, region, features, levels)

    def _begin(self, seen: Seen) -> tuple[Queries, Proposed | None]:
        """The queries that answer, and the proposals that they begin at."""
        if self.proposals is None:
            assert self.queries is not None
            return self.queries(seen.images.shape[0]), None
        proposed = self.proposals(seen.levels, len(self.config.classes))
        return proposed.queries, proposed

    def _answer(self, x: Tensor, boxes: Tensor, seen: Seen) -> Tensor:
        """Raw outputs from decoded queries B Q D and their boxes B Q 4."""
        return torch.cat((self.rule.scores(self.head(x).float()), to_pixels(boxes, seen.region)), dim=-1)

    def _further_losses(self, x: Tensor, pairs: Pairs, seen: Seen, targets: Sequence[Any]) -> dict[str, Tensor]:
        """Of what else decoded queries B Q D say of their objects, with their weights."""
        return {}

    def _told(self, found: Detections, size: tuple[int, int]) -> Prediction:
        labels, scores, boxes, _ = (part.numpy() for part in found.over(self.config.threshold))
        return Prediction(self.config.classes, labels, scores, boxes, size)

    def _restored(self, layers: Layers, truth: Truth, pairs: Pairs) -> Tensor:
        """The loss of noised queries, which know what they answer for; queries of no object are left out."""
        if not len(pairs.query):
            return layers[0][0].sum() * 0
        rows = torch.arange(len(pairs.query), device=pairs.query.device)
        own = Pairs(torch.zeros_like(rows), rows, pairs.target)
        total = []
        for logits, boxes in layers:
            picked = logits[pairs.image, pairs.query][None], boxes[pairs.image, pairs.query][None]
            total.append(weighed(set_losses(self.rule, *picked, truth, own, float(len(pairs.query))), self.weights))
        return torch.stack(total).sum()


def regions(images: Tensor, padding: Tensor | None) -> Tensor:
    """What of each canvas is image: boxes_xyxy (B, 4) in pixels."""
    if padding is not None:
        return box_ops.of_masks(~padding)
    one = torch.ones(images.shape[0], device=images.device)  # sizes stay symbols in a graph
    return torch.stack((0 * one, 0 * one, one * images.shape[-1], one * images.shape[-2]), dim=1)


def to_pixels(boxes: Tensor, region: Tensor) -> Tensor:
    """cxcywh (B, Q, 4) as shares of the region → boxes_xyxy in pixels."""
    start, extent = region[:, None, :2], region[:, None, 2:] - region[:, None, :2]
    return box_ops.cxcywh_to_xyxy(boxes) * extent.repeat(1, 1, 2) + start.repeat(1, 1, 2)


def centres(step: float, count: int, start: Tensor, end: Tensor) -> Tensor:
    """The centres of ``count`` cells of ``step`` pixels, as shares of what lies between start and end: (B, count)."""
    pixels = (torch.arange(count, device=start.device) + 0.5) * step
    return (pixels - start[:, None]) / (end - start)[:, None]


def truth_of(targets: Sequence[Any], region: Tensor) -> Truth:
    """The objects to find, as shares of the region; crowds and boxes without area are left out."""
    labels, boxes = [], []
    for target, own in zip(targets, region.cpu(), strict=True):
        inside, good = within(target, own)
        labels.append(target.labels.cpu()[good])
        boxes.append(box_ops.xyxy_to_cxcywh(inside[good]))
    counts = tuple(len(each) for each in labels)
    return Truth(torch.cat(labels).to(region.device), torch.cat(boxes).to(region.device), counts)


def within(target: Any, region: Tensor) -> tuple[Tensor, Tensor]:
    """An image's boxes_xyxy as shares of its region (4,), and which of them are to be found, bool (n,)."""
    start, end = region[:2].repeat(2), region[2:].repeat(2)
    inside = ((target.boxes_xyxy.cpu().float() - start) / (end - start)).clamp(0, 1)
    good = box_ops.area(inside) > 0
    crowd = getattr(target, "crowd", None)
    return inside, good if crowd is None else good & ~crowd.cpu()
