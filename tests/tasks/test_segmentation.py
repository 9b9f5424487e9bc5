from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vitrail import compress
from vitrail.data.media.decode import decode_map
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.windows import WindowConfig
from vitrail.ops.segmentation_losses import cell_cross_entropy, cross_entropy_and_dice, num_labelled
from vitrail.predictor import Predictor
from vitrail.tasks.segmentation import Config, Prediction, Task
from vitrail.vit import ViTConfig

NAMES = ("ground", "ant", "bee")
MODEL = {"image_size": 32, "patch_size": 8, "dim": 32, "depth": 3, "heads": 2, "mlp_dim": 48, "positions": "sincos_2d"}
HYBRID = {"embed": {"kind": "resnet", "layers": (1, 1), "width": 32}}


def build(decoder, *, std=0.2, model=None, **options):
    task = Task(Config(model=ViTConfig(**MODEL | (model or {})), classes=NAMES, decoder=decoder, **options)).eval()
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return task


CASES = pytest.mark.parametrize(
    ("decoder", "options"),
    [
        ("linear", {}),
        ("multilevel", {"hidden": 16}),
        ("multilevel", {"hidden": 16, "window": WindowConfig(size=3, num_global=1)}),
        ("transunet", {"model": HYBRID, "std": 0.05}),
        ("detail", {"hidden": 16, "coarse": 0.4}),
        ("detail", {"hidden": 16, "subpixel": 2}),
        ("transunet", {"model": HYBRID, "std": 0.05, "window": WindowConfig(size=1, num_global=1)}),
        ("detail", {"hidden": 16, "window": WindowConfig(size=3, num_global=1)}),
    ],
    ids=[
        "linear",
        "multilevel",
        "windows",
        "transunet",
        "detail",
        "squares of pixels",
        "transunet in windows",
        "detail in windows",
    ],
)


@CASES
def test_merged_tokens_count_or_are_refused(decoder, options):
    task = build(decoder, **options)
    predictor = Predictor(task, PreprocessConfig(size=32), device="cpu")
    same, fewer = (compress.apply(predictor, "tome", r=r).task for r in (0, 3))
    images = torch.randn(2, 3, 32, 32)
    if "window" in options:
        with pytest.raises(UserError, match="attention in windows need all tokens"):
            fewer(images)
        return
    torch.testing.assert_close(same(images), task(images))
    assert (fewer(images) - task(images)).abs().mean() > 1e-4
    assert fewer(images).shape == task(images).shape


@CASES
def test_every_pixel_has_logits_and_every_parameter_learns(decoder, options):
    task = build(decoder, **options)
    images, labels = torch.randn(2, 3, 24, 40), torch.randint(3, (2, 24, 40))
    labels[:, :5] = 255
    assert task(images).shape == (2, 3, 24, 40)
    task.loss({"images": images, "targets": labels})["loss"].backward()
    assert [n for n, p in task.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


@pytest.mark.parametrize("decoder", ["linear", "multilevel", "transunet", "detail"])
def test_windows_reach_every_decoder(decoder):
    model, std = (HYBRID, 0.05) if decoder == "transunet" else ({}, 0.2)
    whole = build(decoder, model=model, std=std)
    windowed = build(decoder, model=model, std=std, window=WindowConfig(size=1, num_global=1))
    windowed.load_state_dict(whole.state_dict())
    images = torch.randn(2, 3, 64, 64)
    logits, embedding = windowed.forward_with_embedding(images)
    assert (logits - whole(images)).abs().mean() > 1e-6
    torch.testing.assert_close(embedding, windowed.embed(images))


@pytest.mark.parametrize("decoder", ["linear", "multilevel", "transunet", "detail"])
def test_a_few_images_are_learned_by_heart(decoder):
    model = MODEL | (HYBRID if decoder == "transunet" else {})
    task = Task(Config(model=ViTConfig(**model), classes=NAMES, decoder=decoder))
    labels = torch.zeros(2, 32, 32, dtype=torch.int64)
    labels[0, :16, 8:24], labels[1, 8:, :16], labels[1, :8, 16:] = 1, 2, 1
    images = F.one_hot(labels, 3).movedim(-1, 1).float() + torch.randn(2, 3, 32, 32) * 0.3
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-4 if decoder == "transunet" else 3e-3)
    for _ in range(25):
        loss = task.loss({"images": images, "targets": labels})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    family = task.metrics()
    with torch.no_grad():
        family.update(task.eval().evaluate_batch({"images": images}), labels)
    assert family.compute()["miou"] > 0.9


