"""The losses of each kind against their papers' formulas, written out, and against DeiT's own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.distill import DistillConfig, Teacher
from vitrail.distill.distilled import Distilled
from vitrail.distill.preprocess import TeacherPreprocess
from vitrail.nn.head import HeadConfig
from vitrail.tasks.classification import Config, Task
from vitrail.vit import ViTConfig

CLASSES = ("ant", "bee", "cat", "dog", "eel")
SEEN = PreprocessConfig(size=16)


def student(*, token: bool = False, **settings: Any) -> Task:
    """A tiny classifier with random weights, in evaluation mode: nothing is dropped."""
    model = ViTConfig(image_size=16, patch_size=4, dim=32, depth=2, heads=2, mlp_dim=48, distillation_token=token)
    if token:
        settings |= {"pool": "cls_distillation", "head": HeadConfig(distilled=True)}
    task = Task(Config(model=model, classes=CLASSES, **settings))
    for parameter in task.parameters():
        nn.init.normal_(parameter, 0.02, 0.3)
    return task.eval()


class Cnn(nn.Module):
    """A network that is no ViT: logits B K, and a feature map B 12 4 4."""

    def __init__(self, num_classes: int = len(CLASSES), channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 12, 4, 4), nn.BatchNorm2d(12), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(12, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).mean(dim=(2, 3)))


def cnn(**sizes: int) -> Cnn:
    model = Cnn(**sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
        model(torch.randn(32, sizes.get("channels", 3), 16, 16))  # running statistics that matter
    return model


def batch() -> dict[str, Tensor]:
    return {"images": torch.randn(6, 3, 16, 16), "targets": torch.randint(len(CLASSES), (6,))}


def heads(task: Task, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the class token and of the distillation token, by the weights alone."""
    tokens = task.vit(images).tokens
    head = task.head
    return F.linear(tokens[:, 0], head.output.weight, head.output.bias), F.linear(
        tokens[:, 1], head.distillation.weight, head.distillation.bias
    )


def cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    return -(probabilities * (logits - logits.logsumexp(1, keepdim=True))).sum(1).mean()


def one_hot(labels: Tensor) -> Tensor:
    return torch.eye(len(CLASSES))[labels]


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_hard_is_equation_3(token: bool, mixed: bool) -> None:
    task, model, given = student(token=token, label_smoothing=0.1), cnn(), batch()
    labels = torch.rand(6, 5).softmax(1) if mixed else one_hot(given["targets"])
    if mixed:
        given["targets"] = labels
    by_class, by_token = heads(task, given["images"]) if token else (task(given["images"]),) * 2
    decided = one_hot(model.eval()(given["images"]).argmax(1))
    expected = 0.5 * cross_entropy(by_class, 0.9 * labels + 0.1 / 5) + 0.5 * cross_entropy(by_token, decided)
    distilled = Distilled(task, Teacher(model, SEEN, CLASSES), DistillConfig(teacher="a model"), SEEN)
    losses = distilled.loss(given)
    torch.testing.assert_close(losses["loss"], expected)
    torch.testing.assert_close(losses["distillation_loss"], cross_entropy(by_token, decided))


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize(("weight", "temperature"), [(None, 3.0), (0.7, 1.5)])
def test_soft_is_equation_2_and_deits_code(token: bool, weight: float | None, temperature: float) -> None:
    task, model, given = student(token=token), cnn(), batch()
    by_class, by_token = heads(task, given["images"]) if token else (task(given["images"]),) * 2
    answers = model.eval()(given["images"])
    p, q = (answers / temperature).softmax(1), (by_token / temperature).softmax(1)
    divergence = temperature**2 * (p * (p / q).log()).sum(1).mean()
    share = 0.1 if weight is None else weight
    expected = (1 - share) * cross_entropy(by_class, one_hot(given["targets"])) + share * divergence
    config = DistillConfig(teacher="a model", kind="soft", weight=weight, options={"temperature": temperature})
    distilled = Distilled(task, Teacher(model, SEEN, CLASSES), config, SEEN)
    losses = distilled.loss(given)
    torch.testing.assert_close(losses["loss"], expected)
    deit = (  # facebookresearch/deit, losses.py, which divides by the number of classes as well
        F.kl_div(
            F.log_softmax(by_token / temperature, dim=1),
            F.log_softmax(answers / temperature, dim=1),
            reduction="sum",
            log_target=True,
        )
        * (temperature * temperature)
        / by_token.numel()
    )
    torch.testing.assert_close(losses["distillation_loss"], deit * len(CLASSES))


def whitened(features: Tensor) -> Tensor:
    centred = features - features.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def smooth_l1(distance: Tensor) -> Tensor:
    near = distance.abs() <= 2
    return torch.where(near, distance.square() / 4, distance.abs() - 1).mean()


