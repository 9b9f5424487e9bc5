from __future__ import annotations

import dataclasses
import gc
import io
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data import (
    Augment,
    AugmentConfig,
    Loader,
    LoaderConfig,
    Mix,
    MixConfig,
    Preprocess,
    PreprocessConfig,
    augmentation,
)
from vitrail.data.loading.loader import worker_failure
from vitrail.data.media.decode import BadImage
from vitrail.data.source import Source
from vitrail.data.storage.arrays import Arrays
from vitrail.data.transforms.batched import AffineConfig, ErasingConfig
from vitrail.errors import UserError

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
INPUT = PreprocessConfig(size=16)
Started = Callable[[], list[multiprocessing.process.BaseProcess]]


@pytest.fixture
def started() -> Started:
    """``started()``: the processes alive that this test has started."""
    gc.collect()  # of loaders that earlier tests left in a cycle
    earlier = {child.pid for child in multiprocessing.active_children()}
    return lambda: [child for child in multiprocessing.active_children() if child.pid not in earlier]


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn(Source):
    """PNG files that exist only while they are read; ``bad`` ones hold text."""

    num: int
    bad: tuple[int, ...] = ()
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.num

    def name(self, index: int) -> str:
        return f"drawn/{index}.png"

    def read(self, index: int) -> bytes:
        self.reads.append(index)
        if index in self.bad:
            raise BadImage("is no image")
        file = io.BytesIO()
        pixels = np.random.default_rng(index).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "png")
        return file.getvalue()


def drawn(num: int = 50, bad: tuple[int, ...] = ()) -> Drawn:
    return Drawn(targets=np.arange(num) % 5, kind="class", classes=tuple("abcde"), num=num, bad=bad)


def loader(source: Source, augment: AugmentConfig | None = None, *, train: bool = True, **settings) -> Loader:
    augment = augment or AugmentConfig(crop="resized", horizontal_flip=0.5)
    world = {name: settings.pop(name) for name in ("rank", "world_size", "seed") if name in settings}
    config = LoaderConfig(**{"batch_size": 12, "workers": 0} | settings)
    transform = Augment(augment, INPUT) if train else Preprocess(INPUT)
    mix = Mix(augment.mix, source.kind, len(source.classes))
    return Loader(source, transform, config, train=train, mix=mix, repeats=augment.repeats, **world)


