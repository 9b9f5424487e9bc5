from __future__ import annotations

import gc
import os
import random
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from exported_once import share
from hypothesis import settings
from preloaded import preloaded
from scenes import draw_scenes

# Entries of this cache cost a small model a fifth of its export, and few are asked for again.
os.environ.setdefault("TORCH_FAKE_TENSOR_DISPATCH_CACHE", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--draw", type=int, default=0, help="other random inputs for all tests; each number gives its own")


def pytest_configure(config: pytest.Config) -> None:
    same = config.getoption("--draw") == 0
    settings.register_profile("any machine", deadline=None, derandomize=same)  # a busy core is no defect
    settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """What the libraries and the tests are made of stays: the collector need not look through it again and again."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _drawn(request: pytest.FixtureRequest) -> None:
    """Random inputs hang on the test's name and ``--draw`` alone: a failure can be repeated, alone and in any order."""
    import torch

    seed = zlib.crc32(f"{request.config.getoption('--draw')} {request.node.nodeid}".encode())
    random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture
def real_data() -> Path:
    """The folder of real images and weights that lies beside the checkout on development machines."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real images and weights are not on this machine (looked for {folder})")
    return folder


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of programs that need not wait for PyTorch (``preloaded.py``)."""
    with preloaded(tmp_path_factory.mktemp("programs"), os.environ | {"OMP_NUM_THREADS": "1"}) as folder:
        yield folder


@pytest.fixture
def forked_python(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts ``sys.executable`` gets an interpreter that has imported PyTorch already."""
    monkeypatch.setattr(sys, "executable", str(programs / "python"))


@pytest.fixture
def exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal models are traced and converted once in this process (``exported_once.py``)."""
    share(monkeypatch.setattr)


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is read from the user's cache or written there."""
    os.environ["VITRAIL_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, so that no test meets what another one left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache" / "vitrail"))
    return tmp_path / "cache"


@pytest.fixture
def scene_folder(tmp_path: Path, own_cache: Path) -> Path:
    """Twelve small pictures of one to three things, annotated as Pascal VOC does, with masks and class maps."""
    return draw_scenes(tmp_path / "scenes")


@pytest.fixture
def class_folder(tmp_path):
    """``class_folder(num)``: a folder with so many pictures of each of the tiny predictor's classes."""
    import numpy as np
    from PIL import Image

    def build(num: int) -> Path:
        rng = np.random.default_rng(0)
        for name in ("ant", "bee", "cat", "dog"):
            (tmp_path / "classes" / name).mkdir(parents=True)
            for i in range(num):
                pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "classes" / name / f"{i}.png")
        return tmp_path / "classes"

    return build


@pytest.fixture
def tiny_predictor():
    """``tiny_predictor(task="classification", channels=3, pool=None, **model)``: a predictor with random weights."""
    import torch

    from vitrail import registry
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.predictor import Predictor
    from vitrail.vit import ViTConfig

    def build(task="classification", channels=3, pool=None, resize="crop", pooling=None, **model):
        size = {"image_size": (16, 24), "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48}
        config = {"model": ViTConfig(**size | {"channels": channels} | model), "pool": pool, **(pooling or {})}
        if task == "regression":
            config |= {"targets": ("height", "weight"), "mean": (1.5, 60.0), "std": (0.5, 20.0)}
        else:
            config |= {"classes": ("ant", "bee", "cat", "dog")}
        module = registry.load("tasks", task)
        generator = torch.Generator().manual_seed(0)
        built = module.Task(module.Config(**config))
        for parameter in built.parameters():
            torch.nn.init.normal_(parameter, 0.05, 0.3, generator=generator)
        preprocess = PreprocessConfig(
            size=config["model"].image_size, channels=channels, resize=resize, crop_pct=0.9, interpolation="bicubic"
        )
        return Predictor(built, preprocess, device="cpu")

    return build
