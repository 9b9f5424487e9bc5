from __future__ import annotations

import pytest
import torch

from vitrail.nn.box_refinement import logit
from vitrail.nn.denoising import Denoising, DenoisingConfig
from vitrail.nn.detr_decoder import DecoderConfig, DetrDecoder, Queries, sines
from vitrail.nn.init import initialise
from vitrail.nn.levels import Level
from vitrail.nn.object_queries import ObjectQueries
from vitrail.nn.query_groups import joined
from vitrail.ops.set_losses import Truth

D = 16
CONFIG = DecoderConfig(dim=D, depth=2, heads=2, mlp_dim=32, num_queries=5)


def random_decoder():
    decoder = DetrDecoder(CONFIG).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return decoder


def level(height, width, images=2):
    x, y = ((torch.arange(n) + 0.5).expand(images, n) / n for n in (width, height))
    cell = torch.tensor([1 / width, 1 / height]).expand(images, 2)
    return Level(torch.randn(images, D, height, width), x, y, cell, None)


def random_queries(count, images=2):
    return Queries(torch.randn(images, count, D), torch.rand(images, count, 4) * 0.8 + 0.1)


def test_boxes_are_refined_layer_by_layer_from_where_queries_stand():
    decoder, queries = random_decoder(), random_queries(5)
    initialise(decoder)
    untrained = decoder(queries, [level(3, 4)])
    assert len(untrained) == 2
    torch.testing.assert_close(untrained[-1].boxes, queries.boxes, atol=1e-4, rtol=1e-4)
    decoder = random_decoder()
    (first, early, *_), (last, late, *_) = decoder(queries, [level(3, 4)])
    torch.testing.assert_close(late, (logit(early) + decoder.box(last)).sigmoid())
    torch.testing.assert_close(early, (logit(queries.boxes) + decoder.box(first)).sigmoid())
    assert early.requires_grad
    assert ((late > 0) & (late < 1)).all()


def test_a_layers_box_passes_no_gradient_to_the_layer_before():
    decoder, queries = random_decoder(), random_queries(5)
    boxes = queries.boxes.clone().requires_grad_()
    (_, early, *_), (_, late, *_) = decoder(Queries(queries.content, boxes), [level(3, 4)])
    assert torch.autograd.grad(early.sum(), boxes, retain_graph=True)[0].abs().sum() > 0
    assert torch.autograd.grad(late.sum(), early, allow_unused=True)[0] is None


