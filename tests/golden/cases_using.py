"""What is computed with models that are there: predictions, measures, maps of heat, other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cases import CASES, DEFINED, LOOKED_AT, START, Case, case
from work import Work, hash_array

PADDED = (
    "classification_padded", "multilabel_padded", "regression_padded", "detection_padded", "instances_padded",
    "segmentation_padded",
)  # fmt: skip
USED = (
    *DEFINED, *PADDED, "classification_distilled", "classification_registers", "classification_relative",
    "classification_resnet", "detection_h", "detection_windows", "segmentation_multilevel", "segmentation_transunet",
    "segmentation_detail",
)  # fmt: skip
FOREIGN = (
    "hf_vit", "hf_deit", "hf_beit", "hf_clip", "hf_siglip", "hf_siglip_classifier", "hf_dinov2", "hf_dinov2_swiglu",
    "hf_dinov2_registers", "hf_mae", "hf_masked_image", "timm_vit", "timm_deit3", "timm_siglip", "timm_registers",
    "timm_hybrid", "timm_beit", "torchvision", "openai_clip", "vit_pytorch", "google", "dinov2",
)  # fmt: skip
EXPLAINED = {
    "classification": ("attention", "gradcam", "relevance", "rollout", "all"),
    "classification_registers": ("attention", "gradcam", "relevance", "rollout"),
    "classification_relative": ("attention", "rollout"),
    "classification_padded": ("attention", "gradcam"),
    "multilabel": ("gradcam", "relevance"),
    "detection": ("queries", "all"),
    "detection_padded": ("queries",),
    "detection_windows": ("queries",),
    "instances": ("queries", "all"),
    "segmentation": ("all",),
    "mae": ("attention", "rollout"),
    "dino": ("attention",),
}


def data_of(name: str) -> str:
    """What a model of :data:`cases.STARTS` is measured on."""
    kind = name.partition("_")[0]
    tables = {"multilabel": "multilabel.csv", "regression": "regression.csv"}
    return f"inputs/{tables.get(kind, 'classes.csv' if kind == 'classification' else 'scenes')}"


def predicted(work: Work, name: str, weights: Path | str, *options: object, maps: bool = False) -> None:
    """Record the answers to three pictures, and where they are maps the maps."""
    if maps:
        out = work.here / f"maps-{len(work.items)}"
        answers = work.json("predict", weights, LOOKED_AT, "--top", 100, "--out", out, *options)
        work.pixels(f"{name} maps", out)
        work.files(f"{name} maps", out, (".txt",))
    else:
        answers = work.json("predict", weights, LOOKED_AT, "--top", 100, *options)
    for index, answer in enumerate(answers):
        work.record(f"{name}.{index}", answer)


def embedded(work: Work, name: str, weights: Path | str, *options: object) -> None:
    """Record the vectors of three pictures."""
    out = work.here / f"embedded-{len(work.items)}.npz"
    work.vitrail("embed", weights, LOOKED_AT, "--no-labels", "--out", out, *options)
    work.arrays(name, out)


def _used(name: str) -> Case:
    def run(work: Work) -> None:
        maps = name.partition("_")[0] in ("detection", "instances", "segmentation")
        predicted(work, "predict", START / name, maps=maps)
        predicted(work, "predict one by one", START / name, "--batch-size", 1)
        embedded(work, "embed", START / name)
        out = work.here / "evaluation"
        measured = work.json("evaluate", START / name, data_of(name), "--out", out, "--batch-size", 5)
        work.record("evaluate", measured)
        for path in sorted(out.glob("*.csv")):
            work.table(f"evaluate {path.stem}", path)
        for key, value in work.python(_python, str(START / name)).items():
            work.record(f"python {key}", value)

    return run


def _python(weights: str) -> dict[str, Any]:
    """What the package's own names give, without the command line."""
    import vitrail

    model: Any = vitrail.load(weights, device="cpu")
    paths = sorted(map(str, Path(LOOKED_AT).iterdir()))
    answers = [answer.to_dict() for answer in model.predict(paths)]
    return {"embed": hash_array(model.embed(paths)), "predict": json.loads(json.dumps(answers))}


