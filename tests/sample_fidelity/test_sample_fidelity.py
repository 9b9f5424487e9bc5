"""Pictures in folders, splits and tensors to measures: what is read, compared and refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vitrail
from vitrail.cli import main
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError
from vitrail.ops.fidelity import frechet_distance, memorising
from vitrail.sample_fidelity import Extractor, Pictures


class Colours(nn.Module):
    """Features that a test can compute: the mean and the deviation of each channel."""

    def forward(self, pixels):
        values = pixels.double()
        return torch.cat((values.mean(dim=(2, 3)), values.std(dim=(2, 3))), dim=1)


@pytest.fixture
def digits():
    return open_source(SourceConfig(spec="digits", val_fraction=0))


@pytest.fixture
def grey():
    return Extractor.of_module(Colours(), "colours", channels=1)


def tensor_of(source):
    return torch.stack([torch.from_numpy(source.read(i))[None] for i in range(len(source))])


def test_a_split_a_tensor_and_a_folder_are_the_same_pictures(digits, grey, tmp_path):
    real, samples = digits.test.subset(range(40)), tensor_of(digits.train.subset(range(30)))
    for number, picture in enumerate(samples):
        Image.fromarray(picture[0].numpy()).save(tmp_path / f"{number:02}.png")
    found = [vitrail.fidelity(real, each, grey, batch_size=7) for each in (samples, str(tmp_path))]
    assert found[0].measures == pytest.approx(found[1].measures, nan_ok=True)
    assert found[0].pictures == {"real": 40, "samples": 30, "compared": 30}
    assert "Fréchet distance" in repr(found[0])
    assert json.dumps(found[0].to_dict(), allow_nan=False)
    assert found[0].features["sha256"] == found[1].features["sha256"] != ""


def test_measures_are_those_of_the_features(digits, grey):
    real, samples = tensor_of(digits.test.subset(range(30))), tensor_of(digits.train.subset(range(30)))
    train = tensor_of(digits.train.subset(range(20, 90)))
    found = vitrail.fidelity(real, samples, grey, train=train, patch=2)
    vectors = [Colours()(each) for each in (real, samples, train)]
    assert found["fd"] == pytest.approx(frechet_distance(*vectors[:2]), rel=1e-9)
    assert (found["memorised"], found["nearest_ratio"]) == pytest.approx(memorising(vectors[1], vectors[0], vectors[2]))
    assert found.floor["fd"] == found["fd_floor"] > 0
    assert 0.2 < found["seams"] < 5
    assert math.isnan(found["cas"])
    assert vitrail.fidelity(real, real, grey, patch=2)["seams"] == 1


def test_real_pictures_come_to_the_size_of_the_samples(grey):
    shapes = [(20, 30), (40, 24)] * 6
    real = [np.random.default_rng(i).integers(0, 256, shape, np.uint8) for i, shape in enumerate(shapes)]
    resized = [np.asarray(Image.fromarray(each).resize((12, 10), Image.Resampling.BILINEAR)) for each in real]
    samples = torch.randint(0, 256, (12, 1, 10, 12), dtype=torch.uint8)
    found = vitrail.fidelity(real, samples, grey)
    assert found["fd"] == vitrail.fidelity(resized, samples, grey)["fd"]
    assert found["fd"] != vitrail.fidelity(real, samples, grey, resize="crop")["fd"]


def test_classes_are_confirmed_and_learned(digits, tiny_predictor):
    predictor = tiny_predictor(channels=1)
    labels = np.arange(60) % 4
    samples = [np.full((16, 24), 60 * label + i % 3, np.uint8) for i, label in enumerate(labels)]
    drawn = Pictures(samples, labels, ("dog", "cat", "bee", "ant"))  # in another order than the classifier's
    real = Pictures([each + 2 for each in samples], 3 - labels, ("ant", "bee", "cat", "dog"))
    found = vitrail.fidelity(real, drawn, predictor, classifier=predictor)
    said = [each.label for each in predictor.predict(samples)]
    assert found["accuracy"] == np.mean([name == drawn.classes[k] for name, k in zip(said, labels, strict=True)])
    assert {row["name"]: row["count"] for row in found.per_class} == dict.fromkeys(("ant", "bee", "cat", "dog"), 15)
    assert found["cas"] > 0.9
    assert found.features["vector"] == "class token and mean of the patches"
    with torch.inference_mode():
        (last,) = predictor.task.vit.intermediates(predictor.tensor(samples[0]), [1], norm=True)
    expected = torch.cat((last.prefix[:, 0], last.patches.mean(dim=1)), dim=1)
    torch.testing.assert_close(
        Extractor.of_model(predictor)(predictor.pixels(samples[0])[None]), expected, rtol=1e-5, atol=1e-5
    )


def test_a_digest_is_that_of_the_weights(tiny_predictor):
    one, same, other = (Extractor.of_model(tiny_predictor(dim=dim)) for dim in (32, 32, 16))
    assert one.digest == same.digest != other.digest


class Damaged(nn.Module):
    def forward(self, pixels):
        return pixels.float().mean(dim=(2, 3)) / 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"samples": torch.zeros(3, 1, 8, 8, dtype=torch.uint8)},
            "3 pictures are too few to compare: give at least 10",
        ),
        ({"samples": [np.zeros((8, 8 + i // 9), np.uint8) for i in range(20)]}, "8×9 pixels and the first sample 8×8"),
        ({"samples": torch.zeros(20, 1, 8, 8)}, r"tensor \(20, 1, 8, 8\) of float32 holds no pictures; give uint8"),
        ({"samples": torch.zeros(20, 5, 8, 8, dtype=torch.uint8)}, "channels"),
        ({"features": Extractor.of_module(Damaged(), "damaged", 1)}, "damaged gives features that are not finite"),
        ({"patch": 3}, "8×8 pixels are no grid of patches of 3"),
        ({"split": "train"}, "no split"),
        ({"train": torch.arange(20 * 64, dtype=torch.uint8).view(20, 1, 8, 8)}, "are among the training pictures"),
    ],
    ids=["few", "sizes", "floats", "channels", "nan", "patch", "split", "trained"],
)
def test_what_cannot_be_compared_is_refused(grey, tmp_path, change, message):
    samples = torch.arange(20 * 64, dtype=torch.uint8).view(20, 1, 8, 8)
    real = samples
    if "split" in change:
        (tmp_path / "test").mkdir()
        (tmp_path / "val").mkdir()
        for number in range(20):
            Image.fromarray(samples[number, 0].numpy()).save(tmp_path / ("test", "val")[number % 2] / f"{number}.png")
        real = str(tmp_path)
    given = {"real": real, "samples": samples, "features": grey, **change}
    with pytest.raises(UserError, match=message):
        vitrail.fidelity(**given)


def test_the_verb(weights_and_folders, capsys):
    weights, real, drawn, unseen = weights_and_folders
    call = ["fidelity", real, drawn, "--features", weights, "--device", "cpu"]
    more = ["--train", unseen, "--classifier", weights, "--seams", "8"]
    assert main([*call, *more]) == 0
    out, err = capsys.readouterr()
    assert "training pictures" in out
    assert "the patch period" in out
    assert "16 pictures of each" in err
    assert "sha256" in err
    assert main([*call, *more, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["features"]["name"] == weights
    assert found["classifier"]["name"] == weights
    assert found["measures"]["num_pictures"] == found["pictures"]["compared"] == 16
    assert [row["name"] for row in found["per_class"]] == ["ant", "bee", "cat", "dog"]
    for wrong, message in (
        (["--seams", "5"], "no grid of patches of 5"),
        (["--split", "val"], "has no split 'val'"),
        (["--limit", "3"], "3 pictures are too few"),
        (["--train", "absent"], "absent"),
    ):
        assert main([*call, *wrong]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("vitrail: error: ")
        assert message in error


@pytest.fixture
def weights_and_folders(tiny_predictor, class_folder, tmp_path):
    """A tiny classifier, sixteen real pictures of its classes, twenty samples and twenty that were learned."""
    weights = tmp_path / "tiny.safetensors"
    tiny_predictor().save(weights)
    draw = np.random.default_rng(1)
    for folder in ("drawn", "learned"):
        for name in ("ant", "bee", "cat", "dog"):
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(5):
                pixels = draw.integers(0, 256, (16, 24, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{number}.png")
    return str(weights), str(class_folder(4)), str(tmp_path / "drawn"), str(tmp_path / "learned")
