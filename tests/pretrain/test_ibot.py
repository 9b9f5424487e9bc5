"""iBOT with DINOv2's losses against a few lines after the papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from distilling import MODEL, assert_two_ranks_equal_one, batch_of, build, head_of
from torch import Tensor

import vitrail
from vitrail.build import open_checkpoint
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.foreign import dialect_for
from vitrail.config import to_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.ops.masking import mask_lowest, mask_rectangles
from vitrail.vit import ViTConfig

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def balanced(cosines: Tensor) -> Tensor:
    """Sinkhorn-Knopp as in DINOv2's paper, three rounds."""
    plan = torch.exp(cosines.double() / 0.04).T
    plan = plan / plan.sum()
    for _ in range(3):
        plan = plan / plan.sum(dim=1, keepdim=True) / plan.shape[0]
        plan = plan / plan.sum(dim=0, keepdim=True) / plan.shape[1]
    return (plan * plan.shape[1]).T.float()


def entropy(targets: Tensor, cosines: Tensor) -> Tensor:
    return -(targets * torch.log_softmax(cosines / 0.1, dim=-1)).sum(dim=-1)


def masked(task: Any, images: Tensor, mask: Tensor) -> Tensor:
    """The student's tokens, image by image."""
    vit, found = task.vit, []
    for image, hidden in zip(images, mask, strict=True):
        patches = vit.embed(image[None])[0]
        patches = torch.stack([task.mask_token[0, 0] if h else p for p, h in zip(patches, hidden, strict=True)])
        tokens = torch.cat((vit.class_token[0], patches)) + vit.positions.embedding[0]
        found.append(vit.encode(tokens[None])[0])
    return torch.stack(found)


@pytest.mark.parametrize("share_head", [True, False])
def test_the_losses_are_the_papers(share_head: bool) -> None:
    options = {"share_head": share_head, "normalise_prototypes": not share_head}
    task, batch, num = build("ibot", mask_probability=0.7, **options), batch_of(), 6
    whole, local = [batch["view1"], batch["view3"]], [batch["view0"], batch["view2"], batch["view4"]]
    mask = task.hide(batch, torch.cat(whole)).mask
    assert 0 < mask.any(dim=1).sum() < 12
    losses = task.loss(batch)

    teacher, student_head = task.teacher, task.head if share_head else task.patch_head
    teacher_head = teacher["head"] if share_head else teacher["patch_head"]
    with torch.no_grad():
        taught = teacher["vit"](torch.cat(whole))
        targets = balanced(head_of(teacher["head"], taught.tokens[:, 0])).split(num)
        patch_targets = balanced(head_of(teacher_head, taught.patches[mask]))
    seen = masked(task, torch.cat(whole), mask)
    tokens = [*seen[:, 0].split(num), *(task.vit(view).tokens[:, 0] for view in local)]
    class_loss = sum(
        entropy(targets[t], head_of(task.head, tokens[s])).mean() for t in range(2) for s in range(5) if s != t
    )
    torch.testing.assert_close(losses["class_loss"], class_loss / 8, **CLOSE)

    errors = torch.zeros(mask.shape)
    errors[mask] = entropy(patch_targets, head_of(student_head, seen[:, 1:][mask]))
    patch_loss = sum(errors[i][mask[i]].mean() for i in range(12) if mask[i].any()) / 12
    torch.testing.assert_close(losses["patch_loss"], patch_loss, **CLOSE)

    spread = 0.0
    for crop in tokens[:2]:
        unit = crop / crop.norm(dim=1, keepdim=True)
        distances = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist") + 9 * torch.eye(num)
        spread += -distances.amin(dim=1).log().mean()
    torch.testing.assert_close(losses["koleo"], spread, **CLOSE)
    torch.testing.assert_close(losses["loss"], class_loss / 8 + patch_loss + 0.1 * spread, **CLOSE)


