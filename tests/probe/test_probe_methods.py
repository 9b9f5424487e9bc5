"""Each method against scikit-learn or a few lines of torch; a sweep equals its heads alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from vitrail import registry
from vitrail.errors import UserError
from vitrail.probe import Sets
from vitrail.probe.features import gathered
from vitrail.probe.methods import attentive, knn, linear
from vitrail.probe.sweep import choose, groups, train


def arrays(features):
    x, labels = gathered(features)
    return x.double().numpy(), labels.numpy()


@pytest.mark.parametrize("name", registry.names("probe.methods"))
def test_every_method_keeps_the_contract(name, clouds, stored):
    module = registry.load("probe.methods", name)
    sets = clouds()
    if module.TAKES == "tokens":
        parts = (stored(each.values[0].unflatten(1, (3, 4)), each.labels) for each in (sets.train, sets.val, sets.test))
        sets = Sets(*parts, sets.num_classes, 4, sets.device)
    options = module.Options()
    outcome, again = (module.measure(sets, options, 3) for _ in range(2))
    assert outcome == again
    assert all(0 <= s.val <= 1 and 0 <= s.test <= 1 for s in outcome.settings)
    assert outcome.best.test > 0.35, "chance is 0.25"
    assert module.__doc__


def test_knn_is_scikit_learns(clouds):
    sets = clouds(spread=2.0)
    outcome = knn.measure(sets, knn.Options(k=(1, 20, 5)), 0)
    assert [s.values["k"] for s in outcome.settings] == [1, 5, 20]
    for setting in outcome.settings:
        reference = KNeighborsClassifier(
            setting.values["k"], weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute"
        ).fit(*arrays(sets.train))
        assert setting.val == pytest.approx(reference.score(*arrays(sets.val)), abs=1e-9)
        assert setting.test == pytest.approx(reference.score(*arrays(sets.test)), abs=1e-9)
    assert outcome.best.val == max(s.val for s in outcome.settings)


def test_knn_asks_no_more_neighbours_than_there_are(clouds):
    sets = clouds()
    few = Sets(sets.train.subset(np.arange(30)), sets.val, sets.test, sets.num_classes, sets.width, sets.device)
    outcome = knn.measure(few, knn.Options(), 0)
    assert [s.values["k"] for s in outcome.settings] == [10, 20, 30]
    assert outcome.notes == ("k is at most 30, the number of labelled images",)
    assert knn.measure(few, knn.Options(k=(30,)), 0).notes == ()


def test_the_linear_probe_is_close_to_logistic_regression(clouds):
    sets = clouds(spread=2.0)
    found = linear.measure(sets, linear.Options(batch_size=50), 0).best.test
    scaler = StandardScaler().fit(arrays(sets.train)[0])
    reference = LogisticRegression(max_iter=1000).fit(scaler.transform(arrays(sets.train)[0]), arrays(sets.train)[1])
    expected = reference.score(scaler.transform(arrays(sets.test)[0]), arrays(sets.test)[1])
    assert 0.5 < expected < 0.95, "neither too easy nor too hard to tell"
    assert found == pytest.approx(expected, abs=0.04)


def test_stacked_linear_heads_learn_what_each_learns_alone(clouds):
    sets = clouds()
    options = linear.Options(lrs=(0.01, 0.3, 2.0), weight_decays=(0.0, 0.02), epochs=4, batch_size=64)
    heads = linear.LinearHeads(6, sets.width, sets.num_classes)
    train(heads, torch.optim.SGD(groups(heads, options), momentum=0.9), sets.train, options, 7)
    batches = list(sets.train.batches(64, seed=7, epochs=4))
    for setting, weight, bias in zip(options.grid, heads.weights, heads.biases, strict=True):
        norm = nn.BatchNorm1d(sets.width, eps=1e-6, momentum=None, affine=False)
        alone = nn.Linear(sets.width, sets.num_classes)
        nn.init.zeros_(alone.weight)
        nn.init.zeros_(alone.bias)
        optimizer = torch.optim.SGD(alone.parameters(), momentum=0.9, **setting)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
        for x, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(alone(norm(x)), labels).backward()
            optimizer.step()
            schedule.step()
        assert alone.weight.abs().max() > 0.02
        torch.testing.assert_close(weight.T, alone.weight, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(bias[0], alone.bias, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(heads.norm.running_var, norm.running_var)


def test_a_few_steps_know_the_mean_of_the_features(clouds, stored):
    sets = clouds()
    far = [stored(each.values[0] + 100, each.labels) for each in (sets.train, sets.val, sets.test)]
    options = linear.Options(epochs=3)
    moved = linear.measure(Sets(*far, sets.num_classes, sets.width, sets.device), options, 0).best.test
    assert moved == pytest.approx(linear.measure(sets, options, 0).best.test, abs=0.02)


def tokens(stored, num=240, num_tokens=6, dim=16):
    """Noise, in which one token that bears a mark tells the class; of the others each tells a wrong one."""

    def some(num):
        labels = torch.randint(4, (num,))
        shown = torch.randint(4, (num, num_tokens))
        marked = torch.randint(num_tokens, (num,))
        shown[torch.arange(num), marked] = labels
        values = 0.1 * torch.randn(num, num_tokens, dim)
        values[..., :4] += 2.0 * nn.functional.one_hot(shown, 4)
        values[torch.arange(num), marked, 4] += 4.0
        return stored(values, labels)

    return Sets(some(2 * num), some(num), some(num), 4, dim, torch.device("cpu"))


def test_attention_finds_the_patch_that_matters(stored):
    sets = tokens(stored)
    outcome = attentive.measure(sets, attentive.Options(lrs=(0.003,), epochs=30), 0)
    means = (stored(each.values[0].mean(dim=1), each.labels) for each in (sets.train, sets.val, sets.test))
    blind = linear.measure(Sets(*means, 4, 16, sets.device), linear.Options(epochs=20), 0)
    assert outcome.best.test > 0.9
    assert blind.best.test < 0.75


def test_attentive_heads_together_learn_what_each_learns_alone(stored):
    sets = tokens(stored, num=64)
    options = {"epochs": 2, "weight_decays": (0.0, 0.1), "heads": 2}
    together = attentive.measure(sets, attentive.Options(lrs=(0.001, 0.01), **options), 4).settings
    alone = [
        s for lr in (0.001, 0.01) for s in attentive.measure(sets, attentive.Options(lrs=(lr,), **options), 4).settings
    ]
    assert [s.values for s in together] == [s.values for s in alone]
    for one, other in zip(together, alone, strict=True):
        assert (one.val, one.test) == (other.val, other.test)
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-5)
    assert len({s.val_loss for s in together}) == 4


def test_heads_that_do_not_divide_the_width(stored):
    with pytest.raises(UserError, match="3 heads do not divide a width of 16"):
        attentive.measure(tokens(stored, num=8), attentive.Options(heads=3), 0)


@pytest.mark.parametrize(
    ("scales", "chosen", "edge"),
    [
        ((-1, 2, 1), 0.1, None),
        ((-1, 2, 3), 1.0, "highest"),  # as accurate, of lower loss
        ((2, 1, -1), 0.01, "lowest"),
        ((1, 1, 1), 0.01, "lowest"),
    ],
)
def test_the_edge_of_the_grid_is_told(stored, scales, chosen, edge):
    labels = torch.randint(4, (50,))
    features = stored(nn.functional.one_hot(labels, 4).float(), labels)
    heads = linear.LinearHeads(3, 4, 4)
    for weight, scale in zip(heads.weights, scales, strict=True):
        nn.init.eye_(weight).data.mul_(scale)  # right where the scale is positive, and surer where it is larger
    outcome = choose(heads, features, features, linear.Options(lrs=(0.01, 0.1, 1.0)))
    assert outcome.best.values["lr"] == chosen
    assert [setting.test for setting in outcome.settings] == [float(scale > 0) for scale in scales]
    told = (f"the best lr, {chosen:g}, is the {edge} of the grid; widen it with --set lrs",)
    assert outcome.notes == (told if edge else ())


def test_a_grid_of_one_has_no_edge(clouds):
    assert linear.measure(clouds(), linear.Options(lrs=(0.1,), epochs=3), 0).notes == ()


def test_a_head_that_diverges_is_never_right_and_spoils_no_other(clouds):
    sets = clouds()
    good, bad = linear.measure(sets, linear.Options(lrs=(0.1, 1e38), epochs=5), 0).settings
    assert good.test > 0.6
    assert good == linear.measure(sets, linear.Options(lrs=(0.1,), epochs=5), 0).settings[0]
    assert (bad.val, bad.test) == (0, 0)
