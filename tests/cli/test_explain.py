from __future__ import annotations

import pytest
from PIL import Image

from vitrail.cli import main
from vitrail.explain import Heat, explain
from vitrail.explain.overlay import overlay
from vitrail.loading import load


@pytest.fixture
def call(weights, tmp_path, capsys):
    """``call(*arguments)`` → (exit code, names of the files written, stderr)."""

    def run(*arguments):
        code = main(["explain", weights, *map(str, arguments), "--out", str(tmp_path / "out"), "--device", "cpu"])
        out, err = capsys.readouterr()
        return code, [line.rpartition("/")[2] for line in out.splitlines()], err

    return run


def test_one_sheet_by_default_that_names_the_prediction(call, photos, weights, tmp_path, monkeypatch):
    from vitrail.explain import overlay

    titles = []
    draw = overlay.sheet
    monkeypatch.setattr(overlay, "sheet", lambda *a: titles.append(a[3]) or draw(*a))
    code, names, err = call(photos / "a.png")
    assert (code, names) == (0, ["a-sheet.png"])
    assert err.startswith("next: vitrail serve ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a-sheet.png"]
    ((label, score),) = load(weights, device="cpu").predict(photos / "a.png").top(1)
    assert titles == [f"a: {label} {score:.1%}"]


def test_every_map_beside_the_sheet(call, photos, weights, tmp_path):
    code, names, _ = call(photos / "a.png", "--each")
    best = load(weights, device="cpu").predict(photos / "a.png").top(1)[0][0]
    assert code == 0
    assert names == [
        "a-layer-0-mean-of-heads.png",
        "a-layer-1-mean-of-heads.png",
        f"a-grad-cam-for-{best}-layer-1.png",
        names[3],
        f"a-relevance-for-{best}.png",
        "a-rollout-to-layer-1.png",
        "a-similar-to-row-2-column-2-at-layer-1.png",
        "a-sheet.png",
    ]
    assert names[3].startswith("a-pca-of-layer-1-")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names)


def test_a_point_of_another_picture(call, photos, weights, tmp_path):
    _, names, err = call(
        photos / "a.png", "--method", "similarity", "--point", "30,20", "--reference", photos / "a.png"
    )
    assert names == ["a-similar-to-row-2-column-3-of-the-other-picture-at-layer-1.png"], err
    predictor = load(weights, device="cpu")
    picture, inputs = predictor.picture(photos / "a.png"), predictor.inputs(photos / "a.png")
    (expected,) = explain(predictor.task, *inputs, "similarity", reference=inputs, patch=5)
    drawn = overlay(picture, expected, predictor.preprocess.region((30, 40)))
    with Image.open(tmp_path / "out" / names[0]) as written:
        assert written.tobytes() == drawn.tobytes()


def test_one_map_is_the_methods(call, photos, weights, tmp_path):
    _, names, _ = call(photos / "a.png", "--method", "gradcam", "--class", "cat", "--layer", "0")
    assert names == ["a-grad-cam-for-cat-layer-0.png"]
    predictor = load(weights, device="cpu")
    picture = predictor.picture(photos / "a.png")
    (heat,) = explain(predictor.task, predictor.tensor(photos / "a.png"), "gradcam", layer=0, target=2)
    assert isinstance(heat, Heat)
    expected = overlay(picture, heat, predictor.preprocess.region((30, 40)))
    with Image.open(tmp_path / "out" / names[0]) as drawn:
        assert drawn.tobytes() == expected.tobytes()


def test_options_reach_the_method(call, photos):
    _, names, _ = call(photos / "a.png", "--method", "attention", "--layer", "1", "--head", "0")
    assert names == ["a-layer-1-head-0.png"]
    assert call(photos / "a.png", "--method", "rollout", "--set", "fusion=max", "--set", "discard=0.5")[0] == 0
    assert call(photos / "a.png", "--method", "rollout", "--set", "fusion=sum")[0] == 2


def test_nothing_is_overwritten(call, photos):
    arguments = (photos / "a.png", "--method", "relevance", "--class", "3")
    assert [call(*arguments)[1] for _ in range(2)] == [
        ["a-relevance-for-dog.png"],
        ["a-relevance-for-dog-2.png"],
    ]


def test_without_pictures_figure_7(call, tmp_path):
    code, names, err = call()
    assert (code, names) == (0, ["anatomy.png"])
    assert "attention distances are left out" in err


def test_a_run_brings_its_own_pictures(tiny_predictor, tmp_path, capsys, monkeypatch):
    from vitrail import config
    from vitrail.explain import vit_figures
    from vitrail.train.run import Run

    predictor = tiny_predictor(channels=1, image_size=8, patch_size=4)
    run = Run(
        data={"source": {"spec": "digits"}, "preprocess": predictor.preprocess.config},
        model=predictor.task.config.model,
    )
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    config.save(run, folder / "config.yaml")
    predictor.save(folder / "weights" / "best.safetensors")
    seen = []
    measure = vit_figures.attention_distances
    monkeypatch.setattr(vit_figures, "attention_distances", lambda *a: seen.append(measure(*a)) or seen[-1])
    assert main(["explain", str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert seen[0].shape == (2, 2)
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "rolout"], "did you mean 'rollout'?"),
        (["--class", "cta"], "unknown class 'cta'; did you mean 'cat'?"),
        (["--class", "4"], "unknown class '4'"),
        (["--layer", "2"], "this model has layers 0 to 1"),
        (["--set", "fusin=max"], "unknown option 'fusin'; did you mean 'fusion'?"),
        (["--set", "fusion"], "'fusion' is not an assignment"),
        (["--point", "3"], "'3' is no point"),
        (["--method", "similarity", "--point", "3,900"], "does not receive the point 3,900"),
        (["--reference", "a.png"], "add --method pca or similarity"),
        (["--method", "rollout", "--reference", "{photos}/a.png"], "rollout looks at one image"),
    ],
)
def test_mistakes(call, photos, arguments, message):
    code, names, err = call(photos / "a.png", *(each.format(photos=photos) for each in arguments))
    assert (code, names) == (2, [])
    assert err.count("\n") == 1
    assert message in err


def test_a_broken_picture_is_named(call, photos):
    code, _, err = call(photos / "notes.txt")
    assert code == 2
    assert "notes.txt is no image" in err
