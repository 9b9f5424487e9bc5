"""Files that ``vitrail export`` wrote as teachers: they say their classes and preprocessing themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import vitrail
from vitrail.checkpoints import native
from vitrail.cli import main
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.distill import DistillConfig, Teacher
from vitrail.distill.distilled import Distilled
from vitrail.distill.loading import load_teacher
from vitrail.distill.preprocess import TeacherPreprocess
from vitrail.errors import UserError
from vitrail.predictor import Predictor
from vitrail.train.folder import RunFolder

pytestmark = pytest.mark.usefixtures("exported_once")
CPU = torch.device("cpu")
FILES = {"onnx": "onnx", "openvino": "xml", "pt2": "pt2"}
SEEN = PreprocessConfig(size=16, mean=(0.4, 0.5, 0.6))
ONE_SIZE = {"depth": 1, "embed": {"kind": "patch", "drop": True}}  # fast to trace


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture
def original(tiny_predictor: Any) -> Predictor:
    return tiny_predictor(**ONE_SIZE)


@pytest.fixture
def export(files: Path, original: Predictor) -> Any:
    """``export(format)``: the file of the original, written when first asked for."""

    def write(to: str) -> Path:
        if not (file := files / f"teacher.{FILES[to]}").exists():
            original.save(files / "teacher.safetensors")
            vitrail.export(files / "teacher.safetensors", file, to=to)
        return file

    return write


def opened(file: Path, **settings: Any) -> Teacher:
    return load_teacher(DistillConfig(teacher=str(file), **settings), SEEN, CPU)


@pytest.mark.parametrize("to", FILES)
def test_a_file_of_ours_teaches_what_the_model_teaches(to: str, export: Any, original: Predictor, capsys: Any) -> None:
    task: Any = original.task
    teacher = opened(export(to), allow_pickle=True)
    assert (teacher.classes, teacher.preprocess) == (original.classes, original.preprocess.config)
    assert "mean and std as the student's" not in capsys.readouterr().err
    images = torch.randn(3, 3, 16, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # as a student's training may be
        logits, vector = teacher.logits(images), teacher.vector(images)
    torch.testing.assert_close(logits, task(images).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vector, task.embed(images).detach(), rtol=1e-4, atol=1e-5)


def test_a_model_teaches_in_another_engine(original: Predictor) -> None:
    teacher = Teacher.of(original.running("torch"))
    images = torch.randn(3, 3, 16, 24)
    torch.testing.assert_close(teacher.logits(images), original.task(images).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(teacher.map(images), original.task.embed(images).detach(), rtol=1e-4, atol=1e-5)


def test_a_student_learns_from_it_by_name(export: Any, original: Predictor, tiny_predictor: Any) -> None:
    student = tiny_predictor(image_size=(16, 16)).task
    for parameter in student.parameters():
        nn.init.normal_(parameter, 0.05, 0.3)
    batch = {"images": torch.randn(4, 3, 16, 16), "targets": torch.randint(4, (4,))}
    answers = original.task(TeacherPreprocess(SEEN, original.preprocess.config, CPU)(batch["images"]))
    temperature = 3.0
    expected = temperature**2 * nn.functional.kl_div(
        (student(batch["images"]) / temperature).log_softmax(1),
        (answers / temperature).softmax(1),
        reduction="batchmean",
    )
    config = DistillConfig(teacher="teacher.onnx", kind="soft", weight=1)
    distilled = Distilled(student, opened(export("onnx")), config, SEEN)
    torch.testing.assert_close(distilled.loss(batch)["loss"], expected, rtol=1e-4, atol=1e-5)


def test_it_shows_a_vector_and_no_map(export: Any, tiny_predictor: Any) -> None:
    teacher = opened(export("onnx"))
    config = DistillConfig(teacher="t", kind="features")
    with pytest.raises(UserError, match=r"with no map of features, set distill\.options\.of=pooled"):
        Distilled(tiny_predictor(image_size=(16, 16)).task, teacher, config, SEEN)
    student = tiny_predictor(image_size=(16, 16)).task
    distilled = Distilled(student, teacher, DistillConfig(teacher="t", kind="features", options={"of": "pooled"}), SEEN)
    losses = distilled.loss({"images": torch.randn(4, 3, 16, 16), "targets": torch.randint(4, (4,))})
    assert losses["loss"].isfinite()
    assert losses["distillation_loss"] > 0


def test_the_verb_trains_from_a_file(
    export: Any, class_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, data = export("onnx"), class_folder(4)
    monkeypatch.chdir(tmp_path)
    options = ["--image-size", "16", "--epochs", "1", "--batch-size", "4", "--workers", "0", "--device", "cpu"]
    options += [
        "--precision",
        "fp32",
        "--no-report",
        "--set=model.dim=32",
        "--set=model.depth=1",
        "--set=model.heads=2",
    ]
    assert main(["train", str(data), "--distill", str(file), "--name", "student", *options]) == 0
    run = RunFolder("runs/student").run()
    assert run.distill is not None
    assert run.distill.teacher == str(file)
    assert "train_distillation_loss" in Path("runs/student/metrics.csv").read_text()
    state = native.load(Path("runs/student/weights/last.safetensors")).state
    assert not [name for name in state if "distillation" in name]


def test_a_program_that_can_run_code_is_asked_for(export: Any, files: Path) -> None:
    with pytest.raises(UserError, match=r"can run code when it is opened; .*, pass --allow-pickle"):
        opened(export("pt2"))
    for name, message in (("no.onnx", "there is no file"), ("no.pt2", "there is no teacher")):
        with pytest.raises(UserError, match=message):
            opened(files / name)
    (files / "cut.onnx").write_bytes(export("onnx").read_bytes()[:500])
    with pytest.raises(UserError, match="is no ONNX file that opens"):
        opened(files / "cut.onnx")
