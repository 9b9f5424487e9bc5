"""Training from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitrail.cli import _training
from vitrail.cli._training import Options, Several

if TYPE_CHECKING:
    from vitrail.train.run import Run


def train(
    data: str | None = None,
    /,
    *,
    task: str | None = None,
    freeze: Several = (),
    patience: int | None = None,
    options: Options = Options(),  # noqa: B008  frozen
) -> int:
    """Train a model on pictures, evaluate it and write its report.

    The same command again continues a run that was interrupted. SIGTERM, SIGUSR1 and Ctrl-C save at the next step and
    leave with 143, 138 and 130; a user's mistake is 2, a lost process of several 75.

    Examples
      vitrail train photos/ --model S/16 --epochs 50
      vitrail train --recipe digits --name demo --set ema.decay=0.999
      vitrail train flowers/ --init runs/photos --image-size 384 --set optimizer.backbone_lr=0.1
      vitrail train --resume runs/photos --epochs 80

    Args:
        data: A folder, .csv, .npz, .tar or a data set's name.
        task: classification, multilabel or regression; default: what the labels are.
        freeze: Parameters to keep as they are: backbone, or a pattern such as vit.embed.*; can be repeated.
        patience: Stop after so many evaluations without improvement.
    """
    return _training.start(options.given(data=data, task=task, freeze=freeze, patience=patience), _begun)


def _begun(given: dict[str, Any]) -> Run:
    """The recipe, or a start from scratch or from weights, before the options that change a setting."""
    return _training.from_recipe(given) if "recipe" in given else _plain(given)


def _plain(given: dict[str, Any]) -> Run:
    """The defaults for a data set: S/16 on lightly augmented images, or the model and preprocessing of ``--init``."""
    from vitrail.data import DataConfig, PreprocessConfig, SourceConfig, augmentation
    from vitrail.train.run import Run
    from vitrail.vit import preset

    model, preprocess, options = preset("S/16"), PreprocessConfig(), {}
    if "init" in given:
        from vitrail.config import to_dict
        from vitrail.outline import outline

        found = outline(given["init"])
        model, preprocess = found.task.vit.config, found.preprocess
        settings = to_dict(found.task.config)
        options = {name: settings[name] for name in ("pool", "head") if settings.get(name) is not None}
    data = DataConfig(source=SourceConfig(spec=given["data"]), preprocess=preprocess, augment=augmentation("light"))
    return Run(data=data, model=model, task_options=options)