@pytest.mark.parametrize("of", ["patches", "pooled"])
@pytest.mark.parametrize("token", [False, True])
def test_features_are_whitened_projected_and_smooth(of: str, token: bool) -> None:
    task, model, given = student(token=token), cnn(), batch()
    teacher = Teacher(model, SEEN, features=model.body)  # no classes are needed
    config = DistillConfig(teacher="a model", kind="features", options={"of": of})
    distilled = Distilled(task, teacher, config, SEEN)
    projector = distilled.distillation["objective"].projector
    nn.init.normal_(projector.weight)
    nn.init.normal_(projector.bias)
    found = task.vit(given["images"])
    maps = model.eval().body(given["images"])
    if of == "patches":
        own, others = found.patches, maps.flatten(2).mT
    else:
        own, others = found.tokens[:, :2].flatten(1) if token else found.cls, maps.mean((2, 3))
    distance = smooth_l1(own @ projector.weight.T + projector.bias - whitened(others))
    labels = cross_entropy(task(given["images"]), one_hot(given["targets"]))  # of both heads, where there are two
    losses = distilled.loss(given)
    torch.testing.assert_close(losses["distillation_loss"], distance)
    torch.testing.assert_close(losses["loss"], 0.5 * labels + 0.5 * distance)


def test_a_map_of_another_grid_is_resized_to_the_students() -> None:
    task, given = student(), batch()
    fine = torch.nn.Conv2d(3, 8, 2, 2)  # 8×8 places for the student's 4×4
    distilled = Distilled(task, Teacher(fine, SEEN), DistillConfig(teacher="a model", kind="features"), SEEN)
    projector = distilled.distillation["objective"].projector
    maps = F.interpolate(fine(given["images"]), (4, 4), mode="bilinear", antialias=True)
    distance = smooth_l1(projector(task.vit(given["images"]).patches) - whitened(maps.flatten(2).mT))
    torch.testing.assert_close(distilled.loss(given)["distillation_loss"], distance)


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("kind", ["hard", "soft", "features"])
def test_gradients_reach_all_of_the_student_and_nothing_of_the_teacher(kind: str, token: bool) -> None:
    task, model = student(token=token), cnn()
    config = DistillConfig(teacher="a model", kind=kind)
    distilled = Distilled(task, Teacher(model, SEEN, CLASSES, features=model.body), config, SEEN)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    distilled.train()
    distilled.loss(batch())["loss"].backward()
    assert [name for name, p in distilled.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # no running mean either
    assert not any(module.training for module in model.modules())


def test_labels_reach_one_head_and_the_teacher_the_other() -> None:
    for weight, quiet in ((0.0, "distillation"), (1.0, "output")):
        task = student(token=True)
        config = DistillConfig(teacher="a model", weight=weight)
        distilled = Distilled(task, Teacher(cnn(), SEEN, CLASSES), config, SEEN)
        distilled.loss(batch())["loss"].backward()
        assert [name for name in ("output", "distillation") if not getattr(task.head, name).weight.grad.any()] == [
            quiet
        ]


def test_the_student_predicts_with_both_heads_before_and_after() -> None:
    task, given = student(token=True), batch()
    by_class, by_token = heads(task, given["images"])
    distilled = Distilled(task, Teacher(cnn(), SEEN, CLASSES), DistillConfig(teacher="a model"), SEEN)
    distilled.loss(given)
    torch.testing.assert_close(task(given["images"]), (by_class + by_token) / 2)


def test_a_teacher_of_more_classes_in_another_order_is_asked_about_the_students() -> None:
    task, given = student(), batch()
    names = ("fox", *reversed(CLASSES), "gnu")
    model = cnn(num_classes=7)
    distilled = Distilled(
        task, Teacher(model, SEEN, names), DistillConfig(teacher="a model", kind="soft", weight=1), SEEN
    )
    answers = model(given["images"])[:, [5, 4, 3, 2, 1]]
    p, q = (answers / 3).softmax(1), (task(given["images"]) / 3).softmax(1)
    torch.testing.assert_close(distilled.loss(given)["loss"], 9 * (p * (p / q).log()).sum(1).mean())


def test_the_teacher_sees_the_same_picture_in_its_own_terms() -> None:
    """What reaches it is what its own preprocessing would make of the student's picture."""
    own = PreprocessConfig(size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    other = PreprocessConfig(size=16, rescale=1 / 127.5, mean=1.0, std=(1.0, 0.5, 2.0))
    from vitrail.data.transforms.preprocess import Preprocess

    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8))
    preprocess = TeacherPreprocess(own, other, torch.device("cpu"))
    torch.testing.assert_close(
        preprocess(Preprocess(own).finish(pixels)), Preprocess(other).finish(pixels), rtol=0, atol=2e-5
    )
    same = Preprocess(own).finish(pixels)
    assert torch.equal(TeacherPreprocess(own, own, torch.device("cpu"))(same), same)


def test_a_teacher_of_another_size_sees_the_whole_picture_resized() -> None:
    flat = torch.full((2, 3, 16, 16), 0.7)
    flat[:, :, :, 8:] = -0.3
    seen = TeacherPreprocess(SEEN, PreprocessConfig(size=(32, 24)), torch.device("cpu"))(flat)
    assert seen.shape == (2, 3, 32, 24)
    torch.testing.assert_close(seen[..., :8], torch.full((2, 3, 32, 8), 0.7))
    torch.testing.assert_close(seen[..., 16:], torch.full((2, 3, 32, 8), -0.3))
