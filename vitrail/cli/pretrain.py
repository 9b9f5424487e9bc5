"""Learning without labels from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cyclopts import Parameter

from vitrail.errors import MissingArgument, UserError, did_you_mean
from vitrail.terminal.training import TrainingOptions, start

if TYPE_CHECKING:
    from vitrail.train.run import Run

GROUP = "Prepare and train"


@Parameter(name="*")
@dataclass(frozen=True)
class PretrainOptions(TrainingOptions):
    """Options of pretraining.

    Args:
        method: mae, simmim, masked_patch, colorize, rotation, dino, ibot, simclr or moco_v3.
    """

    method: str = "mae"

    def first_run(self, data: str | None, given: Mapping[str, object]) -> Run:
        """The run of the recipe on all images, whether labelled or not.

        Raises:
            UserError: no such method or recipe, or no data.
        """
        from vitrail import registry

        methods = registry.names("pretrain")
        if self.method not in methods and "." not in self.method:
            raise UserError(f"unknown method {self.method!r}; {did_you_mean(self.method, methods)}")
        if data is None and self.recipe == self.method:
            raise MissingArgument("nothing to learn from; give a folder of pictures, --recipe NAME or --resume RUN")
        run = super().first_run(data, given)
        return replace(run, data=replace(run.data, source=replace(run.data.source, labelled="auto")))


def pretrain(data: str | None = None, /, *, options: PretrainOptions = PretrainOptions()) -> int:
    """Learn from images without labels; vitrail train --init continues from there.

    Every image below the folder is used, whatever its subfolder. Labels, where there are any, are not learned from, but
    a nearest-neighbour classifier on held-out images measures how good the features are.

    Examples
      vitrail pretrain photos/ --method mae --model S/16 --epochs 200
      vitrail pretrain photos/ --method dino --batch-size 64
      vitrail train photos/ --init runs/dino-photos
      vitrail pretrain --resume runs/dino-photos --epochs 300

    Args:
        data: A folder, .csv, .npz, .tar or the name of a data set.
    """
    if options.resume is None and options.config is None:  # the method's recipe, unless another one is given
        options = replace(options, recipe=options.recipe or options.method)
    return start(data, options)
