from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from timm.scheduler import CosineLRScheduler

from vitrail import registry
from vitrail.build import REGISTRIES
from vitrail.config import load, override, save
from vitrail.data.transforms.batched import ErasingConfig
from vitrail.data.transforms.preprocess import Preprocess
from vitrail.tasks.classification import Task
from vitrail.train.run import Run
from vitrail.train.schedule import factor

recipes = pytest.mark.parametrize("name", registry.names("recipes"))


@recipes
def test_a_recipe_is_a_run_that_survives_yaml_and_names_its_command(name: str, tmp_path: Path) -> None:
    module = registry.load("recipes", name)
    run = module.run()
    save(run, tmp_path / "config.yaml")
    assert load(Run, tmp_path / "config.yaml") == run
    assert f"--recipe {name}" in module.__doc__ or f"--method {name}" in module.__doc__


@recipes
def test_a_recipes_model_takes_its_images(name: str) -> None:
    run = registry.load("recipes", name).run()
    module = registry.load_from(REGISTRIES, "classification" if run.task == "auto" else run.task)
    names = [str(i) for i in range(10)]
    task = module.Task(module.Task.configure(run.model, names, torch.arange(10).numpy(), run.task_options))
    size = run.preprocess
    with torch.inference_mode():
        outputs = task(torch.randn(2, size.channels, *size.size))
    assert outputs.isfinite().all()
    assert len(run.data.views) >= bool(task.num_views)


@recipes
@pytest.mark.parametrize("epochs", [1, 30, 2000])
def test_a_training_of_any_length_reaches_the_peak_rate_and_decays(name: str, epochs: int) -> None:
    run = override(registry.load("recipes", name).run(), {"epochs": epochs})
    rates = [factor(run.schedule, step, 20 * epochs, 20) for step in range(20 * epochs)]
    assert max(rates) == 1
    assert rates[-1] <= 0.1


GPUS = 8
DEIT3 = {  # the authors' commands for ImageNet-1k, README_revenge.md
    "deit3_s16_in1k": "--model deit_small_patch16_LS --batch 256 --lr 4e-3 --epochs 800 --weight-decay 0.05 "
    "--sched cosine --input-size 224 --reprob 0.0 --smoothing 0.0 --warmup-epochs 5 --drop 0.0 --opt fusedlamb "
    "--warmup-lr 1e-6 --mixup .8 --drop-path 0.05 --cutmix 1.0 --unscale-lr --repeated-aug --bce-loss "
    "--color-jitter 0.3 --ThreeAugment",
    "deit3_b16_in1k": "--model deit_base_patch16_LS --batch 256 --lr 3e-3 --epochs 800 --weight-decay 0.05 "
    "--sched cosine --input-size 192 --reprob 0.0 --smoothing 0.0 --warmup-epochs 5 --drop 0.0 --opt fusedlamb "
    "--warmup-lr 1e-6 --mixup .8 --drop-path 0.2 --cutmix 1.0 --unscale-lr --repeated-aug --bce-loss "
    "--color-jitter 0.3 --ThreeAugment",
}
DIMS = {"deit_small_patch16_LS": 384, "deit_base_patch16_LS": 768}


@pytest.mark.parametrize("name", DEIT3)
def test_deit3_has_the_settings_of_the_authors_command(name: str) -> None:
    run = registry.load("recipes", name).run()
    words = DEIT3[name].split()
    pairs = pairwise(words)
    given = {word: value for word, value in pairs if word.startswith("--") and not value.startswith("--")}
    number = {word: float(value) for word, value in given.items() if value.lstrip(".")[:1].isdigit()}
    assert run.data.loader.batch_size == GPUS * number["--batch"]
    assert (run.optimizer.name, run.optimizer.lr, run.optimizer.base_lr) == ("lamb", number["--lr"], None)
    assert run.optimizer.weight_decay == number["--weight-decay"]
    assert (run.epochs, run.schedule.warmup * run.epochs) == (number["--epochs"], number["--warmup-epochs"])
    assert run.schedule.final * number["--lr"] == pytest.approx(1e-5)  # main.py's --min-lr
    assert run.model.image_size == (number["--input-size"],) * 2
    assert (run.model.dim, run.model.patch_size) == (DIMS[given["--model"]], (16, 16))
    assert run.task_options == {"loss": "bce"}  # and neither smoothing nor erasing
    augment = run.data.augment
    assert (augment.policy, augment.repeats, augment.erasing) == ("three", 3, None)
    assert (augment.mix.mixup, augment.mix.cutmix) == (number["--mixup"], number["--cutmix"])
    assert augment.colour.jitter == (number["--color-jitter"],) * 3 + (0.0,)
    vit = Task(Task.configure(run.model, ["a", "b"], torch.arange(2).numpy(), run.task_options)).vit
    rates = [branch.drop_path.rate for block in vit.blocks for branch in (block.branch1, block.branch2)]
    assert rates == pytest.approx([number["--drop-path"]] * 24)
    assert vit.positions.num_prefix == 0  # models_v2.py: positions are added before the class token comes
    assert all((block.branch1.scale.gamma == 1e-4).all() for block in vit.blocks)


