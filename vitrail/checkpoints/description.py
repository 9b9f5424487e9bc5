"""What a weights file of another library describes: a task and its config, without tensors."""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.trainable import Embedder


@dataclass(frozen=True)
class Description:
    """A model in our terms, read from a file of another library or to be written as one.

    It fits any task: a detector, two encoders with a projection each, a pretraining method with its decoder.

    Attributes:
        task: the registry name of a task or pretraining method, or the dotted module of a third party's.
        config: an instance of that module's ``Config``.
        preprocess: None where neither the file nor its folder contains it, and the dialect has no usual one.
        assumed: one sentence for each setting that the file does not contain, with the value that was taken.
        layout: of a file that was read, the variants of naming and storage that it uses and ``config`` does not
            determine, such as ``{"split"}``; None: the model is to be written, in the dialect's usual layout.
    """

    task: str
    config: object
    preprocess: PreprocessConfig | None = None
    assumed: tuple[str, ...] = ()
    layout: frozenset[str] | None = None

    @classmethod
    def of(cls, task: Embedder, preprocess: PreprocessConfig | None = None) -> Description:
        """The description of a task that is to be written."""
        return cls(task.name, task.config, preprocess)