def assert_same(batches: list[dict], others: list[dict]) -> None:
    assert len(batches) == len(others)
    for a, b in zip(batches, others, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


AUGMENTATIONS = {
    "deit": augmentation("deit"),
    "cached": AugmentConfig(
        horizontal_flip=0.5,
        affine=AffineConfig(degrees=20, translate=0.1),
        erasing=ErasingConfig(),
        mix=MixConfig(mixup=0.5, cutmix=0.5),
    ),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_processes_that_are_not_forked_make_the_same_batches(name):
    """Windows, macOS and Python 3.14 start workers anew, and hand them a pickled copy."""
    ours = loader(drawn(), AUGMENTATIONS[name], seed=3)
    theirs = loader(drawn(), AUGMENTATIONS[name], seed=3)
    theirs._assembly = pickle.loads(pickle.dumps(ours._assembly))
    assert_same(list(theirs.batches(1)), list(ours.batches(1)))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_workers_and_restarts_never_change_a_batch(name):
    source, augment = drawn(), AUGMENTATIONS[name]
    expected = {e: list(loader(source, augment, seed=3).batches(e)) for e in (0, 1)}
    assert len(expected[0]) == len(loader(source, augment)) == 4
    assert not torch.equal(expected[0][0]["images"], expected[1][0]["images"])
    for workers in (1, 2, 4):
        ours = loader(source, augment, seed=3, workers=workers)
        assert_same(list(ours.batches(1)), expected[1])  # in another order of epochs, from the same processes
        assert_same(list(ours.batches(0)), expected[0])
        assert_same(list(ours.batches(1, start_step=3)), expected[1][3:])
        ours.close()


def test_the_seed_changes_the_batches():
    first, other = (next(loader(drawn(), seed=seed).batches(0)) for seed in (0, 1))
    assert first["index"].tolist() != other["index"].tolist()


def test_batches_are_what_the_contract_says():
    batch = next(loader(drawn()).batches(0))
    assert batch["images"].shape == (12, 3, 16, 16)
    assert batch["images"].dtype == torch.float32
    assert batch["targets"].dtype == batch["index"].dtype == torch.int64
    assert torch.equal(batch["targets"], batch["index"] % 5)
    soft = next(loader(drawn(), AUGMENTATIONS["cached"]).batches(0))["targets"]
    assert soft.shape == (12, 5)
    torch.testing.assert_close(soft.sum(1), torch.ones(12))


def test_repeats_of_an_image_are_augmented_differently():
    batch = next(loader(drawn(), AugmentConfig(crop="resized", repeats=3)).batches(0))
    assert batch["index"].reshape(4, 3).unique(dim=1).shape == (4, 1)
    assert len(batch["images"].unique(dim=0)) == 12


@pytest.mark.parametrize("augment", [AugmentConfig(crop="resized"), AugmentConfig(affine=AffineConfig(degrees=20))])
def test_an_image_is_augmented_differently_in_each_epoch_and_for_each_seed(augment):
    def image_7(seed: int, epoch: int) -> torch.Tensor:
        (batch,) = loader(drawn(), augment, seed=seed, batch_size=50).batches(epoch)
        return batch["images"][batch["index"] == 7]

    seen = torch.cat([image_7(seed, epoch) for seed in (0, 1) for epoch in (0, 1)])
    assert len(seen.unique(dim=0)) == 4


@pytest.mark.parametrize("kind", ["multilabel", "number"])
def test_rows_of_targets_follow_their_images(kind):
    source = drawn()
    columns = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    targets = columns if kind == "number" else np.round(columns)
    source = dataclasses.replace(source, kind=kind, targets=targets, classes=("a", "b", "c"))
    batch = next(loader(source).batches(0))
    assert torch.equal(batch["targets"], torch.from_numpy(targets)[batch["index"]])


def test_arrays_of_many_channels():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 18, 6), dtype=np.uint8)
    source = Arrays(
        images=pixels, label="x.npz", targets=np.arange(10) % 2, kind="class", classes=("a", "b"), channels=6
    )
    transform = Augment(AugmentConfig(crop="resized", shift=2), PreprocessConfig(size=16, channels=6))
    batch = next(Loader(source, transform, LoaderConfig(batch_size=4, workers=0), train=True).batches(0))
    assert batch["images"].shape == (4, 6, 16, 16)


def test_sources_without_targets_give_none():
    batch = next(loader(drawn().unlabelled()).batches(0))
    assert batch.keys() == {"images", "index", "keys"}


def test_evaluation_gives_each_image_once_in_order_as_for_inference():
    source = drawn(29)
    batches = list(loader(source, train=False, workers=2).batches())
    assert torch.cat([b["index"] for b in batches]).tolist() == list(range(29))
    image = Image.open(io.BytesIO(source.read(17)))
    assert torch.equal(torch.cat([b["images"] for b in batches])[17], Preprocess(INPUT)(image))


@pytest.mark.parametrize("train", [True, False])
def test_ranks_together_make_the_batch_of_one_process(train):
    source = drawn(41)
    mix = MixConfig(mixup=0.8, cutmix=1.0)
    augment = AugmentConfig(crop="resized", horizontal_flip=0.5, erasing=ErasingConfig(), repeats=2, mix=mix)
    alone = list(loader(source, augment, train=train).batches(2))
    shares = [list(loader(source, augment, train=train, rank=r, world_size=3).batches(2)) for r in range(3)]
    for step, batch in enumerate(alone):
        parts = [share[step] for share in shares if step < len(share)]
        for key in ("images", "targets", "index"):
            rows = torch.empty_like(batch[key])
            for rank, part in enumerate(parts):
                rows[rank::3] = part[key]
            assert torch.equal(rows, batch[key])


@pytest.mark.parametrize("workers", [0, 2])
def test_global_generators_are_not_disturbed(workers):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  the legacy state is what must not change
    random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    for _ in loader(drawn(), augmentation("deit"), workers=workers).batches(0):
        pass
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_an_error_that_names_it_and_ends_the_workers(workers, started):
    with pytest.raises(UserError, match=r"^drawn/7\.png is no image; ") as caught:
        list(loader(drawn(bad=(7,)), batch_size=50, workers=workers).batches(0))
    assert "\n" not in str(caught.value)
    assert not started()


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_left_out_listed_and_counted_once(workers, capsys):
    ours = loader(drawn(bad=(7, 31)), batch_size=50, workers=workers, on_bad="skip", max_bad=2)
    good = next(loader(drawn(), batch_size=50).batches(1))
    for epoch in (0, 1):
        (batch,) = ours.batches(epoch)
    assert sorted(batch["bad"]) == [(7, "drawn/7.png is no image"), (31, "drawn/31.png is no image")]
    keep = ~torch.isin(good["index"], torch.tensor([7, 31]))
    for key in ("images", "targets", "index"):
        assert torch.equal(batch[key], good[key][keep])
    assert ours.bad == {7: "drawn/7.png is no image", 31: "drawn/31.png is no image"}
    assert capsys.readouterr().err.count("left out: drawn/7.png is no image") == 1


