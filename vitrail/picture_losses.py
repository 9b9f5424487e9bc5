"""What restored pictures are compared by besides their pixels: features of a trained ViT, and a discriminator.

Both make pictures sharper where the mean of all that is likely is blurred, and lower PSNR (Blau & Michaeli 2018, "The
Perception-Distortion Tradeoff"). Shapes: B images, C channels, H W pixels, values from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch, tensor_targets
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.loading import load
from vitrail.nn.frozen import frozen_call
from vitrail.nn.init import initialise
from vitrail.predictor import Predictor
from vitrail.trainable import Losses, Trainable, image_encoder
from vitrail.vit import ViT, ViTConfig
from vitrail.wrapped import Wrapped

NUM_LAYERS = 4  # whose features are compared, spread evenly

Weight = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0, le=256)]


@config
class PerceptualConfig:
    """Args:
    model: whose features are compared: whatever :func:`vitrail.load` opens and has a ViT.
    weight: of their distance, beside that of pixels.
    layers: blocks from 0 on; default: four, spread evenly, with the last.
    """

    model: str
    weight: Weight = 0.1
    layers: tuple[Annotated[int, Field(ge=0, lt=256)], ...] = ()


@config
class AdversarialConfig:
    """Args:
    weight: of the discriminator's opinion, beside the distance of pixels.
    patch_size: pixels of the pictures that a token of the discriminator judges with its surroundings.
    dim, depth, heads: of the discriminator, a plain ViT.
    """

    weight: Weight = 0.005
    patch_size: Count = 8
    dim: Annotated[int, Field(gt=0, le=4096, multiple_of=4)] = 64
    depth: Count = 2
    heads: Count = 2


@config
class PictureLossConfig:
    """What is added to the loss of restored pictures; without any of it nothing is."""

    perceptual: PerceptualConfig | None = None
    adversarial: AdversarialConfig | None = None


class FeatureDistance:
    """``distance(pictures, truth)``: how far apart two pictures are in the features of a trained ViT, both B C H W →
    B, the gradient of which reaches the pictures.

    Features of each patch have length 1; their squared differences are added up over channels, averaged over patches
    and added up over layers, without learned weights (Zhang et al. 2018, LPIPS, equation 1).

    Raises:
        UserError: the model has no image encoder or not these layers.
    """

    def __init__(self, predictor: Predictor, layers: Sequence[int] = ()) -> None:
        task, preprocess = predictor.task, predictor.preprocess.config
        self.encoder = image_encoder(task).eval().requires_grad_(False)
        depth = self.encoder.depth
        spread = [round((place + 1) * depth / NUM_LAYERS) - 1 for place in range(NUM_LAYERS)]
        self.layers = list(layers) or sorted({max(layer, 0) for layer in spread})
        if beyond := [layer for layer in self.layers if layer >= depth]:
            raise UserError(f"there is no layer {beyond[0]}; this model has layers 0 to {depth - 1}")
        device = next(self.encoder.parameters()).device
        mean, std = (torch.tensor(each, device=device).reshape(-1, 1, 1) for each in (preprocess.mean, preprocess.std))
        self.scale, self.shift = 255 * preprocess.rescale / std, mean / std

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: it does not change."""
        return self

    def __call__(self, pictures: Tensor, truth: Tensor) -> Tensor:
        """The distance of each picture. Raises UserError: they are smaller than a patch, or of other channels."""
        both = zip(self.features(pictures), self.features(truth), strict=True)
        return torch.stack([(one - other).square().sum(dim=1).mean(dim=(1, 2)) for one, other in both]).sum(dim=0)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """B C H W → B D h w of each layer, of length 1. Rows and columns beyond the last patch are left out."""
        given = pictures[..., : self._covered(pictures, -2), : self._covered(pictures, -1)].float()
        found = self.encoder.intermediates(given * self.scale - self.shift, self.layers)
        return [F.normalize(each.map.float(), dim=1, eps=1e-6) for each in found]

    def _covered(self, pictures: Tensor, axis: int) -> int:
        side, patch = pictures.shape[axis], self.encoder.config.patch_size[axis]
        if side < patch:
            raise UserError(
                f"parts of {side} pixels are smaller than the patches of {patch} whose features are compared: enlarge "
                "model.image_size, or give another picture_loss.perceptual.model"
            )
        return side - side % patch


