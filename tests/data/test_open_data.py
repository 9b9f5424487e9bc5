from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.config import from_dict, override, to_dict
from vitrail.data import DataConfig, augmentation, open_data
from vitrail.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, num in (("train", 12), ("val", 5)):
        for i in range(num):
            path = tmp_path / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return tmp_path


def settings(folder: Path, **others) -> DataConfig:
    data = {"source": {"spec": str(folder)}, "preprocess": {"size": 16}, "loader": {"batch_size": 4, "workers": 0}}
    return from_dict(DataConfig, data | others)


def test_a_folder_becomes_loaders(folder):
    config = settings(folder, augment={"mix": {"mixup": 0.5}, "horizontal_flip": 0.5, "repeats": 2})
    data = open_data(config)
    assert (data.kind, data.classes) == ("class", ("a", "b"))
    batches = list(data.train_loader(seed=1).batches(0))
    assert [batch["targets"].shape for batch in batches] == [(4, 2)] * 3  # soft: the mix of the config is on
    assert len(torch.cat([batch["index"] for batch in batches]).unique()) == 6  # so are the repeats
    shown = list(data.eval_loader().batches())
    assert torch.cat([batch["index"] for batch in shown]).tolist() == [0, 1, 2, 3, 4]
    assert shown[0]["targets"].dtype == torch.int64
    share = next(data.train_loader(seed=1, rank=1, world_size=2).batches(0))
    assert torch.equal(share["index"], batches[0]["index"][1::2])
    with pytest.raises(UserError, match=r"no split 'test'; choose one of: train, val"):
        data.eval_loader("test")


def test_an_augmentation_may_be_written_as_its_name(folder):
    config = settings(folder, augment="deit3")
    assert config.augment == augmentation("deit3")
    assert override(settings(folder), {"augment": "deit3"}) == config
    assert from_dict(DataConfig, to_dict(config)) == config
    with pytest.raises(UserError, match="unknown augmentation 'diet'"):
        settings(folder, augment="diet")
