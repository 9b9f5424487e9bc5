"""Models behind HTTP."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from vitrail.errors import UserError
from vitrail.serve.limits import Limits
from vitrail.terminal.options import Running, Threshold, Weights

if TYPE_CHECKING:
    from vitrail.predictor import Predictor

GROUP = "Use a model"


def serve(
    run: Weights,
    /,
    *more: str,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8000,
    token_file: Path | None = None,
    threshold: Threshold = None,
    limits: Annotated[Limits, Parameter(name="*")] = Limits(),  # noqa: B008  frozen
    running: Running = Running(),  # noqa: B008  frozen
) -> None:
    """Serve predictions of models over HTTP, with a web page to try them.

    The page is at /. Endpoints: /v1/predict, /v1/embed, /v1/explain, /v1/attention, /v1/merge, /v1/models; the Open
    Inference Protocol under /v2; /metrics for Prometheus, /healthz, /readyz, and /docs with the API reference.

    Examples
      vitrail serve runs/birds
      vitrail serve runs/birds runs/other --engine auto
      vitrail serve small=runs/birds large=hf://google/vit-base-patch16-224 --port 9000 --batch-size 16
      vitrail serve runs/detector --threshold 0.3
      curl --data-binary @photo.jpg -H "Content-Type: image/jpeg" http://127.0.0.1:8000/v1/predict

    Args:
        more: Further models, selected in a request by name; NAME=PATH gives a name.
        host: Address to listen on; 0.0.0.0 for all.
        port: Port to listen on; 0 takes a free one and prints it.
        token_file: A file with the token that requests must carry (Authorization: Bearer); or set VITRAIL_TOKEN.
    """
    from vitrail.serve import serve

    load = running.load if threshold is None else partial(_at_threshold, running, threshold)
    serve([run, *more], host=host, port=port, limits=limits, token=_token(token_file), load=load)


def _at_threshold(running: Running, threshold: float, weights: str) -> Predictor:
    return running.load(weights).at_threshold(threshold)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("VITRAIL_TOKEN")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"cannot read the token in {file}: {reason}; name another file") from None
