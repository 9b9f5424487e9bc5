"""How faithful generated pictures are to real ones, in the features of a network that is named and hashed.

::

    vitrail.fidelity("photos/test", "drawn/", vitrail.load("runs/photos"), train="photos/train")

Nothing here knows who drew the samples: they are pictures in a folder, a split or a tensor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from vitrail import registry
from vitrail.console import note, warn
from vitrail.data.indexing.split import share
from vitrail.data.media.image_like import open_image
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig, size_of
from vitrail.errors import UserError, did_you_mean
from vitrail.metrics.generation import FeaturePair, Metrics
from vitrail.ops.grid import Pair
from vitrail.ops.seams import fits, grid_energy, spectrum
from vitrail.predictor import Predictor
from vitrail.probe import Sets
from vitrail.probe.features import Stored
from vitrail.probe.methods import linear
from vitrail.results import size_text
from vitrail.sample_fidelity.extractor import Extractor as Extractor
from vitrail.sample_fidelity.pictures import Collection as Collection
from vitrail.sample_fidelity.pictures import Framing, chosen_rows, extract, gather
from vitrail.sample_fidelity.pictures import Pictures as Pictures
from vitrail.sample_fidelity.result import Fidelity as Fidelity

FEWEST = 10
"""Pictures below which no measure means anything."""
HELD_OUT = 0.1  # of the pictures that a classifier learns from, which choose its learning rate
Resize = Literal["square", "crop"]


def fidelity(
    real: Collection,
    samples: Collection,
    features: Predictor | Extractor,
    *,
    train: Collection | None = None,
    classifier: Predictor | Extractor | None = None,
    patch: int | None = None,
    limit: int | None = None,
    split: str | None = None,
    resize: Resize = "square",
    seed: int = 0,
    batch_size: int = 64,
) -> Fidelity:
    """Compare samples with real pictures that nothing was trained on.

    Equally many of both are compared, N; of the larger collection they are drawn. Real pictures of another size than
    the samples are brought to it first, so that both then take the same way into the network.

    Args:
        features: the network whose features are compared.
        train: what the generator was trained on, for the floor and to find samples that are copies.
        classifier: tells whether samples are of their classes; an extractor is one of scores.
        patch: the side in pixels of the generator's patches, to measure seams.
        limit: compare no more than so many.
        split: of ``real``; default: test where there is one, else val, else train.
        resize: of real pictures to the size of the samples: to a ``square`` as a whole, or the central part (``crop``).
        seed: of what is drawn.

    Raises:
        UserError: fewer than 10 pictures, real pictures that were trained on, samples of several sizes, a picture that
            cannot be read, features that are not finite, classes that the classifier does not know, or a patch that
            does not divide the size.
    """
    extractor = features if isinstance(features, Extractor) else Extractor.of_model(features)
    given = {"real": gather(real, (split,) if split else ("test", "val", "train")), "samples": gather(samples)}
    count = min(len(given["real"]), len(given["samples"]), limit or len(given["real"]))
    if count < FEWEST:
        raise UserError(
            f"{count} pictures are too few to compare: give at least {FEWEST} real ones and samples, and some hundreds "
            "of each for numbers that mean something"
        )
    chosen = {name: each.drawn(count, seed) for name, each in given.items()}
    if train is not None:
        given["train"] = chosen["train"] = gather(train, ("train", "val", "test"))
    size = size_of(open_image(chosen["samples"].images[0], extractor.channels))
    if patch is not None and not fits(size, patch):
        raise UserError(f"samples of {size_text(size)} pixels are no grid of patches of {patch}; give the patch's side")
    confirming = Extractor.of_classes(classifier) if isinstance(classifier, Predictor) else classifier
    scores = None if confirming is None else _scores(chosen["samples"], confirming, size, batch_size)
    vectors, spectra = _vectors(chosen, extractor, size, resize, batch_size, with_spectra=patch is not None)
    measures, family = _measured(chosen["samples"], vectors, scores, seed)
    accuracies = _trained_on(chosen, vectors, count, seed)
    seams = math.nan
    if patch is not None:
        seams = grid_energy(spectra["samples"], size, patch) / grid_energy(spectra["real"], size, patch)
    details = family.details()
    return Fidelity(
        measures=measures | {"cas": accuracies["samples"], "seams": seams},
        floor=details["floor"] | {"cas": accuracies["train"]},
        per_class=details["per_class"],
        features=extractor.to_dict(),
        classifier=None if confirming is None else confirming.to_dict(),
        pictures={name: len(each) for name, each in given.items()} | {"compared": count},
        size=size,
        resize=resize,
    )


def _framing(size: Pair, channels: int, resize: Resize | None) -> Framing:
    if resize is None:
        return Framing(size, channels)
    return Framing(size, channels, Preprocess(PreprocessConfig(size=size, channels=channels, resize=resize)))


def _vectors(
    pictures: dict[str, Pictures], extractor: Extractor, size: Pair, resize: Resize, batch_size: int, *,
    with_spectra: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:  # fmt: skip
    """The features and, if asked for, the spectra of each collection."""
    found: dict[str, Tensor] = {}
    spectra: dict[str, Tensor] = {}
    for name, each in pictures.items():
        framing = _framing(size, extractor.channels, None if name == "samples" else resize)
        extractors = [extractor]
        if with_spectra and name != "train":
            extractors.append(Extractor("spectrum", spectrum, extractor.channels))
        found[name], *rest = extract(each, framing, extractors, batch_size, f"features: {name}")
        if rest:
            spectra[name] = rest[0]
    return found, spectra


def _measured(
    samples: Pictures, vectors: dict[str, Tensor], scores: tuple[Tensor, Tensor, tuple[str, ...]] | None, seed: int
) -> tuple[dict[str, float], Metrics]:
    """The measures of the family, and the family."""
    count, width = vectors["samples"].shape
    if count <= width:
        warn(f"{count:,} pictures for {width:,} features: the Fréchet distance is mostly bias; compare it at equal N")
    train = vectors.get("train")
    if train is not None and len(train) < count:
        warn(
            f"{len(train):,} training pictures are fewer than the {count:,} compared, so there is no floor; limit them"
        )
    each = [None] * count if scores is None else list(scores[0])
    targets = torch.full((count,), -1) if scores is None else scores[1]
    family = Metrics(() if scores is None else scores[2], train, seed)
    family.update([FeaturePair(*row) for row in zip(vectors["real"], vectors["samples"], each, strict=True)], targets)
    measures = family.compute()
    if train is not None and math.isnan(measures["memorised"]):
        raise UserError(
            "more than 5 % of the real pictures are among the training pictures: compare with pictures that were not "
            "trained on, such as another split, or leave the training pictures out"
        )
    return measures, family


def _scores(
    samples: Pictures, classifier: Extractor, size: Pair, batch_size: int
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Of each sample the score of each class of the classifier, its own class among them, and their names.

    Raises:
        UserError: samples without classes, or with others.
    """
    if samples.labels is None:
        raise UserError(
            f"{samples.name} has no classes, which a classifier could confirm; give a folder for each class"
        )
    places = {name: place for place, name in enumerate(classifier.classes)}
    for name in samples.classes:
        if name not in places:
            raise UserError(f"the classifier has no class {name!r} of the samples; {did_you_mean(name, places)}")
    targets = torch.tensor([places[name] for name in samples.classes])[torch.from_numpy(samples.labels)]
    (scores,) = extract(samples, _framing(size, classifier.channels, None), [classifier], batch_size, "classifier")
    return scores, targets, classifier.classes


