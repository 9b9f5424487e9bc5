from __future__ import annotations

import io
import json
import struct
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail.checkpoints import native
from vitrail.checkpoints.locate import find_weights
from vitrail.config import to_dict
from vitrail.errors import UserError
from vitrail.loading import load
from vitrail.machine import pick_device
from vitrail.predictor import Predictor, Sample

rng = np.random.default_rng(0)
TOLERANCE = 2e-6  # of a probability, between an image alone and in a batch: sums in another order


def photo(height=30, width=40, mode="RGB"):
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = rng.integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(2) if bands == 1 else pixels, mode)


@pytest.fixture
def predictor(tiny_predictor):
    return tiny_predictor()


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_batch_never_changes_a_result(tiny_predictor, task, batch_size):
    predictor = tiny_predictor(task)
    images = [photo(h, w) for h, w in [(30, 40), (16, 24), (7, 300), (1, 1), (64, 64), (200, 30), (31, 41)]]
    together = predictor.predict(images, batch_size=batch_size)
    for image, prediction in zip(images, together, strict=True):
        alone = predictor.predict(image)
        for name in ("probabilities", "values"):
            if hasattr(alone, name):
                np.testing.assert_allclose(getattr(prediction, name), getattr(alone, name), rtol=1e-5, atol=TOLERANCE)
    spread = [json.dumps(p.to_dict()) for p in together]
    assert len(set(spread)) == len(images), "the images are told apart"


def test_every_way_to_give_an_image_gives_the_same(predictor, tmp_path):
    image = photo()
    path = tmp_path / "p.png"
    image.save(path)
    array = np.array(image)
    ways = [
        path,
        str(path),
        path.read_bytes(),
        image,
        Image.open(path),
        array,
        torch.from_numpy(array).permute(2, 0, 1),
    ]
    ways.append(Sample("a sample", path.read_bytes))
    expected = predictor.predict(image).probabilities
    assert expected.max() - expected.min() > 0.1
    for way in ways:
        assert np.array_equal(predictor.predict(way).probabilities, expected), type(way)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1"])
def test_a_pillow_image_is_decoded_as_its_file(predictor, mode, tmp_path):
    image = photo(mode=mode) if mode in ("L", "RGBA", "LA", "CMYK") else photo().convert(mode)
    path = tmp_path / ("p.tiff" if mode == "CMYK" else "p.png")
    image.save(path)
    assert np.array_equal(predictor.predict(image).probabilities, predictor.predict(path).probabilities)


def test_orientation_is_applied_to_pillow_images_too(predictor, tmp_path):
    image = photo()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "p.png", exif=exif)
    turned = predictor.predict(image.transpose(Image.Transpose.ROTATE_270)).probabilities
    assert np.array_equal(predictor.predict(Image.open(tmp_path / "p.png")).probabilities, turned)
    assert np.array_equal(predictor.predict(tmp_path / "p.png").probabilities, turned)


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_other_channel_counts(tiny_predictor, channels):
    predictor = tiny_predictor(channels=channels)
    array = rng.integers(0, 256, (30, 40, channels), dtype=np.uint8)
    both = predictor.predict([array, array[::-1].copy()])
    assert not np.allclose(both[0].probabilities, both[1].probabilities)
    if channels == 5:
        with pytest.raises(UserError, match="5 channels and cannot be drawn"):
            predictor.picture(array)


def test_embed_is_what_the_head_sees(predictor):
    images = [photo(), photo()]
    vectors = predictor.embed(images)
    assert vectors.shape == (2, 32)
    assert vectors.dtype == np.float32
    with torch.no_grad():
        logits = predictor.task.head(torch.from_numpy(vectors))
    probabilities = np.stack([p.probabilities for p in predictor.predict(images)])
    np.testing.assert_allclose(logits.softmax(1).numpy(), probabilities, atol=TOLERANCE)
    np.testing.assert_allclose(predictor.embed(images[1]), vectors[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("no-such-file.jpg", r"no-such-file.jpg cannot be read: no such file"),
        (b"", "the bytes given is empty"),
        (b"<html>", "the bytes given is an HTML page"),
        (np.zeros((4, 4, 3), np.float32), "the ndarray given is an array of float32; uint8"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"a tensor of shape \(1, 3, 8, 8\) is no image"),
        (3, "int is no image"),
        (None, "NoneType is no image"),
    ],
)
def test_what_is_no_image_is_the_users_mistake(predictor, image, message):
    for given in (image, [image]):
        with pytest.raises(UserError, match=message):
            predictor.predict(given)


def test_a_damaged_pillow_image_is_the_users_mistake(predictor):
    buffer = io.BytesIO()
    photo(200, 200).save(buffer, "JPEG")
    with pytest.raises(UserError, match="is damaged"):
        predictor.predict(Image.open(io.BytesIO(buffer.getvalue()[:3000])))


