"""RandAugment against timm: each operation to the bit, and what is drawn by its statistics."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import stats
from timm.data import auto_augment

from vitrail.data.transforms import policies, randaugment
from vitrail.data.transforms.augment import PRESETS, Augment
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.randaugment import TABLES, Canvas

BICUBIC = Image.Resampling.BICUBIC
TIMM = {
    "randaugment": {
        "autocontrast": "AutoContrast", "equalize": "Equalize", "invert": "Invert", "rotate": "Rotate",
        "posterize": "PosterizeIncreasing", "solarize": "SolarizeIncreasing", "solarize_add": "SolarizeAdd",
        "color": "ColorIncreasing", "contrast": "ContrastIncreasing", "brightness": "BrightnessIncreasing",
        "sharpness": "SharpnessIncreasing", "shear_x": "ShearX", "shear_y": "ShearY",
        "translate_x": "TranslateXRel", "translate_y": "TranslateYRel",
    },
    "randaugment_tf": {
        "autocontrast": "AutoContrast", "equalize": "Equalize", "invert": "Invert", "rotate": "Rotate",
        "posterize": "Posterize", "solarize": "Solarize", "solarize_add": "SolarizeAdd", "color": "Color",
        "contrast": "Contrast", "brightness": "Brightness", "sharpness": "Sharpness", "shear_x": "ShearX",
        "shear_y": "ShearY", "translate_x": "TranslateX", "translate_y": "TranslateY",
    },
}  # fmt: skip
PAIRS = [(table, ours, theirs) for table, names in TIMM.items() for ours, theirs in names.items()]


def photograph(side: int, mode: str = "RGB") -> Image.Image:
    """A picture with shading, edges and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    shades = np.stack([160 * x + 40, 120 * y + 30 + 80 * (x > 0.6), 200 * (x * y) + 20 * np.sin(20 * x)], -1)
    return Image.fromarray(np.clip(shades + rng.normal(0, 12, shades.shape), 0, 255).astype(np.uint8)).convert(mode)


def deit(fill: tuple[int, ...] = (124, 116, 104)) -> randaugment.RandAugment:
    """The policy of the preset."""
    found = PRESETS["deit"]
    return policies.policy(
        found.policy,
        num_ops=found.num_ops,
        magnitude=found.magnitude,
        magnitude_std=found.magnitude_std,
        op_probability=found.op_probability,
        fill=fill,
        interpolation="bicubic",
    )


