"""A disk that fills up under every command that writes: one line, what was there is as it was, nothing half written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_disks import FILLER, contents, fill, small_disk

from vitrail import registry
from vitrail.cli import main
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.predictor import Predictor
from vitrail.vit import ViTConfig

MEGABYTES = 8
SHAPE = "--set=model.patch_size=8 --set=model.dim=32 --set=model.depth=1 --set=model.heads=2 --set=model.mlp_dim=32"
TRAIN = f"--image-size 16 --workers 0 --device cpu --precision fp32 --augment none --epochs 1 --batch-size 4 {SHAPE}"

# In a command, {disk} is the small one, and what else is named lies beside it. A command that starts with > writes to
# a file on the disk; `run` is a copy of a finished run there.
COMMANDS = {
    "train": f"train pets --out {{disk}}/run --no-report {TRAIN}",
    "cross-validation": f"train pets --out {{disk}}/folds --folds 2 --no-report {TRAIN}",
    "report": "evaluate {disk}/run --split val --device cpu",
    "evaluate elsewhere": "evaluate run --split val --out {disk}/evaluation --device cpu",
    "comparison": "report run other --split val --out {disk}/comparison.html --device cpu",
    "predict to coco": "predict boxes.safetensors pets --out {disk}/found.json --device cpu",
    "predict to csv": "predict boxes.safetensors pets --out {disk}/found.csv --device cpu",
    "predict to yolo": "predict boxes.safetensors pets --out {disk}/found --device cpu",
    "predict to maps": "predict maps.safetensors pets --out {disk}/found --device cpu",
    "annotate": "predict boxes.safetensors pets --annotate {disk}/drawn --device cpu",
    "json": "> predict run pets --json --device cpu",
    "embed npz": "embed run pets --out {disk}/e.npz --device cpu",
    "embed parquet": "embed run pets --out {disk}/e.parquet --device cpu",
    "embed plot": "embed run pets --out {disk}/e.npz --plot {disk}/e.png --device cpu",
    "explain": "explain run pets/cat/0.png --out {disk}/explained --device cpu",
    "export onnx": "export run {disk}/m.onnx --to onnx",
    "export pt2": "export run {disk}/m.pt2 --to pt2",
    "export openvino": "export run {disk}/m.xml --to openvino",
    "export triton": "export run {disk}/served --to triton",
    "quantize onnx": "quantize run {disk}/m.onnx pets --calibration 8",
    "quantize openvino": "quantize run {disk}/m.xml pets --calibration 8",
    "convert native": "convert run {disk}/m.safetensors --to native",
    "convert folder": "convert run {disk}/m --to hf_vit",
    "convert file": "convert run {disk}/m.safetensors --to timm",
    "convert npz": "convert tanh.safetensors {disk}/m.npz --to google",
    "calibrate": "calibrate run {disk}/c.safetensors pets --split val --device cpu",
    "average": "average run other --out {disk}/a.safetensors",
    "compress": "compress run pets --split train --out {disk}/smaller --levels 1 --device cpu",
    "data export": "data export digits --split test --limit 60 --out {disk}/samples",
    "data convert coco": "data convert scenes {disk}/converted --to coco",
    "data convert voc": "data convert scenes {disk}/converted --to voc",
    "data convert yolo": "data convert scenes {disk}/converted --to yolo",
    "data convert csv": "data convert scenes {disk}/converted --to csv",
    "data convert masks": "data convert maps {disk}/converted --to masks",
    "data check": "data check pets --model run --out {disk}/look",
    "find rate": f"find-rate pets --steps 10 --plot {{disk}}/curve.png {TRAIN.replace('--epochs 1', '')}",
    "probe": "probe run pets --out {disk}/probe --device cpu",
    "benchmark": "benchmark run --engine eager --precision fp32 --batch-size 1 --seconds 0.05 --out {disk}/speed",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands name: pictures, scenes, two runs, and weights of other tasks."""
    folder, draw = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "pets" / name).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(draw.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"pets/{name}/{number}.png")
    for place in ("scenes/images", "scenes/labels", "maps/images", "maps/masks"):
        (folder / place).mkdir(parents=True)
    for number in range(12):
        picture = Image.fromarray(draw.integers(0, 256, (40, 50, 3), np.uint8))
        for place in ("scenes", "maps"):
            picture.save(folder / place / f"images/{number}.png")
        (folder / f"scenes/labels/{number}.txt").write_text("0 .5 .5 .2 .2\n1 .3 .3 .1 .1\n")
        Image.fromarray(draw.integers(0, 2, (40, 50), np.uint8)).save(folder / f"maps/masks/{number}.png")
    (folder / "scenes/data.yaml").write_text("path: .\nnames: [ant, bee]\ntrain: images\n")
    (folder / "maps/classes.json").write_text('["ground", "sky"]')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("run", "other"):
            assert main(["train", "pets", "--out", name, "--no-report", *TRAIN.split()]) == 0
    vit = ViTConfig(image_size=16, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=32)
    queries = {"num_queries": 4, "threshold": 0.005}
    tanh = ViTConfig(image_size=16, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=32, block={"mlp": "gelu_tanh"})
    classifier = registry.load("tasks", "classification")
    task = classifier.Task(classifier.Config(model=tanh, classes=("cat", "dog")))
    Predictor(task, PreprocessConfig(size=16), device="cpu").save(folder / "tanh.safetensors")
    for name, task, options in (("boxes", "detection_tokens", queries), ("maps", "segmentation", {})):
        module = registry.load("tasks", task)
        built = module.Task(module.Task.configure(vit, ("ant", "bee"), None, options))
        Predictor(built, PreprocessConfig(size=16, resize="pad"), device="cpu").save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def disk(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.chdir(made)
    monkeypatch.setattr("vitrail.report.style.DPI", 30)
    with small_disk(tmp_path / "disk", MEGABYTES) as place:
        yield place


def prepare(disk: Path, command: str) -> Callable[[], int]:
    """The disk as it is before a command, which is returned."""
    for each in disk.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    (disk / "old.txt").write_text("was here")
    if command.startswith("evaluate {disk}/run"):
        shutil.copytree("run", disk / "run")
    words = [word.replace("{disk}", str(disk)) for word in command.removeprefix("> ").split()]

    def run() -> int:
        if not command.startswith(">"):
            return main(words)
        file = (disk / "out.txt").open("w")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", file)
            code = main(words)
        with suppress(OSError):  # what is still to be written
            file.close()
        return code

    return run


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=[] if each in ("convert folder", "annotate") else pytest.mark.fuzz) for each in COMMANDS],
)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    name: str, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepare(disk, COMMANDS[name])
    before = contents(disk)
    assert run() == 0, capsys.readouterr().err
    whole = contents(disk)
    size = sum(len(data) for each, data in whole.items() if before.get(each) != data) // 1024
    assert whole != before
    for leave in sorted({0, size // 3, size * 3 // 4}):
        run = prepare(disk, COMMANDS[name])
        before = contents(disk)
        fill(disk, leave=leave)
        capsys.readouterr()
        code = run()
        said = capsys.readouterr().err
        if code == 0:  # it needs less than it leaves
            assert leave
            continue
        assert code == 2, said
        (line,) = [each for each in said.splitlines() if "error:" in each]
        assert "space" in line
        (disk / FILLER).unlink()
        assert not [each for each in disk.rglob("*") if each.name.startswith(".") and each.name != ".lock"], "litter"
        check_left(before, contents(disk), whole)


@pytest.mark.fuzz
@pytest.mark.parametrize("leave", [0, 60, 300])
def test_a_full_cache_costs_time_alone(
    leave: int, disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(disk / "cache"))
    fill(disk, leave=leave)
    assert main(["predict", "run", "pets", "--engine", "onnxruntime", "--device", "cpu"]) == 0, capsys.readouterr().err
    (disk / FILLER).unlink()
    assert not [each for each in disk.rglob("*") if each.name.startswith(".")], "litter"
    assert bool([*disk.rglob("*.onnx")]) == (leave == 300)


def check_left(before: dict[str, bytes], after: dict[str, bytes], whole: dict[str, bytes]) -> None:
    """What was there is there or replaced by something complete, and what is new is complete."""
    assert before.keys() <= after.keys() | {"run/summary.json"}
    for path, data in after.items():
        if data != before.get(path) and path.endswith((".png", ".jpg", ".npz", ".safetensors", ".onnx", ".html")):
            assert len(data) >= 0.5 * len(whole[path]), path
