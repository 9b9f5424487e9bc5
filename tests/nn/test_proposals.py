from __future__ import annotations

import torch

from vitrail.nn.init import initialise
from vitrail.nn.levels import Level
from vitrail.nn.proposals import CELLS, Proposals


def level(rows, columns, padding=None, images=2, dim=8):
    x, y = ((torch.arange(n) + 0.5).div(n).expand(images, -1) for n in (columns, rows))
    cell = torch.tensor([1 / columns, 1 / rows]).expand(images, -1)
    return Level(torch.randn(images, dim, rows, columns), x, y, cell, padding)


def build(num_queries=3):
    module = Proposals(8, 4, num_queries)
    initialise(module)
    return module


def test_every_cell_first_proposes_a_box_around_itself():
    boxes = build()([level(3, 5), level(2, 2)], 4).boxes
    assert boxes.shape == (2, 19, 4)
    torch.testing.assert_close(boxes[0, 7], torch.tensor([2.5 / 5, 1.5 / 3, CELLS / 5, 1 - 1e-5]), atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes[1, 15:, :2], torch.tensor([[1, 1], [3, 1], [1, 3], [3, 3]]) / 4)


def test_a_map_of_one_row_or_column_proposes_boxes_with_an_extent():
    row, column = (build()([level(*grid)], 4).boxes[0] for grid in ((1, 5), (4, 1)))
    torch.testing.assert_close(row[:, 2:], torch.tensor([CELLS / 5, 1]).expand(5, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(column[:, 2:], torch.tensor([1, CELLS / 4]).expand(4, 2), atol=1e-4, rtol=0)


def test_queries_are_the_best_cells_with_their_boxes_and_features():
    module, levels = build(), [level(3, 5)]
    torch.nn.init.normal_(module.box.output.weight)
    found = module(levels, 3)  # the last logit stands for no class
    best = found.logits[..., :3].amax(dim=-1)
    features = module.content(module.norm(levels[0].map.flatten(2).transpose(1, 2)))
    for image in range(2):
        order = best[image].argsort(descending=True)[:3]
        torch.testing.assert_close(found.queries.boxes[image], found.boxes[image, order])
        torch.testing.assert_close(found.queries.content[image], features[image, order])


def test_gradients_reach_proposals_by_their_own_loss_alone():
    module, source = build(), level(3, 5)
    source.map.requires_grad_()
    found = module([source], 4)
    (found.queries.content.sum() + found.queries.boxes.sum()).backward()
    assert source.map.grad is None
    assert module.score.weight.grad is None
    (found.logits.sum() + found.boxes.sum()).backward()
    assert source.map.grad.abs().sum() > 0


def test_padding_proposes_nothing_and_few_cells_make_few_queries():
    padding = torch.zeros(2, 3, 5, dtype=torch.bool)
    padding[0, :, 2:] = True
    module = build(num_queries=6)
    x = module([level(3, 5, padding)], 4).queries.boxes[0, :, 0]
    assert (x < 0.4).all()
    assert build(num_queries=9)([level(2, 2)], 4).queries.content.shape == (2, 4, 8)
