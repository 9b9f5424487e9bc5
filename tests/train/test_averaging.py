"""Model soups against their definition, and the verb."""

from __future__ import annotations

import json

import pytest
import torch

import vitrail
from vitrail.cli import main
from vitrail.data import SourceConfig
from vitrail.errors import UserError
from vitrail.report.evaluated import find_split
from vitrail.train import averaging


def states(*values):
    return [{"w": torch.tensor([value, 2 * value]), "count": torch.tensor(7)} for value in values]


def test_the_mean_is_computed_in_double_precision():
    (soup,) = [averaging.mean(states(1e8, 1.0, -1e8))]
    torch.testing.assert_close(soup["w"], torch.tensor([1 / 3, 2 / 3]))  # in single precision 1e8 + 1 loses the 1
    assert soup["w"].dtype == torch.float32
    assert int(soup["count"]) == 7


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_the_greedy_soup_takes_what_does_not_harm(mode, sign):
    """Candidates at 4, 1 and 9 with the target 3: alone 4 is the best, 4 and 1 miss by 0.5, and 9 would harm."""
    candidates = dict(zip("abc", states(4.0, 1.0, 9.0), strict=True))
    reads = {name: (lambda state=state: state) for name, state in candidates.items()}
    soup = averaging.greedy(reads, lambda state: -sign * abs(float(state["w"][0]) - 3), mode)
    assert soup.ingredients == ("a", "b")
    assert {name: sign * score for name, score in soup.scores.items()} == {"a": -1, "b": -2, "c": -6}
    assert sign * soup.score == -0.5
    torch.testing.assert_close(soup.state["w"], torch.tensor([2.5, 5.0]))


def test_an_undefined_score_comes_last():
    reads = {name: (lambda state=state: state) for name, state in zip("ab", states(float("nan"), 1.0), strict=True)}
    soup = averaging.greedy(reads, lambda state: float(state["w"][0]))
    assert soup.ingredients == ("b",)


@pytest.fixture
def three(tiny_predictor, tmp_path):
    """Files of three tiny classifiers, whose heads differ."""
    paths = []
    for number in range(3):
        model = tiny_predictor()
        for name, value in model.task.named_parameters():
            if name.startswith("head"):
                torch.nn.init.normal_(value.data, generator=torch.Generator().manual_seed(number))
        paths.append(str(tmp_path / f"{number}.safetensors"))
        model.save(paths[-1])
    return paths


def test_all_of_them(three):
    result = vitrail.average(three, device="cpu")
    found = [vitrail.load(path, device="cpu").task.state_dict() for path in three]
    for name, value in result.predictor.task.state_dict().items():
        torch.testing.assert_close(value, torch.stack([each[name] for each in found]).mean(0))
    assert result.ingredients == tuple(three)
    assert result.score is None


def test_greedy_is_no_worse_than_the_best(three, class_folder):
    source, _ = find_split(vitrail.load(three[0], device="cpu"), SourceConfig(spec=str(class_folder(5))), "train")
    result = vitrail.average(three, source, device="cpu")
    assert result.monitor == "top1"
    assert result.score >= max(result.scores.values())
    assert result.predictor.metrics == {"top1": result.score}
    kept = [vitrail.load(path, device="cpu").task.state_dict() for path in result.ingredients]
    head = next(name for name in kept[0] if name.startswith("head") and name.endswith("weight"))
    torch.testing.assert_close(result.predictor.task.state_dict()[head], torch.stack([k[head] for k in kept]).mean(0))


def test_the_verb(three, class_folder, tmp_path, capsys):
    out, folder = tmp_path / "soup.safetensors", str(class_folder(5))
    command = ["average", *three, "--data", folder, "--out", str(out), "--device", "cpu"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "top-1 accuracy (val)" in shown
    assert shown.splitlines()[-1].startswith("average")
    assert vitrail.load(out, device="cpu").classes == ("ant", "bee", "cat", "dog")
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    other = tmp_path / "other.safetensors"
    assert main(["average", *three, "--method", "uniform", "--out", str(other), "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ingredients"] == three


def test_mistakes_are_named(three, tiny_predictor, tmp_path, capsys):
    with pytest.raises(UserError, match="two or more different models"):
        vitrail.average(three[:1])
    with pytest.raises(UserError, match="two or more different models"):
        vitrail.average([three[0], three[0]])
    deeper = tmp_path / "deeper.safetensors"
    tiny_predictor(depth=3).save(deeper)
    with pytest.raises(UserError, match=r"0.safetensors and .*deeper.safetensors have another config \(model.depth: 2"):
        vitrail.average([three[0], deeper])
    out = str(tmp_path / "soup.safetensors")
    for command, said in (
        (["average", "--out", out], "name the models"),
        (["average", *three, "--out", out], "give DATA"),
        (["average", *three, "--method", "uniform", "--out", str(tmp_path / "soup.pth")], "saved as .safetensors"),
        (["average", three[0], "nowhere", "--method", "uniform", "--out", out], "no run or weights file 'nowhere'"),
    ):
        assert main(command) == 2
        assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{n}.safetensors" for n in range(3)), deeper.name]