def test_the_budget_of_bad_images_ends():
    ours = loader(drawn(bad=(3, 4, 5)), on_bad="skip", max_bad=2)
    with pytest.raises(UserError, match=r"3 unreadable training images are more than data\.loader\.max_bad=2"):
        list(ours.batches(0)) + list(ours.batches(1)) + list(ours.batches(2))


def test_a_batch_of_bad_images_alone_is_an_error():
    with pytest.raises(UserError, match="all 4 images of a batch are bad"):
        list(loader(drawn(4, bad=(0, 1, 2, 3)), batch_size=4, on_bad="skip").batches(0))


def test_evaluation_never_leaves_an_image_out():
    with pytest.raises(UserError, match=r"7\.png is no image"):
        list(loader(drawn(bad=(7,)), train=False, on_bad="skip").batches())


def test_pixels_are_kept_where_their_making_has_no_draws():
    source = drawn(24)
    cached = loader(source, AUGMENTATIONS["cached"])
    first, second = (list(cached.batches(epoch)) for epoch in (0, 1))
    assert sorted(source.reads) == list(range(24))
    fresh = loader(source, AUGMENTATIONS["cached"], cache=False)
    assert_same(first + second, [*fresh.batches(0), *fresh.batches(1)])
    assert len(source.reads) == 3 * 24


def test_random_crops_are_not_kept():
    source = drawn(24)
    ours = loader(source, cache=True)
    for epoch in (0, 1):
        list(ours.batches(epoch))
    assert len(source.reads) == 48


def test_automatic_workers_are_printed(capsys):
    assert loader(drawn(), AugmentConfig(), workers="auto").workers == 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert loader(drawn(), workers="auto").workers == min(8, cores)
    assert loader(drawn(), workers="auto", rank=1, world_size=2, batch_size=2).workers == min(8, cores)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0] == "training loader: workers auto → 0 (small images, cached in memory)"
    assert lines[1].startswith(f"training loader: workers auto → {min(8, cores)} (")


def test_a_killed_worker_is_a_plain_error_within_10_seconds(started):
    ours = loader(drawn(2000), workers=2, batch_size=4)
    batches = ours.batches(0)
    next(batches)
    begun = time.monotonic()
    os.kill(started()[0].pid, signal.SIGKILL)
    with pytest.raises((UserError, RuntimeError)) as caught:
        list(batches)
    assert time.monotonic() - begun < 10
    error = caught.value
    explained = error if isinstance(error, UserError) else worker_failure(error)
    assert "a loader process died" in str(explained)
    assert "\n" not in str(explained)
    ours.close()
    assert not started()


def test_other_errors_are_not_taken_for_a_dead_worker():
    assert worker_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_an_interrupted_iteration_can_be_followed_by_another_and_leaves_no_process(started):
    source = drawn(200)
    ours = loader(source, workers=2, batch_size=4)
    for _ in zip(range(3), ours.batches(0), strict=False):
        pass
    assert_same(list(ours.batches(1, 45)), list(loader(source, batch_size=4).batches(1, 45)))
    iteration = ours.batches(2)
    next(iteration)
    assert len(started()) == 2
    del ours, iteration
    gc.collect()
    assert not started()


def test_workers_outlive_the_signals_that_ask_the_run_to_save(started):
    ours = loader(drawn(100), workers=2, batch_size=4)
    batches = ours.batches(0)
    for _ in range(4):  # until both have started for sure
        next(batches)
    for child in started():
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            os.kill(child.pid, number)
    assert len(list(batches)) == len(ours) - 4
    begun = time.monotonic()
    ours.close()
    assert time.monotonic() - begun < 15  # not the 30 s of grace


def test_a_program_that_stops_in_the_middle_of_an_epoch_ends_at_once():
    program = """
        from test_loader import drawn, loader
        batches = loader(drawn(2000), workers=2, batch_size=4).batches(0)
        next(batches)
        print("stopping")
    """
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path])},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopping\n", "")