def test_stream_keeps_order_names_the_bad_and_reads_only_a_little_ahead(predictor):
    read = []
    lock = threading.Lock()

    def endless():
        number = 0
        while True:
            with lock:
                read.append(number)
            yield np.full((8, 8, 3), number, np.uint8) if number != 2 else b"broken"
            number += 1

    stream = predictor.stream(endless(), batch_size=4)
    results = [next(stream) for _ in range(6)]
    stream.close()
    assert len(read) <= 12
    assert isinstance(results[2][1], UserError)
    for number in (0, 1, 3, 4, 5):
        image, prediction = results[number]
        assert (image == number).all()
        np.testing.assert_allclose(prediction.probabilities, predictor.predict(image).probabilities, atol=TOLERANCE)


def test_stream_of_nothing_and_of_bad_images_alone(predictor):
    assert list(predictor.stream([])) == []
    assert [type(result) for _, result in predictor.stream([b"", b"x"], batch_size=1)] == [UserError, UserError]
    vectors = [result for _, result in predictor.stream([photo()] * 3, batch_size=2, embed=True)]
    assert [v.shape for v in vectors] == [(32,)] * 3


def test_predicting_leaves_the_callers_random_numbers_alone(predictor):
    state = torch.get_rng_state()
    predictor.predict([photo()] * 3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_saved_and_loaded_it_is_the_same(tiny_predictor, task, tmp_path):
    predictor = tiny_predictor(task, positions="sincos_2d", registers=2)
    predictor.metrics = {"top1": 0.5}
    predictor.save(tmp_path / "w.safetensors")
    again = vitrail.load(tmp_path / "w.safetensors", device="cpu")
    image = photo()
    assert again.predict(image).to_dict() == predictor.predict(image).to_dict()
    assert again.preprocess.config == predictor.preprocess.config
    assert again.task.config == predictor.task.config
    assert again.metrics == {"top1": 0.5}
    assert again.classes == predictor.classes
    assert not again.task.training


def test_a_run_folder_gives_its_best_weights_else_the_last(predictor, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    with pytest.raises(UserError, match=r"holds no weights: neither weights/best.safetensors"):
        load(tmp_path)
    predictor.save(weights / "last.safetensors")
    assert find_weights(tmp_path) == weights / "last.safetensors"
    predictor.save(weights / "best.safetensors")
    assert find_weights(tmp_path) == weights / "best.safetensors"
    assert load(tmp_path, device="cpu").predict(photo()).label in predictor.classes


def test_a_missing_run_names_the_nearest(tmp_path):
    (tmp_path / "birds").mkdir()
    with pytest.raises(UserError, match=r"there is no run or weights file .*bird'; did you mean .*birds'\?"):
        load(tmp_path / "bird")


def test_save_wants_a_safetensors_name(predictor, tmp_path):
    with pytest.raises(UserError, match=r"not 'w.pt'; name it w.safetensors"):
        predictor.save(tmp_path / "w.pt")


def rewrite(path, **changes):
    """The file's meta with changes, tensors as they are."""
    checkpoint = native.load(path)
    native.save(path, checkpoint.state, checkpoint.meta | changes)


def hostile_config(predictor, **model):
    config = to_dict(predictor.task.config)
    return config | {"model": config["model"] | model}


@pytest.mark.parametrize(
    "model",
    [
        {"depth": 10**9},
        {"dim": 10**7, "heads": 1},
        {"heads": 0},
        {"image_size": [10**6, 10**6]},
        {"patch_size": [0, 0]},
        {"registers": 10**12},
        {"positions": "vitrail.errors"},
        {"mlp_dim": 64},
        {"depth": 3},
        {"depth": 256, "dim": 16384, "mlp_dim": 131072, "heads": 256},
        {"image_size": [16384, 16384], "patch_size": [1, 1]},
        {"positions": "sincos_2d", "image_size": [16384, 16384], "patch_size": [1, 1]},
        {"embed": {"kind": "resnet", "layers": [64] * 1000}},
        {"embed": {"kind": "conv"}, "patch_size": [12, 12]},
        {"surprise": 1},
    ],
)
def test_a_hostile_config_is_refused_before_it_costs_anything(predictor, tmp_path, model):
    import resource

    path = tmp_path / "w.safetensors"
    predictor.save(path)
    rewrite(path, config=hostile_config(predictor, **model))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"w.safetensors") as caught:
        load(path, device="cpu")
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.parametrize(
    "task",
    [
        "os",
        "os.path",
        "vitrail.errors",
        "vitrail.predictor",
        "vitrail.tasks",
        "Classification",
        "_pooled",
        None,
        [],
        "",
    ],
)
def test_a_file_names_no_code(predictor, tmp_path, task):
    path = tmp_path / "w.safetensors"
    predictor.save(path)
    rewrite(path, task=task)
    with pytest.raises(UserError, match="which this Vitrail does not have"):
        load(path, device="cpu")


def test_a_third_partys_task_is_loaded_once_it_is_imported(predictor, tmp_path, monkeypatch):
    from vitrail.tasks import classification

    path = tmp_path / "w.safetensors"
    predictor.save(path)
    rewrite(path, task="their.task")
    with pytest.raises(UserError, match="import its module first"):
        load(path, device="cpu")
    theirs = type("Task", (classification.Task,), {"__module__": "their.task"})
    monkeypatch.setitem(sys.modules, "their.task", SimpleNamespace(Task=theirs, Config=classification.Config))
    assert type(load(path, device="cpu").task) is theirs


@pytest.mark.parametrize(
    "preprocess", [{"size": [10**9, 10**9]}, {"size": "big"}, {"std": [0]}, {"x": 1}, [], None, "s"]
)
def test_a_hostile_preprocessing_is_refused(predictor, tmp_path, preprocess):
    path = tmp_path / "w.safetensors"
    predictor.save(path)
    rewrite(path, preprocess=preprocess)
    with pytest.raises(UserError, match=r"w.safetensors"):
        load(path, device="cpu")


def test_junk_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    for junk in (b"", b"junk", struct.pack("<Q", 2**60) + b"{}", rng.bytes(1000)):
        path.write_bytes(junk)
        with pytest.raises(UserError, match=r"w.safetensors"):
            load(path)


def test_devices(capsys):
    assert pick_device("cpu").type == "cpu"
    assert capsys.readouterr().err == ""
    pick_device("auto")
    assert capsys.readouterr().err.startswith("device auto: ")
    with pytest.raises(UserError, match=r"device 'gpu' cannot be used \(.*\); try --device auto"):
        pick_device("gpu")


@pytest.mark.parametrize("resize", ["crop", "square", "pad"])
def test_any_image_size_goes_through_the_stored_preprocessing(tiny_predictor, resize):
    predictor = tiny_predictor(resize=resize)
    for height, width in [(1, 1), (16, 24), (500, 3), (3, 500)]:
        assert predictor.tensor(photo(height, width)).shape == (1, 3, 16, 24)


@pytest.mark.real_data
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_large_photos_are_decoded_at_a_part_of_their_size(tiny_predictor, real_data, subsampling):
    fast = tiny_predictor(image_size=(224, 224), patch_size=32)
    exact = Predictor(fast.task, fast.preprocess.config, device="cpu", exact=True)
    for path in sorted((real_data / "imagenet_samples").glob("*.JPEG"))[::20]:
        photo = Image.open(path).convert("RGB")
        data = io.BytesIO()
        photo.resize((2048, 1536), Image.Resampling.LANCZOS).save(data, "JPEG", quality=92, subsampling=subsampling)
        both = [each.pixels(data.getvalue()).float() for each in (fast, exact)]
        difference = (both[0] - both[1]).abs()
        assert 0 < difference.mean() < 1, path.name
        assert fast.read(data.getvalue()).size == (2048, 1536)  # pictures are drawn on in full


@pytest.mark.real_data
def test_real_weights_name_real_photos(real_data):
    """A ViT-Ti/16 with its keys renamed names the photos as it is known to."""
    import re

    from safetensors.torch import load_file

    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.tasks.classification import Config, Task
    from vitrail.vit_presets import preset

    folder = real_data / "vit_tiny_imagenet"
    wnids = [item["wnid"] for item in json.loads((folder / "classes.json").read_text())]
    rules = {
        r"^cls_token": "vit.class_token",
        r"^pos_embed": "vit.positions.embedding",
        r"^patch_embed\.proj": "vit.embed.projection",
        r"^blocks\.(\d+)\.attn\.proj": r"vit.blocks.\1.attention.out",
        r"^blocks\.(\d+)\.attn": r"vit.blocks.\1.attention",
        r"^(blocks|norm)\.": r"vit.\1.",
        r"^head\.": "head.output.",
    }
    state = {}
    for key, value in load_file(folder / "model.safetensors").items():
        for pattern, replacement in rules.items():
            key, done = re.subn(pattern, replacement, key)
            if done:
                break
        state[key] = value
    task = Task(Config(model=preset("Ti/16"), classes=tuple(wnids)))
    native.load_into(task, state, where="renamed")
    preprocess = PreprocessConfig(size=224, resize="crop", crop_pct=0.9, interpolation="bicubic")
    photos = sorted((real_data / "imagenet_samples").glob("*.JPEG"))[::5]
    results = Predictor(task, preprocess, device="cpu").predict(photos, batch_size=8)
    right = [result.label == photo.name.split("_")[0] for photo, result in zip(photos, results, strict=True)]
    assert np.mean(right) >= 0.75  # 0.827 over 1,000 photos