def _foreign(name: str) -> Case:
    """Opened, used, converted to Vitrail's own file and to all that can hold it."""

    def run(work: Work) -> None:
        source = Path("inputs/foreign", name)
        found = work.json("inspect", source)
        work.record("inspect", found)
        other = 96 if name == "timm_hybrid" else 48  # its patches are of 32 pixels
        work.record("inspect at another size", work.json("inspect", source, "--image-size", other))
        if found["task"] == "classification":
            predicted(work, "predict", source)
            predicted(work, "predict at another size", source, "--image-size", other)
        embedded(work, "embed", source)
        native = work.here / "native.safetensors"
        work.vitrail("convert", source, native, "--to", "native")
        work.weights("native", native)
        resized = work.here / "resized.safetensors"
        work.vitrail("convert", source, resized, "--to", "native", "--image-size", other)
        work.weights("native at another size", resized)
        for library, dialect in found["writes_as"].items():
            if " " not in dialect:
                work.vitrail("convert", native, work.here / library, "--to", library)
                work.weights(f"as {library}", work.here / library)

    return run


def _explained(name: str, methods: tuple[str, ...]) -> Case:
    def run(work: Work) -> None:
        for method in methods:
            out = work.here / method
            work.vitrail("explain", START / name, f"{LOOKED_AT}/0.png", "--method", method, "--out", out)
            work.pixels(method, out, without=["-sheet"])
        if "attention" in methods:
            out = work.here / "head"
            words = ("--method", "attention", "--layer", 0, "--head", 1, "--out", out)
            work.vitrail("explain", START / name, f"{LOOKED_AT}/1.png", *words)
            work.pixels("layer 0, head 1", out)

    return run


def _anatomy(work: Work) -> None:
    """A figure with text in it: patch filters, positions, attention distances."""
    work.vitrail("explain", START / "classification", "--out", work.here / "anatomy")
    work.pixels("anatomy", work.here / "anatomy")


ENGINES = {
    "torch": (("--engine", "torch"), ("--engine", "torch", "--precision", "bf16")),
    "onnxruntime": (("--engine", "onnxruntime"),),
    "openvino": (("--engine", "openvino"), ("--engine", "openvino", "--precision", "bf16")),
    "pt2": (("--engine", "pt2"),),
}
RUN_BY = ("classification", "multilabel", "regression", "detection", "instances", "segmentation", "detection_padded")
EXPORTED = {
    "onnx": ("multilabel", "regression", "detection", "segmentation"),
    "openvino": ("instances",),
    "pt2": ("regression",),
}
FORMATS = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}


def _engine(engine: str, name: str) -> Case:
    def run(work: Work) -> None:
        for options in ENGINES[engine]:
            words = " ".join(options[1:])
            predicted(work, f"predict {words}", START / name, *options)
        if name in ("classification", "detection"):
            embedded(work, "embed", START / name, *ENGINES[engine][0])

    return run


def _exported(to: str, name: str) -> Case:
    def run(work: Work) -> None:
        out = work.here / f"model{FORMATS[to]}"
        made = work.json("export", START / name, out, "--to", to)
        work.record("rows", [[row["images"], row["batch"], row["size"]] for row in made["rows"]])
        options = ("--allow-pickle",) if to == "pt2" else ()
        predicted(work, "predict", out, *options)
        embedded(work, "embed", out, *options)

    return run


def _exported_merging(work: Work) -> None:
    out = work.here / "merged.onnx"
    work.vitrail("export", START / "classification", out, "--to", "onnx", "--merge", 2)
    predicted(work, "predict", out)


def _quantized(suffix: str, *options: str) -> Case:
    def run(work: Work) -> None:
        out = work.here / f"int8{suffix}"
        words = (START / "classification", out, "inputs/photos", "--calibration", 12, "--budget", 50, *options)
        made = work.json("quantize", *words)
        work.record("result", {key: made[key] for key in ("kept", "layers") if key in made})
        predicted(work, "predict", out)

    return run


