"""The examples in the help of every verb, run on small models and images. Those that train or measure for long are run
with the pages of the documentation."""

from __future__ import annotations

import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from vitrail import cli, vit_presets
from vitrail.terminal.help_pages import examples

QUICK = (
    "config",
    "predict",
    "fidelity",
    "evaluate",
    "explain",
    "embed",
    "convert",
    "inspect",
    "models",
    "help",
    "completion",
)
QUICK_DATA = ("check", "stats", "export", "convert", "inspect")
SLOW = ("train", "pretrain", "compress", "probe", "export", "quantize", "report")
SHELL = {"|", ">", "<"}
ABSENT = ("hf://", "--download", "runs/detector")  # the network, and another kind of model
ABSENT += ("--resume", "scans.csv", "cameras.csv", "schedule=falling")  # another folder's data, tables, a larger model
ELSEWHERE = ("serve", "benchmark", "push")  # a server, minutes of measuring, and the network: in their own tests
ELSEWHERE += ("average", "calibrate", "find-rate", "merge-adapter", "tune")  # several runs, adapters, searches
ELSEWHERE += ("generate",)  # a model that draws
RUNS = ("birds", "birds-2", "other", "photos", "large", "mae-photos", "dino-photos")


def runnable(*verb):
    """The arguments of each example, without those that need a shell, the network or another kind of model."""
    for line in examples(cli.document(verb)):
        line = line.partition(" > ")[0].partition("  ")[0]
        tokens = shlex.split(line)
        if (
            tokens[: len(verb) + 1] == ["vitrail", *verb]
            and not SHELL & set(tokens)
            and not any(word in line for word in ABSENT)
        ):
            yield tokens[1:]


QUICK_EXAMPLES = [tokens for verb in QUICK for tokens in runnable(verb)]
QUICK_EXAMPLES += [tokens for name in QUICK_DATA for tokens in runnable("data", name)]
SLOW_EXAMPLES = [tokens for verb in SLOW for tokens in runnable(verb)]


def test_each_verb_is_here_or_in_its_own_tests():
    assert {verb.name for verb in cli.verbs()} == {*QUICK, *SLOW, *ELSEWHERE, "data"}
    assert {tokens[0] for tokens in QUICK_EXAMPLES + SLOW_EXAMPLES} == {*QUICK, *SLOW, "data"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with photos of two birds, and a run on them."""
    from vitrail.data import DataConfig, SourceConfig
    from vitrail.data.loading.loader import LoaderConfig
    from vitrail.train.loop import fit
    from vitrail.train.run import Run
    from vitrail.vit_config import ViTConfig

    root = tmp_path_factory.mktemp("examples")
    draw = np.random.default_rng(0)
    for name in ("robin", "wren"):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = draw.integers(0, 256, (40, 48, 3), np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{number}.jpg")
    model = ViTConfig(image_size=32, patch_size=8, dim=16, depth=6, heads=2, mlp_dim=16)
    data = DataConfig(source=SourceConfig(spec="photos/"), loader=LoaderConfig(batch_size=8, workers=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        fit(Run(data=data, model=model, epochs=1, precision="fp32", device="cpu"), root / "runs" / "birds")
    return root


@pytest.fixture
def sandbox(trained, tmp_path, monkeypatch, scene_folder):
    """The names that examples use, and published sizes that are small."""
    shutil.copytree(trained / "photos", tmp_path / "photos")
    shutil.copytree(trained / "photos", tmp_path / "flowers")
    shutil.copytree(trained / "photos" / "wren", tmp_path / "in")
    for name in ("photo.jpg", "other.jpg", "a.jpg", "b.jpg"):
        Image.open(trained / "photos" / "robin" / "0.jpg").resize((192, 160)).save(tmp_path / name)
    draw = np.random.default_rng(1)
    for place in ("unseen/robin", "unseen/wren", "drawn/robin", "drawn/wren"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / place / f"{number}.png")
    for name in RUNS:
        shutil.copytree(trained / "runs" / "birds", tmp_path / "runs" / name)
    for name in ("model.safetensors", "vit.safetensors", "my-vit.safetensors"):
        shutil.copy(trained / "runs" / "birds" / "weights" / "best.safetensors", tmp_path / name)
    for size in ("Ti", "S"):
        monkeypatch.setitem(vit_presets.SIZES, size, (16, 6, 2, 16, {}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shortened(tokens):
    """With two epochs, where the verb trains, and in a folder of its own."""
    if tokens[0] not in ("train", "pretrain"):
        return tokens
    kept = list(tokens)
    for option in ("--epochs", "--batch-size"):
        if option in kept:
            place = kept.index(option)
            del kept[place : place + 2]
    kept += [] if {"--name", "--out"} & set(kept) else ["--out", "begun"]
    once = ["--set", "data.loader.passes=1"] if "super_resolution" in tokens else []
    return [*kept, "--epochs", "2", "--set", "data.loader.workers=0", "--batch-size", "8", *once]


@pytest.mark.parametrize("tokens", QUICK_EXAMPLES, ids=" ".join)
def test_a_quick_example_runs(sandbox, tokens, capsys):
    if "--exclude" in tokens:  # what another example wrote
        (table := sandbox / tokens[tokens.index("--exclude") + 1]).parent.mkdir()
        table.write_text("name\nphotos/wren/3.jpg\n")
    assert cli.main(tokens) == 0, capsys.readouterr().err


@pytest.mark.docs
@pytest.mark.parametrize("tokens", SLOW_EXAMPLES, ids=" ".join)
def test_a_slow_example_runs(sandbox, tokens, capsys):
    assert cli.main(shortened(tokens)) == 0, capsys.readouterr().err