def test_deit_has_the_defaults_of_the_authors_code() -> None:
    """main.py, on 1,024 images a step: lr 5e-4 · batch / 512, timm's cosine schedule and evaluation."""
    run = registry.load("recipes", "deit_s16_in1k").run()
    peak = run.optimizer.peak_lr(run.data.loader.batch_size)
    assert peak == pytest.approx(5e-4 * 1024 / 512)
    rule = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(()))], lr=peak)
    theirs = CosineLRScheduler(rule, t_initial=300, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    for epoch in range(300):
        own = peak * factor(run.schedule, 100 * epoch, 100 * run.epochs, 100)
        assert abs(own - theirs._get_lr(epoch)[0]) < 0.025 * peak
    assert (run.optimizer.name, run.optimizer.weight_decay, run.clip, run.ema) == ("adamw", 0.05, None, None)
    assert run.task_options == {"label_smoothing": 0.1}
    augment = run.data.augment
    assert (augment.policy, augment.num_ops, augment.magnitude, augment.repeats) == ("randaugment", 2, 9, 3)
    assert (augment.magnitude_std, augment.op_probability) == (0.5, 0.5)
    assert (augment.mix.mixup, augment.mix.cutmix, augment.mix.probability, augment.mix.cutmix_share) == (
        0.8,
        1,
        1,
        0.5,
    )
    assert augment.erasing == ErasingConfig(probability=0.25, area=(0.02, 1 / 3), fill="noise")
    evaluation = transforms_imagenet_eval(224, crop_pct=0.875, interpolation="bicubic")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8))
    torch.testing.assert_close(Preprocess(run.preprocess)(image), evaluation(image), rtol=0, atol=1e-5)


def test_the_plain_vit_has_the_settings_of_big_vision() -> None:
    """configs/vit_s16_i1k.py; its wd of 1e-4 is not multiplied by lr."""
    run = registry.load("recipes", "vit_s16_in1k").run()
    steps = run.schedule.warmup_epochs * 1_281_167 / run.data.loader.batch_size
    assert steps == pytest.approx(10_000, rel=0.01)
    assert (run.data.loader.batch_size, run.epochs, run.clip) == (1024, 90, 1.0)
    assert (run.optimizer.name, run.optimizer.lr, run.optimizer.weight_decay * run.optimizer.lr) == (
        "adamw",
        1e-3,
        1e-4,
    )
    assert run.task_options == {"head": {"hidden": run.model.dim}}
    assert (run.model.positions, run.model.class_token) == ("sincos_2d", False)
    augment = run.data.augment
    assert (augment.crop, augment.area, augment.policy, augment.mix.mixup) == (
        "inception",
        (0.05, 1),
        "randaugment_tf",
        0.2,
    )


def test_pretraining_crops_as_the_papers_code() -> None:
    crops = {name: registry.load("recipes", name).run().preprocess.interpolation for name in registry.names("pretrain")}
    bicubic = {name for name, interpolation in crops.items() if interpolation == "bicubic"}
    assert bicubic == {"mae", "dino", "ibot", "simclr"}  # MoCo v3 and SimMIM leave torchvision's default


def test_the_fashion_model_keeps_its_budget() -> None:
    run = registry.load("recipes", "fashion_mnist").run()
    task = Task(Task.configure(run.model, [str(i) for i in range(10)], torch.arange(10).numpy(), run.task_options))
    assert sum(p.numel() for p in task.parameters()) <= 1_500_000