def test_the_order_of_queries_is_theirs_alone():
    decoder, queries, levels = random_decoder(), random_queries(5), [level(3, 4), level(2, 2)]
    order = torch.randperm(5)
    shuffled = decoder(Queries(queries.content[:, order], queries.boxes[:, order]), levels)
    for (x, boxes, *_), (x_shuffled, boxes_shuffled, *_) in zip(decoder(queries, levels), shuffled, strict=True):
        torch.testing.assert_close(x[:, order], x_shuffled, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(boxes[:, order], boxes_shuffled)


def test_padding_is_not_read():
    decoder, queries, own = random_decoder(), random_queries(5), level(3, 4)
    canvas, hidden = torch.randn(2, D, 5, 6), torch.ones(2, 5, 6, dtype=torch.bool)
    canvas[:, :, :3, :4], hidden[:, :3, :4] = own.map, False
    x, y = ((torch.arange(n) + 0.5).expand(2, n) / whole for n, whole in ((6, 4), (5, 3)))
    alone, padded = decoder(queries, [own])[-1], decoder(queries, [Level(canvas, x, y, own.cell, hidden)])[-1]
    for mine, theirs in zip(alone[:2], padded[:2], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_groups_of_queries_do_not_see_each_other():
    decoder, levels = random_decoder(), [level(3, 4)]
    main, other = random_queries(5), random_queries(7)
    x, boxes, *_ = decoder(joined([main, other]), levels)[-1]
    for start, end, group in ((0, 5, main), (5, 12, other)):
        alone = decoder(group, levels)[-1]
        torch.testing.assert_close(x[:, start:end], alone[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(boxes[:, start:end], alone[1])


def test_the_bias_draws_attention_by_the_distance_from_the_box():
    bias = random_decoder().bias
    found = bias(torch.tensor([[[0.5, 0.5, 0.4, 0.2]]]), level(4, 4, images=1)).unflatten(-1, (4, 4))
    flipped = bias(torch.tensor([[[0.5, 0.5, 0.2, 0.4]]]), level(4, 4, images=1)).unflatten(-1, (4, 4))
    assert found.shape == (1, 2, 1, 4, 4)
    inner = found - found.mean(-1, keepdim=True) - found.mean(-2, keepdim=True) + found.mean((-2, -1), keepdim=True)
    torch.testing.assert_close(inner, torch.zeros_like(inner), atol=1e-5, rtol=0)  # columns and rows add up
    assert not torch.allclose(found, flipped)


def test_sines_tell_places_apart():
    found = sines(torch.linspace(0, 1, 50)[:, None], 8)
    assert found.shape == (50, 1, 8)
    assert torch.cdist(found[:, 0], found[:, 0]).fill_diagonal_(1).min() > 0.01


def truth():
    return Truth(torch.randint(4, (5,)), torch.rand(5, 4) * 0.4 + 0.2, (3, 0, 2))


def test_noised_queries_stay_near_their_objects_and_their_group():
    config = DenoisingConfig(groups=2, box=0.4, label=0.0)
    denoising, given = Denoising(4, D, config), truth()
    queries, image, query, pairs = denoising(given)
    assert pairs.image.tolist() == [0] * 10
    assert pairs.query.tolist() == [*range(10)]
    assert queries.content.shape == (3, 6, D)
    assert sorted(pairs.target.tolist()) == sorted([*range(5), *range(5)])
    expected = {0: [0, 1, 2], 2: [3, 4]}
    for number, targets in expected.items():
        assert pairs.target[image == number].tolist() == targets * 2
    true, moved = given.boxes[pairs.target], queries.boxes[image, query]
    assert ((moved[:, :2] - true[:, :2]).abs() <= 0.2 * true[:, 2:] + 1e-6).all()
    assert ((moved[:, 2:] / true[:, 2:] - 1).abs() <= 0.4 + 1e-5).all()
    assert (moved - true).abs().min() > 0
    torch.testing.assert_close(queries.content[image, query], denoising.label(given.labels[pairs.target]))
    sees = queries.mask[2, 0]
    assert sees[0].tolist() == [True, True, False, False, False, False]
    assert sees[4].tolist() == [False, False, False, True, True, False]
    assert queries.mask.any(-1).all()


def test_contrastive_queries_have_as_many_with_more_noise_that_are_no_object():
    config = DenoisingConfig(groups=2, box=0.4, label=0.0, contrastive=True)
    given = truth()
    queries, image, query, pairs = Denoising(4, D, config)(given)
    assert queries.content.shape == (3, 12, D)
    assert len(image) == len(query) == 20
    assert pairs.query.tolist() == [*range(10)]
    place = (query[:10], query[10:])
    assert (place[0] % 6 < 3).all()  # of three objects at most
    assert (place[1] % 6 >= 3).all()
    torch.testing.assert_close(place[1], place[0] + 3)
    true = given.boxes[pairs.target]
    for rows, least, most in ((slice(10), 0, 0.4), (slice(10, 20), 0.4, 0.8)):
        moved = queries.boxes[image[rows], query[rows]]
        noise = torch.cat((2 * (moved[:, :2] - true[:, :2]) / true[:, 2:], moved[:, 2:] / true[:, 2:] - 1), dim=1).abs()
        assert ((noise >= least - 1e-5) & (noise <= most + 1e-5)).all()
    sees = queries.mask[0, 0]
    assert sees[0].tolist() == sees[5].tolist() == [True] * 6 + [False] * 6


@pytest.mark.parametrize("rate", [0.0, 0.9])
def test_labels_are_flipped_as_often_as_asked(rate):
    denoising = Denoising(4, D, DenoisingConfig(groups=100, label=rate))
    given = truth()
    queries, image, query, pairs = denoising(given)
    content = queries.content[image, query]
    kept = (content == denoising.label(given.labels[pairs.target])).all(dim=1).float().mean().item()
    assert kept == pytest.approx(1 - rate * 3 / 4, abs=0.08)


def test_a_batch_without_objects_has_queries_all_the_same():
    none = Truth(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), (0, 0))
    queries, *_, pairs = Denoising(4, D, DenoisingConfig(groups=2))(none)
    assert len(pairs.query) == 0
    assert random_decoder()(joined([random_queries(5), queries]), [level(2, 2)])[-1][0].isfinite().all()


def test_first_boxes_are_spread_over_the_image():
    queries = ObjectQueries(200, D)
    initialise(queries)
    boxes = queries(3).boxes
    assert boxes.shape == (3, 200, 4)
    assert boxes[0, :, :2].std().item() == pytest.approx(12**-0.5, abs=0.05)
    torch.testing.assert_close(boxes[..., 2:], torch.full((3, 200, 2), 0.25))
