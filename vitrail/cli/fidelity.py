"""Generated pictures beside real ones."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from vitrail.terminal.next_command import name_next
from vitrail.terminal.options import BatchSize, Json, MaxPixels, Opening, print_json

GROUP = "Use a model"


def fidelity(
    real: str,
    samples: str,
    /,
    *,
    features: str,
    train: str | None = None,
    classifier: str | None = None,
    seams: Annotated[PositiveInt | None, Parameter(metavar="P")] = None,
    limit: PositiveInt | None = None,
    split: str | None = None,
    resize: Literal["square", "crop"] = "square",
    seed: NonNegativeInt = 0,
    as_json: Json = False,
    batch_size: BatchSize = 64,
    max_pixels: MaxPixels = None,
    opening: Opening = Opening(),  # noqa: B008  frozen
) -> None:
    """Measure how faithful generated pictures are to real ones.

    Compares the features that a network computes of both: Fréchet and kernel distance, precision and recall, density
    and coverage. With the generator's training pictures it measures those in place of the samples too, as a floor, and
    whether samples are copies. Equally many of both are compared, and all numbers depend on how many.

    Examples
      vitrail fidelity unseen/ drawn/ --features runs/birds
      vitrail fidelity unseen/ drawn/ --features runs/birds --train photos/ --classifier runs/birds --json
      vitrail fidelity digits drawn/ --features model.safetensors --train digits --seams 4 --limit 1000

    Args:
        real: Pictures that nothing was trained on: a folder, .csv, .npz, .tar or the name of a data set.
        samples: The generated pictures, all of one size; in a folder per class for accuracies.
        features: The model whose features are compared: a run folder, a weights file or another library's folder.
        train: The pictures that the generator learned from, for the floor and to find copies.
        classifier: A model that tells whether samples are of their classes.
        seams: Side in pixels of the generator's patches; measures seams between them.
        limit: Compare no more pictures than this.
        split: The split of the real pictures; default: test where there is one, else val.
        resize: How real pictures come to the size of the samples: as a whole, or the central part.
        seed: Decides which pictures are drawn where one collection has more.
    """
    from vitrail.console import note
    from vitrail.sample_fidelity import Extractor
    from vitrail.sample_fidelity import fidelity as compare

    extractor = Extractor.of_model(opening.load(features), features)
    confirming = None if classifier is None else Extractor.of_classes(opening.load(classifier), classifier)
    found = compare(
        real, samples, extractor, train=train, classifier=confirming,
        patch=seams, limit=limit, split=split, resize=resize, seed=seed, batch_size=batch_size,
    )  # fmt: skip
    if as_json:
        print_json(found.to_dict())
        return
    print(found.table)
    note(f"{found.pictures['compared']:,} pictures of each, in the features of {extractor}")
    name_next("data", "inspect", samples)