def _trained_on(pictures: dict[str, Pictures], vectors: dict[str, Tensor], count: int, seed: int) -> dict[str, float]:
    """Of the samples and of ``count`` training pictures: how many real pictures a linear classifier tells that learned
    from them alone (Ravuri & Vinyals 2019, classification accuracy score, on features); NaN without the same classes.
    """
    real, found = pictures["real"], {"samples": math.nan, "train": math.nan}
    for name in found:
        each = pictures.get(name)
        if each is None or each.labels is None or real.labels is None or sorted(each.classes) != sorted(real.classes):
            continue
        if len(each) < count:
            continue
        rows = chosen_rows(len(each), count, seed)
        values, labels = vectors[name][rows], each.labels[rows]
        if len(each.classes) < 2 or np.bincount(labels, minlength=len(each.classes)).min() < 2:
            note(f"{name}: fewer than two pictures of a class, so no classifier learned from them")
            continue
        places = torch.tensor([each.classes.index(known) for known in real.classes])
        test = _stored(vectors["real"], places[torch.from_numpy(real.labels)])
        found[name] = _linear(_stored(values, torch.from_numpy(labels)), test, len(each.classes), seed)
    return found


def _stored(values: Tensor, labels: Tensor) -> Stored:
    return Stored(values=values[None], labels=labels, device=torch.device("cpu"))


def _linear(known: Stored, test: Stored, num_classes: int, seed: int) -> float:
    """The accuracy on ``test`` of the best head, which a held-out tenth of what is known chooses."""
    held_out = share(known.labels.numpy(), HELD_OUT, seed)
    kept = np.setdiff1d(np.arange(len(known)), held_out)
    width = known.values.shape[-1]
    sets = Sets(known.subset(kept), known.subset(held_out), test, num_classes, width, test.device)
    return linear.measure(sets, linear.Options(), seed).best.test


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = registry.submodules(__name__)
