"""huggingface/huggingface.js#429: a ViT with ``problem_type="multi_label_classification"`` was read with a softmax.

Siblings looked at: regression; one output without a problem type; Vitrail's multilabel and regression runs written for
transformers, whose head gives the numbers in their own unit; DINOv2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_vits import distance, randomised
from torch import nn

import vitrail
from vitrail import conversion
from vitrail.build import open_checkpoint
from vitrail.errors import UserError

SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip


class Logits(nn.Module):
    """Of a model of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images).logits


def classifier(family: str, **options: Any) -> Any:
    import transformers

    config = getattr(transformers, f"{family}Config")(**SIZES, **options)
    return randomised(getattr(transformers, f"{family}ForImageClassification")(config))


@pytest.mark.parametrize("family", ["ViT", "Dinov2"])
@pytest.mark.parametrize(
    ("problem", "task"), [("multi_label_classification", "multilabel"), ("regression", "regression")]
)
def test_of_transformers(family: str, problem: str, task: str, tmp_path: Path) -> None:
    theirs = classifier(family, num_labels=3, problem_type=problem)
    theirs.save_pretrained(tmp_path)
    found = open_checkpoint(tmp_path)
    assert found.task.name == task
    assert distance(found.load(), Logits(theirs), torch.randn(2, 3, 16, 16)) < 1e-5


def test_one_output_is_a_number_and_says_so(tmp_path: Path) -> None:
    classifier("ViT", num_labels=1).save_pretrained(tmp_path)
    found = open_checkpoint(tmp_path)
    assert found.task.name == "regression"
    assert any(line.startswith("problem_type: regression") for line in found.assumed)


def test_an_unknown_problem_type(tmp_path: Path) -> None:
    classifier("ViT", num_labels=3).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("{", '{"problem_type": "ranking",', 1))
    with pytest.raises(UserError, match="problem_type 'ranking'"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_written_for_transformers(task: str, tiny_predictor: Any, tmp_path: Path) -> None:
    import transformers

    predictor = tiny_predictor(task, image_size=16)
    predictor.save(tmp_path / "ours.safetensors")
    assert conversion.inspect(tmp_path / "ours.safetensors")["writes_as"]["huggingface"] == "hf_vit"
    vitrail.convert(tmp_path / "ours.safetensors", tmp_path / "theirs", to="huggingface")
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "theirs").eval()
    names = {"multilabel": "multi_label_classification", "regression": "regression"}
    assert theirs.config.problem_type == names[task]
    assert tuple(theirs.config.id2label.values()) == predictor.task.names
    images = torch.randn(2, 3, 16, 16)
    assert distance(predictor.task, Logits(theirs), images) < 1e-5
    again = open_checkpoint(tmp_path / "theirs")
    assert again.task.name == task
    assert distance(again.load(), predictor.task, images) < 1e-5
