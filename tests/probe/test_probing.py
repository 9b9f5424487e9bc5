"""The whole probe: roles of the splits, draws of labels, layers, pools, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import vitrail.probe
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError
from vitrail.metrics.confidence import student, wilson
from vitrail.metrics.representation import feature_std
from vitrail.probe import Protocol, probe
from vitrail.probe.features import Stored
from vitrail.probe.result import Outcome, Result, Score, Setting, Trial
from vitrail.probe.sources import find


@pytest.fixture
def spied(monkeypatch):
    """The sets that the method kNN was given, in order."""
    from vitrail.probe.methods import knn

    seen, measure = [], knn.measure

    def spy(sets, options, seed):
        seen.append((sets, seed))
        return measure(sets, options, seed)

    monkeypatch.setattr(knn, "measure", spy)
    return seen


def test_bands_are_told_apart_by_every_method(tiny_predictor, bands):
    for method in vitrail.probe.method_names():
        options = {} if method == "knn" else {"epochs": 15, "batch_size": 20}
        result = probe(tiny_predictor(), str(bands), method, options=options)
        (score,) = result.scores
        assert score.accuracy > 0.6, method
        assert score.interval == wilson(score.accuracy, 45)
        assert (score.layer, score.std, result.split) == (1, None, "test")
        assert result.images == {"train": 81, "val": 9, "test": 45}
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["scores"][0]["accuracy"] == score.accuracy


def test_numbers_are_those_of_scikit_learn_on_embedded_images(tiny_predictor, bands):
    predictor = tiny_predictor(pool="mean")
    splits = open_source(SourceConfig(spec=str(bands)))
    x, y = ((predictor.embed([s.read(i) for i in range(len(s))]), s.targets) for s in (splits.train, splits.test))
    mean, std = x[0].mean(axis=0), x[0].std(axis=0)
    reference = LogisticRegression(max_iter=2000).fit((x[0] - mean) / std, x[1])
    expected = reference.score((y[0] - mean) / std, y[1])
    found = probe(predictor, str(bands), "linear", batch_size=90).scores[0].accuracy
    assert found == pytest.approx(expected, abs=0.05)  # two of 45 images


def test_a_share_of_the_labels_is_drawn_for_each_seed(tiny_predictor, bands, spied):
    result = probe(tiny_predictor(), str(bands), protocol=Protocol(labels=(0.1, 1.0), seeds=4))
    few, whole = result.scores
    assert [seed for _, seed in spied] == [0, 1, 2, 3, 0]
    assert [len(sets.train) for sets, _ in spied] == [9] * 4 + [81]
    assert all(sets.train.labels.bincount().tolist() == [3, 3, 3] for sets, _ in spied[:4])
    drawn = {tuple(sets.train.values[0, :, 0].tolist()) for sets, _ in spied[:4]}
    assert len(drawn) == 4
    everything = set(spied[4][0].train.values[0, :, 0].tolist())
    assert all(set(each) <= everything for each in drawn)
    assert (whole.std, len(whole.trials), whole.trials[0].num_labels) == (None, 1, 81)
    again = probe(tiny_predictor(), str(bands), protocol=Protocol(labels=(0.1,), seeds=4)).scores[0]
    assert again.accuracies == few.accuracies


def test_the_summary_of_several_draws():
    values = np.random.default_rng().uniform(0.4, 0.6, 5)
    trials = [
        Trial(i, 10, Outcome((Setting({"lr": 0.1, "wd": 0.0}, 0.2, 0.99), Setting({"lr": 0.3, "wd": 0.0}, 0.7, v))))
        for i, v in enumerate(values.tolist())
    ]
    score = Score(3, 0.1, tuple(trials), 45, 0.5)
    assert score.accuracies == values.tolist()
    assert score.accuracy == pytest.approx(values.mean())
    assert score.std == pytest.approx(values.std(ddof=1))
    assert score.interval == student(values.tolist())
    assert score.chosen == ["lr 0.3"]
    one = Score(3, 1.0, tuple(trials[:1]), 45, float("nan"))
    assert (one.std, one.interval) == (None, wilson(values[0], 45))
    (written,) = Result("knn", "photos", "test", "cls", {}, {}, {}, (one,)).table.to_dict()
    assert written["spread"] is None
    sure = [Trial(i, 10, Outcome((Setting({"k": 1}, 1.0, v),))) for i, v in enumerate((1.0, 0.9))]
    assert Score(0, 0.1, tuple(sure), 45, 1.0).interval[1] == 1.0


def test_only_the_images_that_were_drawn_are_looked_at(tiny_predictor, bands, monkeypatch):
    sizes = []
    store = vitrail.probe.store
    monkeypatch.setattr(vitrail.probe, "store", lambda r, s, *rest: [sizes.append(len(s)), store(r, s, *rest)][1])
    probe(tiny_predictor(), str(bands), protocol=Protocol(labels=(0.04,), seeds=2))
    assert sizes[0] <= 6
    assert sizes[1:] == [9, 45]


def test_each_layer_is_measured(tiny_predictor, bands, spied):
    predictor = tiny_predictor()
    result = probe(predictor, str(bands), protocol=Protocol(layers="all", pool="cls_mean"))
    assert [score.layer for score in result.scores] == [0, 1]
    images = torch.cat([predictor.tensor(open_source(SourceConfig(spec=str(bands))).test.read(i)) for i in range(45)])
    with torch.no_grad():
        layers = predictor.task.vit.intermediates(images, norm=True)
    for score, (sets, _), features in zip(result.scores, spied, layers, strict=True):
        expected = torch.cat((features.cls, features.patches.mean(dim=1)), dim=1)
        torch.testing.assert_close(sets.test.values[0], expected, rtol=1e-4, atol=1e-4)
        assert sets.width == 64
        assert score.spread == pytest.approx(float(feature_std(expected)), rel=1e-4)
    twice = probe(predictor, str(bands), protocol=Protocol(layers=(-1, 0, 1)))
    assert [score.layer for score in twice.scores] == [1, 0]


@pytest.mark.parametrize(
    ("task", "model", "pool"),
    [
        ({}, {}, "cls"),
        ({}, {"class_token": False}, "mean"),
        ({"pool": "mean"}, {}, "mean"),
        ({"pool": "cls_mean"}, {}, "cls_mean"),
        ({"pool": "attention"}, {}, "cls"),
        ({"pool": "max"}, {"class_token": False}, "mean"),
    ],
)
def test_vectors_are_pooled_as_the_model_does_it(tiny_predictor, bands, task, model, pool):
    assert probe(tiny_predictor(**task, **model), str(bands)).pool == pool


def test_tokens_over_the_limit_are_computed_anew(tiny_predictor, bands, capsys):
    predictor, options = tiny_predictor(), {"lrs": (0.001,), "epochs": 2}
    kept, anew = (probe(predictor, str(bands), "attentive", Protocol(memory=limit), options) for limit in (1, 0))
    told = capsys.readouterr().err
    assert "GiB as float16, kept" in told
    assert "over memory=0, so every pass computes them again" in told
    assert kept.pool == "patches"
    one, other = (each.scores[0].trials[0].outcome.settings[0] for each in (kept, anew))
    assert one.val_loss == pytest.approx(other.val_loss, rel=0.02)


def test_augmented_views_are_learned_from(tiny_predictor, bands, spied):
    result = probe(tiny_predictor(), str(bands), protocol=Protocol(augment=3))
    ((sets, _),) = spied
    assert sets.train.values.shape == (3, 81, 32)
    assert sets.test.num_views == 1
    assert result.protocol["augment"] == 3


def test_a_pretraining_is_probed(bands):
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.predictor import Predictor
    from vitrail.pretrain.mae import Config, Task
    from vitrail.vit import ViTConfig

    model = ViTConfig(image_size=16, patch_size=8, dim=32, depth=2, heads=2, mlp_dim=48)
    small = {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp_dim": 32}
    predictor = Predictor(Task(Config(model=model, **small)), PreprocessConfig(size=16), device="cpu")
    result = probe(predictor, str(bands), protocol=Protocol(layers=(0, -1)))
    assert result.pool == "cls"
    assert len(result.scores) == 2

    class Student(Task):
        """What is kept is not the network that learns."""

        def encoders(self):
            return {"teacher": self.teacher, "vit": self.vit}

    task = Student(Config(model=model, **small))
    task.teacher = Task(Config(model=model, **small)).vit
    torch.nn.init.zeros_(task.teacher.norm.weight)
    collapsed = probe(Predictor(task, PreprocessConfig(size=16), device="cpu"), str(bands))
    assert collapsed.scores[0].spread == pytest.approx(0, abs=1e-6)


class TestRoles:
    def test_settings_are_chosen_on_val_where_test_is_measured(self, bands):
        roles = find(SourceConfig(spec=str(bands), val_fraction=0.2), None)
        assert (roles.split, roles.counts) == ("test", {"train": 72, "val": 18, "test": 45})

    def test_else_on_held_out_training_images(self, bands, capsys):
        for config, split, counts in (
            (SourceConfig(spec=str(bands), val_fraction=0), None, {"train": 81, "val": 9, "test": 45}),
            (SourceConfig(spec=str(bands), val_fraction=0.2), "val", {"train": 66, "val": 6, "test": 18}),
        ):
            roles = find(config, split)
            assert roles.counts == counts
            names = [{s.name(i) for i in range(len(s))} for s in (roles.train, roles.val, roles.test)]
            assert sum(map(len, names)) == len(set.union(*names))
            assert f"chosen on {counts['val']} of the training images" in capsys.readouterr().err

    def test_a_folder_without_splits_is_measured_on_its_own_val(self, bands):
        (bands / "test.npz").unlink()
        roles = find(SourceConfig(spec=str(bands)), None)
        assert (roles.split, roles.counts) == ("val", {"train": 72, "val": 9, "test": 9})

    @pytest.mark.parametrize(
        ("change", "split", "message"),
        [
            ("train", None, "has no training images; give data with the splits"),
            ("test", None, "has no images to measure on; give data"),
            ("", "tets", "cannot measure on the split 'tets'; did you mean 'test'"),
            ("", "train", "cannot measure on the split 'train'; choose one of: val, test"),
        ],
    )
    def test_what_is_missing_is_said(self, bands, change, split, message):
        if change:
            (bands / f"{change}.npz").unlink()
        with pytest.raises(UserError, match=message):
            find(SourceConfig(spec=str(bands), val_fraction=0.0 if change else 0.1), split)

    def test_a_single_image_a_class_is_too_little(self, bands):
        with np.load(bands / "train.npz") as data:
            np.savez(bands / "train.npz", images=data["images"][:3], labels=data["labels"][:3])
        with pytest.raises(UserError, match="one training image a class"):
            find(SourceConfig(spec=str(bands), val_fraction=0), None)

    @pytest.mark.parametrize(
        ("labels", "kind", "message"),
        [
            (np.random.default_rng(0).random((90, 2)), "number", "numbers for labels"),
            (np.eye(3, dtype=np.uint8)[np.arange(90) % 3], "multilabel", "several labels an image"),
            (None, "auto", "no labels"),
        ],
    )
    def test_other_labels_are_refused(self, bands, labels, kind, message):
        (bands / "test.npz").unlink()
        with np.load(bands / "train.npz") as data:
            images = data["images"]
        columns = {"images": images} if labels is None else {"images": images, "labels": labels}
        np.savez(bands / "train.npz", **columns)
        config = SourceConfig(spec=str(bands), kind=kind, labelled="auto" if labels is None else True)
        with pytest.raises(UserError, match=f"{message}; a probe needs one class label"):
            find(config, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": {"layers": (0, 2)}}, "there is no layer 2; this model has layers 0 to 1"),
        ({"protocol": {"layers": (-3,)}}, "there is no layer -3"),
        ({"method": "lineer"}, "unknown method 'lineer'; did you mean 'linear'"),
        ({"method": "linear", "options": {"lr": 0.1}}, "unknown setting 'lr'; did you mean 'lrs'"),
        ({"method": "linear", "options": {"epochs": 0}}, "epochs"),
        ({"method": "attentive", "protocol": {"pool": "cls"}}, "'attentive' takes the patch tokens as they are"),
        ({"data": "digitz"}, "did you mean 'digits'"),
    ],
)
def test_mistakes_are_told(tiny_predictor, bands, arguments, message):
    protocol = Protocol(**arguments.pop("protocol", {}))
    with pytest.raises(UserError, match=message):
        probe(tiny_predictor(), **{"data": str(bands), "protocol": protocol} | arguments)


def test_a_pool_that_the_model_lacks(tiny_predictor, bands):
    with pytest.raises(UserError, match="'cls_mean' needs a class token"):
        probe(tiny_predictor(class_token=False), str(bands), protocol=Protocol(pool="cls_mean"))


@pytest.mark.parametrize("bad", [{"labels": (0.0,)}, {"labels": (1.5,)}, {"labels": ()}, {"seeds": 0}, {"layers": ()}])
def test_a_protocol_checks_its_values(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        Protocol(**bad)


def test_collapsed_features_are_told(tiny_predictor, bands, capsys):
    predictor = tiny_predictor()
    torch.nn.init.zeros_(predictor.task.vit.norm.weight)
    score = probe(predictor, str(bands)).scores[0]
    assert "warning: the features of layer 1 have collapsed" in capsys.readouterr().err
    assert score.spread == pytest.approx(0, abs=1e-6)
    assert score.accuracy == pytest.approx(1 / 3, abs=0.01)


def test_features_that_are_not_finite_are_told(tiny_predictor, bands):
    predictor = tiny_predictor()
    torch.nn.init.constant_(predictor.task.vit.norm.bias, torch.nan)
    with pytest.raises(UserError, match="features of layer 1 are not finite"):
        probe(predictor, str(bands), "linear")


def test_notes_come_once(tiny_predictor, bands, capsys):
    probe(tiny_predictor(), str(bands), protocol=Protocol(labels=(0.1, 0.5), seeds=3))
    told = capsys.readouterr().err
    assert told.count("warning: layer 1, 10 % of the labels: k is at most 9, the number of labelled images") == 1
    assert told.count("k is at most") == 2


def test_the_choice_is_by_accuracy_then_by_loss_then_the_first():
    settings = [
        Setting({"lr": i}, val, 0.0, loss) for i, (val, loss) in enumerate([(0.5, 0.1), (0.6, 0.9), (0.6, 0.4)])
    ]
    assert Outcome(tuple(settings)).best.values == {"lr": 2}
    assert Outcome((Setting({"k": 1}, 0.6, 0.0), Setting({"k": 5}, 0.6, 0.0))).best.values == {"k": 1}


def test_kept_features_are_vectors_in_full_precision(tiny_predictor, bands, spied):
    probe(tiny_predictor(), str(bands))
    assert isinstance(spied[0][0].train, Stored)
    assert spied[0][0].train.values.dtype == torch.float32
