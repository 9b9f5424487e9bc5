"""What several benchmarks set up in the same way.

Vitrail is imported in the functions, so that ``before_after.py`` can choose the version first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from turns import Step

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from vitrail import Predictor

CLASSES = tuple(f"class{i}" for i in range(1000))


def classifier(model: str) -> Predictor:
    """A classifier of 1,000 classes with random weights, on the CPU."""
    import torch

    import vitrail
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.tasks import classification

    torch.manual_seed(0)
    config = classification.Config(model=vitrail.preset(model), classes=CLASSES)
    task = classification.Task(config)
    return vitrail.Predictor(task, PreprocessConfig(size=config.model.image_size), device="cpu")


def timm_vit(
    image_size: int, patch_size: int, dim: int, depth: int, heads: int, mlp_dim: int, num_classes: int
) -> nn.Module:
    """The same architecture in timm: class token, learned positions, linear head."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=image_size,
        patch_size=patch_size,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_dim / dim,
        num_classes=num_classes,
    )


def backward_step(module: nn.Module, loss: Callable[[], Tensor], dtype: str) -> Step:
    """Forward and backward pass under autocast, without an optimizer."""
    import torch

    from vitrail.train import precision

    module.train()

    def step() -> None:
        with precision.autocast(dtype, torch.device("cpu")):
            value = loss()
        value.backward()
        module.zero_grad()

    return step


def photo(number: int, width: int, height: int) -> Image:
    """Coloured gradients with film grain: about as large as a photograph's JPEG and as slow to decode."""
    import numpy as np
    from PIL import Image

    draws = np.random.default_rng(number)
    coarse = Image.fromarray(draws.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    noisy = (smooth + draws.normal(0, 8, (height, width, 1))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(noisy)
