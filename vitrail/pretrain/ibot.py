"""iBOT (Zhou et al. 2022) with DINOv2's recipe (Oquab et al. 2023): DINO, and from the rest of a global crop, say what
the teacher, who sees all of it, says of each hidden patch.

B batch, G global crops of N patches each, D width, K outputs.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.sample_random import uniform
from vitrail.nn.teacher import teacher_of
from vitrail.ops.distillation import cross_entropy_of_pairs, koleo, sinkhorn_knopp
from vitrail.ops.grid import Pair
from vitrail.ops.masking import mask_lowest, mask_rectangles
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.distillation import DistillationConfig, SelfDistillation, Share
from vitrail.self_supervision.views import pooled
from vitrail.trainable import Losses
from vitrail.vit import Features

NUM_RECTANGLES = 16
Weight = Annotated[float, Field(ge=0)]


@config
class Config(DistillationConfig):
    """Args:
    mask: hide ``blocks`` of patches, or ``random`` ones.
    mask_probability: share of the global crops of which anything is hidden.
    mask_ratio: range of the share of a crop's patches that is hidden.
    share_head: one head for class token and patches (iBOT, better for small models), or one for each (DINOv2).
    num_iterations: of Sinkhorn-Knopp.
    patch_weight, koleo_weight: of their losses beside the class token's.
    """

    mask: Literal["blocks", "random"] = "blocks"
    mask_probability: Share = 0.5
    mask_ratio: tuple[Share, Share] = (0.1, 0.5)
    share_head: bool = True
    num_iterations: Annotated[int, Field(gt=0)] = 3
    patch_weight: Weight = 1.0
    koleo_weight: Weight = 0.1

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.model.patch_embed.stride not in (None, self.model.patch_size):
            raise ValueError("overlapping patches would see what is hidden; leave out embed.stride")
        return self


class Hidden(NamedTuple):
    """M hidden patches of the global crops.

    Attributes:
        mask: bool (G·B, N).
        places: int64 (M,), where it is true when flattened.
        weights: float32 (M,), which sum to 1 for each crop.
    """

    mask: Tensor
    places: Tensor
    weights: Tensor

    def of(self, patches: Tensor) -> Tensor:
        """G·B N D → M D."""
        return patches.flatten(0, 1)[self.places]


class Task(SelfDistillation, Pretraining):
    """Student and teacher, and what the student gets in place of a hidden patch.

    The teacher's outputs are balanced over the batch, and KoLeo looks for neighbours in it.
    """

    whole_batch: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.model.dim))
        self.patch_head_name = "head" if config.share_head else "patch_head"
        if not config.share_head:
            self.patch_head = self.new_head()
            self.teacher["patch_head"] = teacher_of(self.patch_head)

    def loss(self, batch: Batch) -> Losses:
        """The class token's loss as DINO's, the hidden patches', KoLeo of each global crop's class tokens, and their
        weighted sum; monitors.

        Raises:
            UserError: less than two global crops, or crops that patches do not cover.
        """
        (whole, parts), num_images, config = self.crops(batch), len(batch["keys"]), self.config
        hidden = self.hide(batch, whole)
        with torch.no_grad():
            taught = self.teacher_vit(whole)
            targets = self.targets("head", pooled(taught))
            patch_targets = self.targets(self.patch_head_name, hidden.of(taught.patches))

        seen = self.seen(whole, hidden.mask)
        features = [pooled(seen), *(pooled(self.vit(crops)) for crops in parts)]
        logits = self.head(torch.cat(features)) / config.student_temperature
        class_loss = cross_entropy_of_pairs(*(each.unflatten(0, (-1, num_images)) for each in (targets, logits)))
        patch_logits = getattr(self, self.patch_head_name)(hidden.of(seen.patches)) / config.student_temperature
        errors = cross_entropy(patch_logits, patch_targets, reduction="none")
        patch_loss = (errors * hidden.weights).sum() / len(whole)
        spread = torch.stack([koleo(crop) for crop in features[0].split(num_images)]).sum()
        return {
            "loss": class_loss + config.patch_weight * patch_loss + config.koleo_weight * spread,
            "class_loss": class_loss,
            "patch_loss": patch_loss,
            "koleo": spread,
            **self.monitors(pooled(taught), targets),
        }

    def targets(self, head: str, features: Tensor) -> Tensor:
        """What the teacher's head of that name says, balanced over the batch: B D → probabilities B K."""
        return sinkhorn_knopp(self.teacher[head](features), self.temperature, self.config.num_iterations)

    def seen(self, crops: Tensor, mask: Tensor) -> Features:
        """B C H W and bool (B, N) → what the student makes of the patches that are not hidden."""
        vit, patches = self.vit, self.vit.embed(crops)
        patches = torch.where(mask.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)
        tokens, grid, positions = vit.tokenise(crops, patches)
        return Features(
            vit.encode(tokens, positions), grid, vit.config.class_token, vit.num_prefix, vit.config.registers
        )

    def hide(self, batch: Batch, crops: Tensor) -> Hidden:
        """What is hidden of global crops (G·B C H W)."""
        grid = self.vit.embed.grid((crops.shape[-2], crops.shape[-1]))
        num_crops = len(crops) // len(batch["keys"])
        # On the host: counting what is hidden would make it wait for a GPU.
        mask = torch.cat([self._mask(batch, f"mask {crop}", grid) for crop in range(num_crops)])
        weights = (mask / mask.sum(dim=1, keepdim=True).clamp(min=1))[mask]
        places = mask.flatten().nonzero().squeeze(1)
        return Hidden(*(each.to(crops.device, non_blocking=True) for each in (mask, places, weights)))

    def _mask(self, batch: Batch, stream: str, grid: Pair) -> Tensor:
        """Bool (B, N)."""
        config, num_patches = self.config, grid[0] * grid[1]
        sizes = (1, 1, num_patches, 4 * NUM_RECTANGLES)
        chosen, share, ties, rectangles = uniform(batch["keys"], stream, sum(sizes), batch["keys"]).split(sizes, dim=1)
        low, high = config.mask_ratio
        counts = ((low + (high - low) * share) * num_patches).long() * (chosen < config.mask_probability)
        if config.mask == "random":
            return mask_lowest(ties, counts.squeeze(1))
        return mask_rectangles(rectangles.unflatten(1, (-1, 4)), ties, grid, counts.squeeze(1))