def test_without_masks_there_is_no_patch_loss() -> None:
    task = build("ibot", mask_probability=0.0, share_head=False)
    losses = task.loss(batch_of())
    losses["loss"].backward()
    assert losses["patch_loss"] == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in task.parameters() if p.requires_grad)


@pytest.mark.parametrize("share_head", [True, False])
def test_two_ranks_equal_one(share_head: bool) -> None:
    assert_two_ranks_equal_one(build("ibot", share_head=share_head))


def test_every_head_has_a_teacher_that_follows() -> None:
    task = build("ibot", share_head=False, momentum=0.5)
    before, own = (head.prototypes.weight.clone() for head in (task.teacher["patch_head"], task.patch_head))
    task.after_step(0, 10)
    torch.testing.assert_close(task.teacher["patch_head"].prototypes.weight, (before + own) / 2)
    assert "patch_head.mlp.0.weight" in task.state_dict()
    assert not [name for name in build("ibot").state_dict() if "patch_head" in name]


@pytest.mark.parametrize("kind", ["blocks", "random"])
def test_masks_hang_on_keys_and_keep_to_their_range(kind: str) -> None:
    task = build("ibot", mask=kind, mask_ratio=(0.25, 0.5))
    keys = torch.randint(2**62, (400,))
    images = torch.zeros(800, 1, 16, 16)
    hidden = task.hide({"keys": keys}, images)
    counts = hidden.mask.sum(dim=1)
    assert ((counts == 0) | ((counts >= 4) & (counts <= 8))).all()
    assert 0.4 < (counts > 0).float().mean() < 0.6
    assert counts[counts > 0].unique().tolist() == [4, 5, 6, 7]
    sums = torch.zeros(800).index_add(0, hidden.places // 16, hidden.weights)
    torch.testing.assert_close(sums, (counts > 0).float())
    some = task.hide({"keys": keys[[7, 3]]}, images[:4])
    assert torch.equal(some.mask, hidden.mask[[7, 3, 407, 403]])
    assert not torch.equal(hidden.mask[:400], hidden.mask[400:])


def test_rectangles_are_rectangles() -> None:
    counts = torch.randint(0, 61, (200,))
    whole, ties = torch.rand(200, 1, 4), torch.rand(200, 80)
    whole[..., 0] = 1  # one rectangle of about the whole count
    mask = mask_rectangles(whole, ties, (8, 10), counts).unflatten(1, (8, 10))
    assert (mask.sum((1, 2)) == counts).all()
    boxes = [m.any(1).sum() * m.any(0).sum() for m in mask]
    filled = torch.stack([m.sum() / box for m, box in zip(mask, boxes, strict=True) if box])
    scattered = mask_lowest(ties, counts).unflatten(1, (8, 10))
    boxes = [m.any(1).sum() * m.any(0).sum() for m in scattered]
    loose = torch.stack([m.sum() / box for m, box in zip(scattered, boxes, strict=True) if box])
    assert filled.median() > 0.75 > loose.median()
    assert (scattered.sum((1, 2)) == counts).all()


def test_overlapping_patches_are_refused() -> None:
    with pytest.raises(vitrail.UserError, match=r"leave out embed\.stride"):
        build("ibot", ViTConfig(**{**to_dict(MODEL), "embed": {"kind": "patch", "stride": 2}}))


def test_a_model_with_layer_scale_becomes_a_dinov2_and_back(tmp_path: Path) -> None:
    block = {**to_dict(MODEL.block), "layer_scale": 1e-5}
    task = build("ibot", ViTConfig(**{**to_dict(MODEL), "channels": 3, "block": block})).eval()
    vitrail.Predictor(task, PreprocessConfig(size=16), device="cpu").save(tmp_path / "own.safetensors")
    vitrail.convert(tmp_path / "own.safetensors", tmp_path / "hf", to="huggingface")
    found = open_checkpoint(tmp_path / "hf")
    assert found.dialect == "hf_dinov2"
    loaded = found.load().vit.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in task.teacher["vit"].state_dict().items())
    assert dialect_for("timm", Description.of(found.task, None)) == "timm"
