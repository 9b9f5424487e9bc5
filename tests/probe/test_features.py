"""Whatever the batches and wherever they are kept, features are the backbone's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vitrail.data.source import SourceConfig, open_source
from vitrail.data.transforms.augment import Augment
from vitrail.errors import UserError
from vitrail.nn.pooling import build_pool
from vitrail.probe import AUGMENT
from vitrail.probe.features import Computed, Reader, gathered, sample, store

LAYERS = [1, 0]


def reader_of(predictor, pool):
    made = build_pool(pool, 32, 1, 1, "gelu", 0.0) if pool else None
    return Reader(predictor.task.vit, made, predictor.device)


@pytest.fixture
def train(bands):
    return open_source(SourceConfig(spec=str(bands), val_fraction=0)).train


def everything(features, size=11, **options):
    return [torch.cat(part) for part in zip(*features.batches(size, **options), strict=True)]


@pytest.mark.parametrize("pool", ["cls", "mean", "cls_mean", None])
def test_batches_change_nothing(tiny_predictor, train, pool):
    predictor = tiny_predictor(registers=2)
    reader = reader_of(predictor, pool)
    whole = store(reader, train, predictor.preprocess, 1, LAYERS, 90)
    parts = store(reader, train, predictor.preprocess, 1, LAYERS, 7)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.values, other.values, rtol=2e-3 if pool is None else 1e-5, atol=1e-4)
        assert torch.equal(one.labels, torch.from_numpy(train.targets))
        assert one.values.dtype == (torch.float16 if pool is None else torch.float32)


@pytest.mark.parametrize("pool", ["cls", "mean", "cls_mean"])
def test_the_last_layer_is_what_the_model_embeds(tiny_predictor, train, pool):
    predictor = tiny_predictor(pool=pool)
    (features,) = store(reader_of(predictor, pool), train, predictor.preprocess, 1, [1], 16)
    expected = predictor.embed([train.read(i) for i in range(len(train))])
    np.testing.assert_allclose(gathered(features)[0], expected, rtol=1e-4, atol=1e-4)


def test_an_inner_layer_passes_the_final_norm(tiny_predictor, train):
    predictor = tiny_predictor()
    predictor.task.vit.norm.weight.data = torch.rand(32)
    (features,) = store(reader_of(predictor, None), train, predictor.preprocess, 1, [0], 16)
    vit = predictor.task.vit
    with torch.no_grad():
        x, _, _ = vit.tokenise(torch.cat([predictor.tensor(train.read(i)) for i in range(5)]))
        expected = vit.norm(vit.blocks[0](x))[:, 1:]
    torch.testing.assert_close(features.values[0, :5].float(), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("seed", [None, 5])
def test_computed_features_are_the_kept_ones_in_the_same_order(tiny_predictor, train, seed):
    predictor = tiny_predictor()
    reader = reader_of(predictor, None)
    kept = store(reader, train, predictor.preprocess, 1, LAYERS, 16)[1]
    anew = Computed.of(reader, train, predictor.preprocess, LAYERS[1])
    rows = np.array([80, 3, 4, 41, 17, 9, 12])
    for one, other in ((kept, anew), (kept.subset(rows), anew.subset(rows))):
        x, labels = everything(one, 4, seed=seed, epochs=2)
        y, same = everything(other, 4, seed=seed, epochs=2)
        assert torch.equal(labels, same)
        assert len(labels) == 2 * (len(one) if seed is None else len(one) // 4 * 4)
        torch.testing.assert_close(x, y, rtol=2e-3, atol=2e-3)


def test_every_epoch_shuffles_anew_and_shows_the_next_view(stored):
    values = torch.arange(2 * 10 * 1).reshape(2, 10, 1).float()
    features = stored(values, torch.arange(10), views=True)
    epochs = everything(features, 5, seed=1, epochs=4)[0].flatten().split(10)
    assert [sorted(each.tolist()) for each in epochs] == [[*range(10)], [*range(10, 20)]] * 2
    assert len({tuple((each % 10).tolist()) for each in epochs}) == 4
    again = everything(features, 5, seed=1, epochs=4)[0].flatten().split(10)
    assert all(torch.equal(one, other) for one, other in zip(epochs, again, strict=True))
    rows, labels = gathered(features)
    assert torch.equal(rows.flatten(), values.flatten())
    assert labels.tolist() == [*range(10), *range(10)]


def test_views_are_augmented_each_in_its_own_way(tiny_predictor, train):
    predictor = tiny_predictor()
    transform = Augment(AUGMENT, predictor.preprocess.config)
    (features,) = store(reader_of(predictor, "cls"), train, transform, 3, [1], 16)
    first, second, third = features.values
    assert (first - second).abs().amax(1).min() > 1e-4
    assert (second - third).abs().amax(1).min() > 1e-4
    (again,) = store(reader_of(predictor, "cls"), train, transform, 3, [1], 50)
    torch.testing.assert_close(features.values, again.values, rtol=1e-4, atol=1e-4)


def test_without_a_final_norm_tokens_keep_their_range(tiny_predictor):
    reader = reader_of(tiny_predictor(final_norm=False), None)
    assert reader.dtype == torch.bfloat16
    assert reader.num_bytes((16, 24)) == 2 * 3 * 32 * 2


def test_a_sample_comes_from_all_over(stored):
    values = torch.arange(1000.0)[:, None].expand(-1, 3)
    found = sample(stored(values, torch.zeros(1000, dtype=torch.int64)), 10)
    assert found[:, 0].tolist() == [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]
    tokens = torch.randn(20, 4, 3)
    torch.testing.assert_close(sample(stored(tokens, torch.zeros(20))), tokens.mean(dim=1))


def test_an_unreadable_image_is_named(tiny_predictor, train, tmp_path):
    from vitrail.data.media.decode import BadImage

    @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
    class Damaged(type(train)):
        def read(self, index):
            if index == 4:
                raise BadImage("is damaged")
            return super().read(index)

    damaged = Damaged(**{f.name: getattr(train, f.name) for f in dataclasses.fields(train)})
    predictor = tiny_predictor()
    with pytest.raises(UserError, match=r"train.*\[4\]"):
        store(reader_of(predictor, "cls"), damaged, predictor.preprocess, 1, [1], 16)