def _compressed(work: Work) -> None:
    for name in ("classification", "classification_registers"):
        for method, levels in (("tome", "1,3"), ("evit", "0.7,0.5"), ("prune", "0.25,0.5")):
            out = work.here / f"{name}-{method}"
            words = (START / name, "inputs/photos", "--method", method, "--levels", levels, "--out", out)
            found = work.json("compress", *words, "--pictures", 0, "--calibration", 12)
            for key in ("split", "images"):
                work.record(f"{name} {method} {key}", found[key])
            for index, point in enumerate(found["points"]):
                work.record(f"{name} {method} {index}", point)
            for path in sorted(out.glob("*.safetensors")):
                work.tensors(f"{name} {path.stem}", path)
    predicted(work, "merged", START / "classification", "--merge", 2)
    embedded(work, "merged embed", START / "classification", "--merge", 2)
    predicted(work, "merged torch", START / "classification", "--merge", 2, "--engine", "torch")


def _probed(work: Work) -> None:
    for name in ("classification", "mae", "dino"):
        for method in ("knn", "linear", "attentive"):
            words = (START / name, "inputs/photos", "--method", method, "--seeds", 2, "--labels", 0.5, "--labels", 1)
            layers = ("--layer", "all") if method != "attentive" else ()
            faster = {"knn": (), "linear": ("--set", "epochs=3"), "attentive": ("--set", "epochs=2")}[method]
            work.record(f"{name} {method}", work.json("probe", *words, *layers, *faster))


def _data(work: Work) -> None:
    for spec in ("photos", "multilabel.csv", "regression.csv", "scenes"):
        work.record(f"check {spec}", work.json("data", "check", f"inputs/{spec}", "--workers", 0))
        work.record(f"stats {spec}", work.json("data", "stats", f"inputs/{spec}", "--workers", 0))
    for spec in ("digits", "digit_scenes"):
        work.record(f"stats {spec}", work.json("data", "stats", spec, "--workers", 0, "--limit", 20))
    for to in ("coco", "voc", "yolo", "masks"):
        work.vitrail("data", "convert", "inputs/scenes", work.here / to, "--to", to)
        work.files(to, work.here / to)
        work.record(f"stats {to}", work.json("data", "stats", work.here / to, "--workers", 0))
    for kind in ("boxes", "masks", "semantic"):
        work.vitrail("data", "inspect", "inputs/scenes", "--kind", kind, "--limit", 3, "--out", work.here / kind)
        work.pixels(f"drawn {kind}", work.here / kind)
    work.vitrail("data", "export", "inputs/regression.csv", "--limit", 5, "--out", work.here / "exported")
    work.files("exported", work.here / "exported")


def _annotated(work: Work) -> None:
    for name in DEFINED:
        out = work.here / name
        work.vitrail("predict", START / name, LOOKED_AT, "--annotate", out)
        work.pixels(name, out)
    for suffix in (".json", ".csv"):
        for name in ("detection", "instances"):
            out = work.here / f"{name}{suffix}"
            work.vitrail("predict", START / name, LOOKED_AT, "--out", out)
            work.files(name + suffix, work.here, (suffix,)) if name == "instances" else None


def _models(work: Work) -> None:
    work.record("models", work.json("models"))


for _name in USED:
    case(f"use/{_name}", _used(_name))
for _name in FOREIGN:
    case(f"foreign/{_name}", _foreign(_name))
for _name, _methods in EXPLAINED.items():
    case(f"explain/{_name}", _explained(_name, _methods))
case("explain/anatomy", _anatomy)
for _engine_name in ENGINES:
    for _name in RUN_BY if _engine_name == "torch" else ("classification",):
        case(f"engine/{_engine_name}/{_name}", _engine(_engine_name, _name))
for _to, _names in EXPORTED.items():
    for _name in _names:
        case(f"export/{_to}/{_name}", _exported(_to, _name))
case("export/merging", _exported_merging)
case("quantize/onnx", _quantized(".onnx"))
case("quantize/openvino", _quantized(".xml"))
case("quantize/weights", _quantized(".onnx", "--weights-only"))
case("compress", _compressed)
case("probe", _probed)
case("data", _data)
case("annotate", _annotated)
case("models", _models)
assert CASES
