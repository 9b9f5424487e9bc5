"""Opening whatever can teach, and one line for whatever cannot."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from test_losses import CLASSES, SEEN, batch, cnn, student
from torch import nn

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.processors import to_huggingface
from vitrail.distill import DistillConfig, Teacher
from vitrail.distill.distilled import Distilled
from vitrail.distill.loading import load_teacher
from vitrail.distill.preprocess import TeacherPreprocess
from vitrail.errors import UserError
from vitrail.predictor import Predictor

CPU = torch.device("cpu")
OTHER = PreprocessConfig(size=24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


def opened(teacher: str | Path, **settings: Any) -> Teacher:
    return load_teacher(DistillConfig(teacher=str(teacher), **settings), SEEN, CPU)


def exported(path: Path, model: nn.Module, *, size: int = 16, channels: int = 3, dynamic: bool = True) -> Path:
    """``model`` as a program, with its classes next to it."""
    images = torch.randn(3, channels, size, size)
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.export.save(torch.export.export(model, (images,), dynamic_shapes=shapes), path)
    (path.parent / "classes.json").write_text(json.dumps(CLASSES))
    return path


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_vit_of_ours_answers_and_shows_its_features(tmp_path: Path) -> None:
    task = student()
    Predictor(task, OTHER, device="cpu").save(tmp_path / "teacher.safetensors")
    teacher = opened(tmp_path / "teacher.safetensors")
    images = torch.randn(2, 3, 24, 24)
    assert (teacher.classes, teacher.preprocess) == (CLASSES, OTHER)
    torch.testing.assert_close(teacher.logits(images), task(images))
    torch.testing.assert_close(teacher.map(images), task.vit(images).map)
    torch.testing.assert_close(teacher.vector(images), task.embed(images))
    assert not teacher.logits(images).requires_grad


def test_another_librarys_model_with_its_preprocessing(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    labels = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
    sizes = {"image_size": 24, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    theirs = ViTForImageClassification(ViTConfig(**sizes, intermediate_size=48, **labels)).eval()
    theirs.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "preprocessor_config.json").write_text(json.dumps(to_huggingface(OTHER)))
    teacher, task, given = opened(tmp_path / "hf"), student(), batch()
    view = TeacherPreprocess(SEEN, OTHER, CPU)(given["images"])
    answers = theirs(view).logits
    distilled = Distilled(task, teacher, DistillConfig(teacher="hf", kind="hard", weight=1), SEEN)
    expected = nn.functional.cross_entropy(task(given["images"]), answers.argmax(1))
    torch.testing.assert_close(distilled.loss(given)["loss"], expected)


@pytest.mark.parametrize("beside", [False, True])
def test_a_cnn_as_a_program(beside: bool, tmp_path: Path, capsys: Any) -> None:
    model = cnn().eval()
    file = exported(tmp_path / "cnn.pt2", model, size=24)
    if beside:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(to_huggingface(OTHER)))
    teacher = opened(file, allow_pickle=True)
    preprocess = OTHER if beside else PreprocessConfig(size=24)
    assert teacher.preprocess == preprocess
    assert ("mean and std as the student's" in capsys.readouterr().err) is not beside
    task, given = student(), batch()
    view = TeacherPreprocess(SEEN, preprocess, CPU)(given["images"])
    expected = nn.functional.cross_entropy(task(given["images"]), model(view).argmax(1))
    distilled = Distilled(task, teacher, DistillConfig(teacher=str(file), weight=1), SEEN)
    torch.testing.assert_close(distilled.loss(given)["loss"], expected)
    exact = teacher.logits(view)
    with torch.autocast("cpu", torch.bfloat16):  # a program keeps the precision that it was exported in
        assert torch.equal(teacher.logits(view), exact)
    assert teacher.logits(view[:1]).shape == (1, 5)


def test_a_program_of_a_feature_map(tmp_path: Path) -> None:
    body = cnn().eval().body
    teacher = opened(exported(tmp_path / "map.pt2", body), allow_pickle=True)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(teacher.map(images), body(images))
    torch.testing.assert_close(teacher.vector(images), body(images).mean((2, 3)))


def test_a_resnet_of_torchvision_teaches_features_and_answers(tmp_path: Path) -> None:
    from torchvision.models.resnet import BasicBlock, ResNet

    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=len(CLASSES)).eval()
    teacher = opened(exported(tmp_path / "resnet.pt2", model, size=32), allow_pickle=True)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(teacher.logits(images), model(images))


def test_a_function_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tools_of_a_test").mkdir()
    (tmp_path / "tools_of_a_test" / "teachers.py").write_text(
        "from torch import nn\n"
        "from vitrail.data import PreprocessConfig\n"
        "from vitrail.distill import Teacher\n"
        "def small():\n"
        "    model = nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(768, 2))\n"
        "    return Teacher(model, PreprocessConfig(size=16), ('ant', 'bee'))\n"
        "nothing = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before = torch.get_rng_state()
    teacher = opened("tools_of_a_test.teachers:small")
    assert torch.equal(torch.get_rng_state(), before)  # its first values are not the student's affair
    assert teacher.classes == ("ant", "bee")
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(teacher.logits(images), teacher.logits(images))  # no dropout
    for name in ("nothing", "absent"):
        with pytest.raises(UserError, match=r"returns no vitrail\.distill\.Teacher"):
            opened(f"tools_of_a_test.teachers:{name}")
    with pytest.raises(UserError, match=r"no module named 'tools_of_a_test\.typo'"):
        opened("tools_of_a_test.typo:small")


class Canary:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.folder),))


def hostile(path: Path, canary: Path) -> Path:
    """A program whose pickled parts make a folder when they are opened."""
    good = exported(path.with_name("good.pt2"), cnn().eval())
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(path, "w") as out:
        for member in archive.infolist():
            content = archive.read(member)
            if "sample_inputs" in member.filename:
                buffer = io.BytesIO()
                torch.save(Canary(canary), buffer)
                content = buffer.getvalue()
            out.writestr(member.filename, content)
    return path


def test_a_hostile_program_is_not_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    file = hostile(tmp_path / "bad.pt2", canary)
    with pytest.raises(UserError, match=r"can run code when it is opened; .*, pass --allow-pickle") as error:
        opened(file)
    one_line(error)
    assert not canary.exists()
    with pytest.raises(UserError, match="is no program that opens"):
        opened(file, allow_pickle=True)
    assert canary.exists()  # it would have


@pytest.mark.parametrize("length", [0, 40, 3000, -200])
def test_a_damaged_program_is_one_line(length: int, tmp_path: Path, capsys: Any) -> None:
    file = exported(tmp_path / "cnn.pt2", cnn().eval())
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match="is no program that opens") as error:
        opened(file, allow_pickle=True)
    one_line(error)
    assert "Traceback" not in capsys.readouterr().err


def test_a_program_in_training_mode_is_refused(tmp_path: Path) -> None:
    for name, model in (("norm", cnn()), ("dropout", nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(768, 5)))):
        file = exported(tmp_path / f"{name}.pt2", model.train())
        with pytest.raises(UserError, match=r"was exported in training mode; call eval\(\)"):
            opened(file, allow_pickle=True)


def test_a_program_of_one_batch_size_says_so(tmp_path: Path) -> None:
    teacher = opened(exported(tmp_path / "cnn.pt2", cnn().eval(), dynamic=False), allow_pickle=True)
    with pytest.raises(UserError, match=r"does not take images of shape \(2, 3, 16, 16\)") as error:
        Distilled(student(), teacher, DistillConfig(teacher="cnn.pt2"), SEEN)
    one_line(error)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.pt2", "there is no teacher '.*absent.pt2'; correct the path"),
        ("absent", "there is no run or weights file"),
        ("notes.txt", "is no weights file that Vitrail reads"),
        ("weights.pth", "is a pickle, which can run code"),
        ("cut.safetensors", "cut.safetensors"),
    ],
)
def test_no_teacher_is_one_line(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no teacher")
    (tmp_path / "weights.pth").write_bytes(b"\x80\x04.")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(UserError, match=message) as error:
        opened(tmp_path / name)
    one_line(error)


def wrong(teacher: Teacher, message: str, task: Any = None, **settings: Any) -> None:
    with pytest.raises(UserError, match=message) as error:
        Distilled(task or student(), teacher, DistillConfig(teacher="t", **settings), SEEN)
    one_line(error)


def test_a_teacher_that_does_not_fit_is_one_line(tiny_predictor: Any) -> None:
    grey = Teacher(cnn(channels=1), PreprocessConfig(size=16, channels=1), CLASSES)
    wrong(grey, "takes images of 1 channels and the student of 3; give --channels 1")
    others = Teacher(cnn(), SEEN, ("ant", "bees", "cat", "dog", "eel"), name="runs/other")
    wrong(others, "runs/other lacks the class 'bee'.*did you mean 'bees'")
    twice = Teacher(cnn(), SEEN, ("ant", "bee", "cat", "dog", "dog"))
    wrong(twice, "lacks the class 'eel'|has several classes 'dog'")
    wrong(Teacher(cnn(num_classes=6), SEEN, (*CLASSES, "ant")), "has several classes 'ant'")
    wrong(Teacher(cnn(), SEEN), "does not name its classes; put their list into classes.json next to its file")
    wrong(Teacher(cnn(), SEEN, (*CLASSES, "fox")), "gives 5 outputs and names 6 classes")
    wrong(Teacher(cnn(), SEEN, CLASSES), "with no map of features, set distill.options.of=pooled", kind="features")
    wrong(Teacher(cnn().body, SEEN, CLASSES), "a classifier gives one number a class")
    good = Teacher(cnn(), SEEN, CLASSES)
    wrong(good, "unknown kind 'softt'; did you mean 'soft'", kind="softt")
    wrong(good, "unknown setting 'heat'", kind="soft", options={"heat": 3})
    wrong(good, "'temperature'.*greater than 0", kind="soft", options={"temperature": 0})
    wrong(good, "'regression' has no classes.*distill.kind=features", tiny_predictor("regression").task)


def test_a_task_without_pool_and_head_cannot_learn_so() -> None:
    from vitrail.pretrain.mae import Config, Task

    task = Task(Config(model=student().config.model))
    wrong(Teacher(cnn(), SEEN, CLASSES), "'mae' cannot learn from a teacher", task)


def test_features_suit_tasks_without_classes(tiny_predictor: Any) -> None:
    task = tiny_predictor("regression").task
    model = cnn().eval()
    preprocess = PreprocessConfig(size=(16, 24))
    distilled = Distilled(
        task, Teacher(model.body, preprocess), DistillConfig(teacher="t", kind="features"), preprocess
    )
    losses = distilled.loss({"images": torch.randn(4, 3, 16, 24), "targets": torch.randn(4, 2)})
    assert losses["loss"].isfinite()
    assert losses["distillation_loss"] > 0