@pytest.mark.parametrize("decoder", ["linear", "multilevel"])
def test_padding_changes_nothing_but_the_rim_of_interpolation(decoder):
    task = build(decoder, hidden=16)
    image = torch.randn(1, 3, 16, 24)
    canvas, padding = torch.randn(1, 3, 32, 32), torch.ones(1, 32, 32, dtype=torch.bool)
    canvas[:, :, :16, :24], padding[:, :16, :24] = image, False
    inner = slice(0, 12), slice(0, 20)  # half a patch further in, pixels interpolate between cells of the image alone
    torch.testing.assert_close(task(canvas, padding)[0][:, *inner], task(image)[0][:, *inner], atol=1e-4, rtol=1e-3)


def test_the_decoder_of_transunet_sees_the_stem_at_every_resolution():
    task = build("transunet", model=HYBRID, std=0.05)
    stem = task.vit.embed
    images = torch.randn(1, 3, 32, 32)
    maps = stem.maps(images)
    assert [tuple(map_.shape[1:]) for map_ in maps] == [(32, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert stem.channels == [32, 128, 256]
    torch.testing.assert_close(stem.project(maps[-1]), stem(images))


def test_the_decoder_of_transunet_needs_its_stem():
    with pytest.raises(UserError, match="needs a ResNet stem that shrinks as much as a patch covers"):
        build("transunet")


def test_the_detail_decoder_sees_the_pixels_and_each_halving():
    task = build("detail", hidden=16)
    assert task.stream.channels == [8, 16, 32]  # patches of 8 pixels: of all pixels, and after two halvings
    maps = task.stream.maps(torch.randn(1, 3, 16, 16))
    assert [tuple(map_.shape[1:]) for map_ in maps] == [(8, 16, 16), (16, 8, 8), (32, 4, 4)]
    with pytest.raises(UserError, match="doubles the grid up to the pixels"):
        build("detail", model={"image_size": 24, "patch_size": 12})


def test_squares_of_pixels_are_read_and_told_at_once():
    task = build("detail", hidden=16, subpixel=2)
    assert task.stream.channels == [16, 32]
    task.head.output.weight.data.zero_()
    task.head.output.bias.data = torch.arange(12.0)  # for each class, the four pixels of a square row by row
    expected = torch.arange(12.0).reshape(3, 2, 2).tile(1, 8, 12)
    torch.testing.assert_close(task(torch.randn(1, 3, 16, 24))[0], expected)
    with pytest.raises(UserError, match="up to the pixels by squares of 8 pixels; choose patch_size=16"):
        build("detail", hidden=16, subpixel=8)
    with pytest.raises(UserError, match="subpixel=2 is for decoder='detail'"):
        build("linear", subpixel=2)


def test_the_decoder_refines_what_the_tokens_say():
    plain, refined = build("multilevel", hidden=16), build("multilevel", hidden=16, coarse=0.5)
    refined.load_state_dict(plain.state_dict(), strict=False)
    images, labels = torch.randn(2, 3, 16, 16), torch.randint(3, (2, 16, 16))
    tokens = refined.coarse(refined.vit(images).map)
    torch.testing.assert_close(refined(images), plain(images) + F.interpolate(tokens, (16, 16), mode="bilinear"))
    losses = refined.loss({"images": images, "targets": labels})
    torch.testing.assert_close(losses["coarse"], F.cross_entropy(F.interpolate(tokens, (16, 16)), labels))
    expected = 0.5 * (losses["cross_entropy"] + losses["dice"]) + 0.5 * losses["coarse"]
    torch.testing.assert_close(losses["loss"], expected)


def test_losses_leave_out_what_nobody_knows():
    logits, labels = torch.randn(2, 3, 5, 7), torch.randint(3, (2, 5, 7))
    labels[1] = labels[1].clamp(max=1)  # the second image lacks a class
    p, y = logits.softmax(1), F.one_hot(labels, 3).movedim(-1, 1)
    overlaps = [
        [2 * (p[i, k] * y[i, k]).sum() / ((p[i, k] ** 2).sum() + y[i, k].sum()) for k in range(3 - i)] for i in range(2)
    ]
    expected = 1 - (sum(overlaps[0]) / 3 + sum(overlaps[1]) / 2) / 2
    cross_entropy, dice = cross_entropy_and_dice(logits, labels, num_labelled(labels))
    torch.testing.assert_close(dice, expected)
    torch.testing.assert_close(cross_entropy, F.cross_entropy(logits, labels))
    with torch.autocast("cpu", torch.bfloat16):
        again = cross_entropy_and_dice(logits, labels, num_labelled(labels))
        torch.testing.assert_close(again, (cross_entropy, dice))
    hidden = labels.clone()
    hidden[:, 2:] = 255
    for loss in (cell_cross_entropy, cross_entropy_and_dice):
        number = num_labelled(hidden)
        assert number == 2 * 2 * 7
        torch.testing.assert_close(loss(logits, hidden, number), loss(logits[:, :, :2], labels[:, :2], number))
    nobody_knows, one = torch.full_like(labels, 255), torch.tensor(1)
    assert cell_cross_entropy(logits, nobody_knows, one) == 0
    assert all(loss == 0 for loss in cross_entropy_and_dice(logits, nobody_knows, one))


def test_gradients_of_both_losses_are_those_of_their_definitions() -> None:
    logits, labels = torch.randn(2, 4, 5, 7, dtype=torch.float64, requires_grad=True), torch.randint(4, (2, 5, 7))
    labels[:, 1:3, 2:] = 255
    labels[0] = torch.where(labels[0] == 3, 0, labels[0])  # the first image lacks a class
    known = labels != 255
    dice = 0
    for image in range(2):
        p = logits[image].softmax(0).movedim(0, -1)[known[image]]
        y = F.one_hot(labels[image][known[image]], 4)
        overlap = 2 * (p * y).sum(0) / (p.square().sum(0) + y.sum(0))
        dice = dice + (1 - overlap[y.any(0)].mean()) / 2
    expected = torch.autograd.grad(0.3 * F.cross_entropy(logits, labels, ignore_index=255) + 0.7 * dice, logits)[0]
    cross_entropy, found = cross_entropy_and_dice(logits, labels, num_labelled(labels))
    gradient = torch.autograd.grad(0.3 * cross_entropy + 0.7 * found, logits)[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)
    assert not gradient.movedim(1, -1)[~known].any()


@pytest.mark.parametrize("size", [(12, 20), (13, 22)])
def test_a_cell_speaks_for_its_pixels(size: tuple[int, int]) -> None:
    cells, labels = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(3, (2, *size))
    labels[:, :2, 3:7] = 255
    pixels = F.interpolate(cells, size)
    expected, found = (
        F.cross_entropy(pixels, labels, ignore_index=255),
        cell_cross_entropy(cells, labels, num_labelled(labels)),
    )
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, cells)[0] for loss in (expected, found)]
    torch.testing.assert_close(*gradients)


def test_shares_and_the_png_hold_the_map():
    found = Prediction(NAMES, np.array([[2, 2, 2], [0, 2, 0]], dtype=np.uint8))
    assert found.shares == {"bee": pytest.approx(4 / 6), "ground": pytest.approx(2 / 6)}
    assert found.to_dict()["size"] == [2, 3]
    np.testing.assert_array_equal(np.asarray(found.to_png()), found.map)


def test_a_png_keeps_what_nobody_knows(tmp_path):
    map_ = np.array([[0, 1], [255, 2]], dtype=np.uint8)
    Prediction(NAMES, map_).to_png().save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_map((tmp_path / "a.png").read_bytes()), map_)


def test_drawing_tints_all_but_the_first_class():
    image = Image.fromarray(np.full((400, 400, 3), 100, dtype=np.uint8))
    map_ = np.zeros((4, 4), dtype=np.uint8)
    map_[:, 2:] = 1
    drawn = np.asarray(Prediction(NAMES, map_).draw(image))
    assert (drawn[:400, :200] == 100).all()
    assert (drawn[:, 200:] != 100).any(axis=-1).all()
