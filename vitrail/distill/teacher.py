"""A trained model that another one learns from: frozen and in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Self, TypeAlias

import torch
from torch import Tensor, nn

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.predictor import Predictor
from vitrail.trainable import image_encoder

Function: TypeAlias = Callable[[Tensor], Tensor]


class Teacher:
    """Any classifier or feature extractor, of any architecture.

    Args:
        model: images B C H W → logits B K; a module is frozen and put into evaluation mode.
        preprocess: size, mean and standard deviation of the images that it takes.
        classes: names in the order of the logits; features need none.
        features: images B C H W → a feature map B D h w, or a vector per image, B D; default: the model's output.
        vector: images B C H W → B D; default: the features, a map averaged over its positions.
        name: shown in errors.
        device: of its inputs and outputs.
        autocast: run in the student's precision; else in the teacher's own.
    """

    def __init__(
        self,
        model: Function,
        preprocess: PreprocessConfig,
        classes: tuple[str, ...] = (),
        *,
        features: Function | None = None,
        vector: Function | None = None,
        name: str = "the teacher",
        device: str | torch.device = "cpu",
        autocast: bool = True,
    ) -> None:
        self.device = torch.device(device)
        if isinstance(model, nn.Module):
            model.to(self.device).eval().requires_grad_(False)
        self.preprocess, self.classes, self.name, self.autocast = preprocess, tuple(classes), name, autocast
        self._model, self._features, self._vector = model, features or model, vector

    @classmethod
    def of(cls, predictor: Predictor, name: str = "the teacher") -> Self:
        """A loaded model; its feature map is that of its encoder, its vector the input of its head.

        In another engine, or from an exported file, it has no feature map and runs in the precision of that engine.
        """
        task, engine = predictor.task, predictor.engine
        itself = engine is task
        return cls(
            engine,
            predictor.preprocess.config,
            predictor.classes if "class" in task.takes else (),
            features=(lambda images: image_encoder(task)(images).map) if itself else engine.embed,
            vector=engine.embed,
            name=name,
            device=predictor.device,
            autocast=itself,
        )

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: copies of a student share its teacher."""
        return self

    def to(self, device: torch.device) -> Self:
        """Moved there, in place."""
        self.device = device
        if isinstance(self._model, nn.Module):
            self._model.to(device)
        return self

    def logits(self, images: Tensor) -> Tensor:
        """B C H W → B K, float32."""
        return self._run(self._model, images)

    def map(self, images: Tensor) -> Tensor:
        """B C H W → B D h w, float32."""
        return self._run(self._features, images)

    def vector(self, images: Tensor) -> Tensor:
        """B C H W → B D, float32."""
        if self._vector is not None:
            return self._run(self._vector, images)
        features = self._run(self._features, images)
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features

    def width(self, of: Function, ndim: int, hint: str) -> int:
        """The number of channels that ``of``, one of the methods above, returns; tried on two images.

        Args:
            ndim: of its result.
            hint: what to do if the result has another.

        Raises:
            UserError: the model does not take such images, or gives something else.
        """
        shape = (2, self.preprocess.channels, *self.preprocess.size)
        try:
            found = of(torch.zeros(shape, device=self.device))
        except UserError:
            raise
        except Exception as error:  # anything a third party's model raises
            said = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{self.name} does not take images of shape {shape} ({said}); see its size") from error
        if found.ndim != ndim or len(found) != 2:
            raise UserError(f"{self.name} gives {tuple(found.shape)} for images of shape {shape}; {hint}")
        return found.shape[1]

    def _run(self, function: Function, images: Tensor) -> Tensor:
        plain = nullcontext() if self.autocast else torch.autocast(self.device.type, enabled=False)
        with torch.no_grad(), plain:
            return function(images).to(images.device, torch.float32)