@pytest.fixture(autouse=True)
def _posterize_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At magnitude 10 timm asks for 0 bits: black in the Pillow that it was made for, an error in recent ones."""
    posterize = ImageOps.posterize
    monkeypatch.setattr(
        ImageOps,
        "posterize",
        lambda image, bits: posterize(image, bits) if bits else Image.new(image.mode, image.size),
    )


def test_the_lists_are_timms() -> None:
    assert list(TIMM["randaugment"].values()) == auto_augment._RAND_INCREASING_TRANSFORMS
    assert TIMM["randaugment"].keys() == TABLES["randaugment"].keys()
    assert TABLES["randaugment_tf"].keys() - TIMM["randaugment_tf"].keys() == {"cutout"}  # timm leaves it out


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("table", "ours", "theirs"), PAIRS)
def test_each_operation_is_timms(
    table: str, ours: str, theirs: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photograph(224, mode)
    fill = (124, 116, 104) if mode == "RGB" else (116,)
    hparams = {"img_mean": fill if mode == "RGB" else 116, "interpolation": BICUBIC, "translate_const": 100}
    for magnitude in (0.0, 2.5, 8.7, 9.0, 10.0):
        for sign, drawn in ((1, 0.25), (-1, 0.75)):
            monkeypatch.setattr(random, "random", lambda drawn=drawn: drawn)
            expected = auto_augment.AugmentOp(theirs, prob=1.0, magnitude=magnitude, hparams=hparams)(image)
            found = TABLES[table][ours](image, magnitude / 10, sign, Canvas(fill, BICUBIC))
            difference = np.abs(np.array(found, np.int16) - np.array(expected, np.int16)).max()
            assert difference <= (table == "randaugment_tf" and "translate" in ours), (magnitude, sign)


def test_cutout_is_a_square_about_any_pixel() -> None:
    image, canvas = Image.new("RGB", (224, 224), (9, 9, 9)), Canvas((1, 2, 3), BICUBIC)
    rows = np.zeros(224)
    for _ in range(600):
        cut = (np.array(TABLES["randaugment_tf"]["cutout"](image, 1.0, 1, canvas)) == (1, 2, 3)).all(-1)
        heights, widths = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
        assert cut.sum() == len(heights) * len(widths)
        for found in (heights, widths):  # cut at the border
            assert len(found) == 80 or found[0] == 0 or found[-1] == 223
        rows += cut.any(1)
    assert abs(rows[100:124].mean() / 600 - 80 / 224) < 0.07
    assert TABLES["randaugment_tf"]["cutout"](image, 0.0, 1, canvas).tobytes() == image.tobytes()


def test_as_many_images_stay_untouched_and_others_change_as_much_as_with_timm() -> None:
    """4,000 images each: the standard errors of the differences are 0.01 and about 0.6 grey levels."""
    image, fill = photograph(48), (124, 116, 104)
    theirs = auto_augment.rand_augment_transform(
        "rand-m9-mstd0.5-inc1", {"translate_const": 21, "img_mean": fill, "interpolation": BICUBIC}
    )
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  what timm draws from
    torch.manual_seed(0)
    before, found = np.array(image, np.float32), []
    for policy in (deit(fill), theirs):
        changes = np.array([np.abs(np.array(policy(image), np.float32) - before).mean() for _ in range(4000)])
        found.append(((changes == 0).mean(), changes.mean()))
    (untouched, change), (expected_untouched, expected_change) = found
    assert abs(untouched - expected_untouched) < 0.03
    assert abs(change - expected_change) < 2
    assert 0.24 < untouched < 0.32  # a quarter is not drawn at all, and some operations do nothing to this image


def test_operations_are_drawn_alike_at_timms_magnitudes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float, int]] = []

    def recorded(name: str) -> randaugment.Operation:
        return lambda image, level, sign, canvas: seen.append((name, level, sign)) or image

    monkeypatch.setitem(TABLES, "randaugment", {name: recorded(name) for name in TABLES["randaugment"]})
    torch.manual_seed(0)
    policy, image = deit(), photograph(8)
    for _ in range(6000):
        policy(image)
    names, levels, signs = zip(*seen, strict=True)
    assert stats.binomtest(len(seen), 12000, 0.5).pvalue > 1e-3
    assert stats.binomtest(signs.count(1), len(signs), 0.5).pvalue > 1e-3
    assert stats.chisquare([names.count(name) for name in TIMM["randaugment"]]).pvalue > 1e-3

    random.seed(0)
    theirs: list[float] = []
    operation = auto_augment.AugmentOp("Rotate", prob=1.0, magnitude=9, hparams={"magnitude_std": 0.5})
    operation.level_fn = lambda level, _: theirs.append(level) or (0.0,)
    for _ in range(6000):
        operation(image)
    assert stats.ks_2samp(levels, np.array(theirs) / 10).pvalue > 1e-3
    assert abs(np.mean(np.array(levels) == 1) - stats.norm.sf(2)) < 0.008  # cut at 10
    for name in TIMM["randaugment"]:  # each operation by itself
        own = [level for drawn, level in zip(names, levels, strict=True) if drawn == name]
        assert stats.ks_2samp(own, np.array(theirs) / 10).pvalue > 1e-4, name


def test_without_noise_and_chance_every_operation_has_its_magnitude() -> None:
    plain = PRESETS["plain"]
    assert (plain.policy, plain.num_ops, plain.magnitude) == ("randaugment_tf", 2, 10)
    assert (plain.magnitude_std, plain.op_probability) == (0, 1)


def test_three_augment_changes_images_as_the_papers_code() -> None:
    """One of grey, solarised and blurred, then colour jitter of 0.3: 1,500 images each."""
    from PIL import ImageFilter
    from torchvision.transforms import ColorJitter

    image, jitter, rng = photograph(48), ColorJitter(0.3, 0.3, 0.3), random.Random(0)
    torch.manual_seed(0)

    def reference(image: Image.Image) -> Image.Image:
        kind = rng.choice(("grey", "solarise", "blur"))
        if kind == "grey":
            image = image.convert("L").convert("RGB")
        elif kind == "solarise":
            image = ImageOps.solarize(image)
        else:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0)))
        return jitter(image)

    found = PRESETS["deit3"]
    assert (found.crop, found.horizontal_flip, found.repeats, found.erasing) == ("resized", 0.5, 3, None)
    augment = Augment(
        type(found)(policy=found.policy, colour=found.colour), PreprocessConfig(size=48, rescale=1, mean=0, std=1)
    )
    before = np.array(image, np.float32)
    ours = [np.abs(augment(image, key).permute(1, 2, 0).numpy() - before).mean() for key in range(1500)]
    theirs = [np.abs(np.array(reference(image), np.float32) - before).mean() for _ in range(1500)]
    assert abs(np.mean(ours) - np.mean(theirs)) < 2  # standard error about 0.6
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_tensors_are_changed_as_pictures() -> None:
    image = photograph(20)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for name in ("deit", "deit3"):
        augment = Augment(type(PRESETS[name])(policy=PRESETS[name].policy), PreprocessConfig(size=20))
        assert all(torch.equal(augment(image, key), augment(tensor, key)) for key in range(8))
