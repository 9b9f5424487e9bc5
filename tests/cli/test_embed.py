from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from vitrail.cli import main
from vitrail.loading import load

rng = np.random.default_rng(0)


@pytest.fixture
def classes(tmp_path):
    """Two class folders of three pictures each, one picture broken."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            picture = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
            picture.save(tmp_path / "data" / name / f"{number}.png")
    (tmp_path / "data" / "cat" / "1.png").write_bytes(b"broken")
    return tmp_path / "data"


def test_vectors_names_and_labels(weights, classes, tmp_path, capsys):
    out = tmp_path / "f.npz"
    call = ["embed", weights, str(classes), "--out", str(out), "--device", "cpu"]
    assert main(call) == 2
    assert "cat/1.png" in capsys.readouterr().err
    assert not out.exists()
    assert main([*call, "--on-bad", "skip", "--batch-size", "2"]) == 0
    assert "skipped 1 of 6 pictures" in capsys.readouterr().err
    with np.load(out) as found:
        assert found["embedding"].shape == (5, 32)
        assert found["embedding"].dtype == np.float32
        assert found["label"].tolist() == ["cat"] * 2 + ["dog"] * 3
        assert found["target"].tolist() == [0, 0, 1, 1, 1]
        assert set(found["split"]) == {"train"}
        vectors = load(weights, device="cpu").embed(found["name"].tolist())
        np.testing.assert_allclose(found["embedding"], vectors, rtol=1e-4, atol=1e-5)
    assert main(call) == 2
    assert "is there already" in capsys.readouterr().err


def test_parquet_of_pictures_without_labels(weights, photos, tmp_path):
    import pyarrow.parquet

    out = tmp_path / "f.parquet"
    assert main(["embed", weights, str(photos), "--no-labels", "--out", str(out), "--device", "cpu"]) == 0
    table = pyarrow.parquet.read_table(out).to_pydict()
    assert set(table) == {"embedding", "name", "split"}
    vectors = load(weights, device="cpu").embed(table["name"])
    np.testing.assert_allclose(np.array(table["embedding"]), vectors, rtol=1e-4, atol=1e-5)


def test_a_map(weights, classes, tmp_path):
    (classes / "cat" / "1.png").unlink()
    call = ["embed", weights, str(classes), "--out", str(tmp_path / "f.npz"), "--plot", str(tmp_path / "map.png")]
    assert main([*call, "--device", "cpu"]) == 0
    with Image.open(tmp_path / "map.png") as drawn:
        assert len(drawn.convert("RGB").getcolors(10**6)) > 10


def test_parquet_without_pyarrow_names_the_command(weights, classes, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["embed", weights, str(classes), "--out", str(tmp_path / "f.parquet")]) == 2
    assert "pip install 'vitrail[parquet]'" in capsys.readouterr().err


def test_another_format_is_refused_before_any_work(capsys, tmp_path):
    assert main(["embed", "no-run", "no-data", "--out", str(tmp_path / "f.csv")]) == 2
    assert "name it .npz or .parquet" in capsys.readouterr().err
