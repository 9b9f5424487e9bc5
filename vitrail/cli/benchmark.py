"""How fast a model is in every engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.errors import UserError
from vitrail.terminal.next_command import name_next
from vitrail.terminal.options import AllowPickle, Device, Json, Names, Sizes, Weights, print_json

if TYPE_CHECKING:
    from vitrail.benchmarking.result import Benchmark

GROUP = "Use a model"


def benchmark(
    run: Weights,
    data: str | None = None,
    /,
    *,
    engine: Annotated[str | None, Parameter(metavar="eager,openvino")] = None,
    precision: Annotated[str, Parameter(metavar="fp32,bf16")] = "fp32,bf16",
    batch_size: Annotated[str, Parameter(metavar="1,8")] = "1,8",
    image_size: Annotated[str | None, Parameter(metavar="224,224x320")] = None,
    merge: Annotated[str, Parameter(metavar="0,8")] = "0",
    split: str | None = None,
    seconds: float = 3.0,
    as_json: Json = False,
    out: Path | None = None,
    device: Device = "auto",
    allow_pickle: AllowPickle = False,
    names: Names = None,
) -> None:
    """Measure a model's speed in every engine, precision, batch and image size.

    Prints latency percentiles, images per second, memory and, with data, the accuracy of each; and what share of the
    machine's measured rate of matrix products each reaches. Writes benchmark.json and benchmark.png.

    Examples
      vitrail benchmark runs/birds
      vitrail benchmark runs/birds photos/ --engine openvino,torch --batch-size 1,8,32 --out speed
      vitrail benchmark runs/birds --merge 0,8,13 --image-size 224,384

    Args:
        data: Images with labels to measure the accuracy on: a folder, a table, a named data set.
        engine: Any of eager, torch, onnxruntime, openvino and pt2; default: all that are installed.
        precision: Any of fp32, bf16 and fp16, where the engine supports it.
        batch_size: Images per forward pass.
        image_size: Pixels, height x width; default: the model's own.
        merge: Numbers of patch tokens to merge in each layer (ToMe).
        split: Split of the data: train, val or test; default: test where there is one, else val.
        seconds: Time to measure each row, without its warm-up.
        out: A folder for the files; default: benchmark/ in the run folder.
    """
    from vitrail import benchmarking
    from vitrail.console import note

    result = benchmarking.benchmark(
        run,
        data,
        engines=_listed(engine),
        precisions=_listed(precision),
        batches=_numbers(batch_size, "--batch-size"),
        image_sizes=[size for text in _listed(image_size) if (size := Sizes(image_size=text).read()["image_size"])],
        merges=_numbers(merge, "--merge"),
        split=split,
        seconds=seconds,
        device=device,
        allow_pickle=allow_pickle,
        names=names,
    )
    for reason, those in result.reasons().items():
        note(f"left out: {', '.join(dict.fromkeys(str(each.way) for each in those))}: {reason}")
    if out is None and (Path(run) / "config.yaml").is_file():
        out = Path(run) / "benchmark"
    if out is not None:
        result.save(out)
        note(f"written: {out}")
    if as_json:
        from vitrail.report.plain import plain

        print_json(plain(result.to_dict()))
    else:
        print(result.table)
        print(f"\n{_rooflines(result)}")
    name_next("export", run, "model.onnx", "--to", "onnx", quiet=as_json)


def _rooflines(result: Benchmark) -> str:
    each = ", ".join(f"{one.precision} {one.gflops:.0f} ({one.library})" for one in result.rooflines)
    return f"GFLOP/s of large matrix products, {result.threads} threads: {each}; speed is over {result.reference}"


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} {text!r} are no integers; write them as in {option} 1,8") from None