class Discriminator(nn.Module):
    """Pictures B C H W → how true each patch looks, B N: a plain ViT with a number for each token (after Isola et al.
    2017, PatchGAN, with attention in place of convolutions)."""

    def __init__(self, config: AdversarialConfig, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        patch, dim = config.patch_size, config.dim
        sides = [max(side // patch, 1) * patch for side in size]
        self.vit = ViT(
            ViTConfig(
                image_size=(sides[0], sides[1]), channels=channels, patch_size=(patch, patch), dim=dim,
                depth=config.depth, heads=config.heads, mlp_dim=2 * dim, positions="sincos_2d", class_token=False,
            )
        )  # fmt: skip
        self.head = nn.Linear(dim, 1)
        initialise(self.head)

    def forward(self, pictures: Tensor) -> Tensor:
        height, width = self.vit.config.image_size
        features = self.vit(2 * pictures[..., :height, :width] - 1)
        return self.head(features.patches)[..., 0]


class Compared(Wrapped):
    """A task that restores pictures, with more losses of what it makes.

    Parameters of the discriminator begin with ``comparison.``; they learn from the same optimizer in the same step.
    """

    HELPERS = "comparison"

    def __init__(
        self, task: Trainable, config: PictureLossConfig, preprocess: PreprocessConfig, distance: FeatureDistance | None
    ) -> None:
        scale = 1 if preprocess.degrade is None else preprocess.degrade.scale
        sides = (scale * preprocess.size[0], scale * preprocess.size[1])
        found = nn.ModuleDict()
        if config.adversarial is not None:
            found["discriminator"] = Discriminator(config.adversarial, preprocess.channels, sides)
        super().__init__(task, found)
        self.config, self.distance = config, distance

    def loss(self, batch: Batch) -> Losses:
        """The task's, with ``perceptual``, ``adversarial`` and the ``discriminator``'s own, from one forward pass."""
        with outputs_of(self.task) as found:
            losses = dict(self.task.loss(batch))
        pictures, truth = found[-1], tensor_targets(batch) / 255
        perceptual, adversarial = self.config.perceptual, self.config.adversarial
        if perceptual is not None and self.distance is not None:
            losses["perceptual"] = self.distance(pictures, truth).mean()
            losses["loss"] = losses["loss"] + perceptual.weight * losses["perceptual"]
        if adversarial is not None:
            losses["adversarial"], losses["discriminator"] = self._judged(pictures.float(), truth)
            losses["loss"] = losses["loss"] + adversarial.weight * losses["adversarial"] + losses["discriminator"]
        return losses

    def _judged(self, pictures: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of who makes pictures, and that of who judges them (Goodfellow et al. 2014, section 3, with the
        gradient that does not vanish). Neither's gradient reaches the parameters of the other."""
        judge = self.helpers["discriminator"]
        made = F.softplus(-frozen_call(judge, pictures)).mean()
        own = F.softplus(judge(pictures.detach())).mean() + F.softplus(-judge(truth)).mean()
        return made, own


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within, what the forward passes of a module return."""
    found: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, inputs, outputs: found.append(outputs))
    try:
        yield found
    finally:
        hook.remove()


def compared(
    task: Trainable,
    config: PictureLossConfig | None,
    preprocess: PreprocessConfig,
    device: torch.device,
    *,
    allow_pickle: bool = False,
) -> Trainable:
    """The task with the losses of the config; without a config, the task itself.

    Args:
        preprocess: of the task's images.
        allow_pickle: as of :func:`vitrail.load`.

    Raises:
        UserError: a task that restores no pictures, or a model whose features cannot be compared.
    """
    if config is None:
        return task
    if task.takes != ("image",):
        raise UserError(f"picture_loss is of restored pictures and {task.name!r} makes none; leave it out")
    distance = None
    if (perceptual := config.perceptual) is not None:
        with torch.random.fork_rng(devices=[]):
            predictor = load(perceptual.model, device=device, allow_pickle=allow_pickle)
        if predictor.preprocess.config.channels != preprocess.channels:
            raise UserError(
                f"{perceptual.model} takes images of {predictor.preprocess.config.channels} channels, not "
                f"{preprocess.channels}; give another picture_loss.perceptual.model"
            )
        distance = FeatureDistance(predictor, perceptual.layers)
    return Compared(task, config, preprocess, distance)
