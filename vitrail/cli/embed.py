"""Feature vectors of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.errors import UserError
from vitrail.terminal.next_command import name_next
from vitrail.terminal.options import BatchSize, MaxPixels, OnBad, Running, Weights

if TYPE_CHECKING:
    from vitrail.data.source import Splits
    from vitrail.predictor import Sample

GROUP = "Use a model"
FORMATS = (".npz", ".parquet")


def embed(
    run: Weights,
    data: str,
    /,
    *,
    out: Path,
    labelled: Annotated[bool, Parameter(negative="--no-labels")] = True,
    plot: Path | None = None,
    projection: Literal["pca", "tsne"] = "pca",
    on_bad: OnBad = "error",
    batch_size: BatchSize = 32,
    max_pixels: MaxPixels = None,
    running: Running = Running(),  # noqa: B008  frozen
) -> None:
    """Write the feature vectors of images, with names, splits and labels.

    Examples
      vitrail embed runs/birds photos/ --out features.npz
      vitrail embed runs/birds digits --out features.parquet --plot map.png

    Args:
        data: A folder, .csv, .npz, .tar or the name of a data set, as for vitrail train.
        out: The .npz or .parquet file to write.
        labelled: Read labels too; without them the images of a folder need no class folders.
        plot: A .png or .jpg file for a 2D scatter plot of the vectors.
        projection: Projection of the plot to 2D: principal components or t-SNE.
    """
    check_format(out)
    from vitrail.console import Progress, note
    from vitrail.data.source import SourceConfig, open_source
    from vitrail.terminal.pictures import BadPictures

    splits = open_source(SourceConfig(spec=data, labelled=labelled, val_fraction=0))
    predictor = running.load(run)
    total = sum(len(source) for _, source in splits.items())
    bad, vectors, kept = BadPictures(on_bad), [], []
    results = predictor.stream(_samples(splits), batch_size, embed=True)
    with Progress("embed", total) as progress:
        for (_, vector), place in zip(results, _places(splits), strict=True):
            progress.advance()
            if isinstance(vector, UserError):
                bad.add(vector)
                continue
            vectors.append(vector)
            kept.append(place)
    bad.report(len(vectors))
    columns = _columns(splits, kept, vectors)
    write(out, columns)
    note(f"written: {out} ({len(vectors):,} vectors of {len(vectors[0])} numbers)")
    if plot is not None:
        note(f"written: {draw(plot, columns, projection, Path(data).name)}")
    name_next("probe", run, data)


def _samples(splits: Splits) -> Iterator[Sample]:
    from vitrail.predictor import Sample

    sources = dict(splits.items())
    for split, index in _places(splits):
        yield Sample(sources[split].name(index), partial(sources[split].read, index))


def _places(splits: Splits) -> Iterator[tuple[str, int]]:
    """(split, index) of each sample."""
    for name, source in splits.items():
        for index in range(len(source)):
            yield name, index


def _columns(splits: Splits, kept: list[tuple[str, int]], vectors: list[Any]) -> dict[str, Any]:
    """Arrays of N rows by name: what a file holds."""
    import numpy as np

    sources = dict(splits.items())
    columns = {
        "embedding": np.stack(vectors),
        "name": np.array([sources[split].name(index) for split, index in kept]),
        "split": np.array([split for split, _ in kept]),
    }
    if not splits.target_kind.labelled:
        return columns
    columns["target"] = np.stack([np.asarray(sources[split].targets[index]) for split, index in kept])
    if splits.target_kind.exclusive:
        columns["label"] = np.array(splits.classes)[columns["target"]]
    return columns


def check_format(path: Path) -> None:
    """Before the work: the file can be written in its format and is not there yet.

    Raises:
        UserError: otherwise.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"cannot write {path.name!r}; name it .npz or .parquet")
    if path.exists():
        raise UserError(f"{path} is there already; name another file or remove it")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(".parquet needs pyarrow: pip install 'vitrail[parquet]', or write .npz") from None


def write(path: Path, columns: dict[str, Any]) -> None:
    """Save the columns as .npz arrays or a .parquet table."""
    import numpy as np

    from vitrail.files import replacing

    size = sum(column.nbytes for column in columns.values())
    with replacing(path, size=size) as temporary:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, **columns)
        else:
            import pyarrow as pa
            import pyarrow.parquet

            arrays = {k: pa.array(list(v)) if v.ndim > 1 else pa.array(v) for k, v in columns.items()}
            pyarrow.parquet.write_table(pa.table(arrays), temporary)


def draw(path: Path, columns: dict[str, Any], projection: Literal["pca", "tsne"], name: str) -> Path:
    """Draw the vectors of the data of this name on a plane, coloured by label; returns the file."""
    import numpy as np

    from vitrail.explain.projection import figure, heading, project
    from vitrail.terminal.pictures import save_new

    points = project(columns["embedding"], projection)
    title = heading(columns["embedding"], points, projection, name)
    if "label" in columns:
        classes, labels = np.unique(columns["label"], return_inverse=True)
        return save_new(figure(points, labels, classes.tolist(), title), path)
    target = columns.get("target", np.empty(0))
    return save_new(figure(points, target if target.ndim == 1 else target[:, 0], (), title), path)
