"""Well-known weights by short names: where they are, their licence, size and published accuracy. Nothing here imports
torch or uses the network."""

from __future__ import annotations

from dataclasses import dataclass

ZERO_SHOT, LINEAR, TUNED = "zero-shot", "linear probe", "fine-tuned"


@dataclass(frozen=True)
class KnownWeights:
    """Weights on the Hugging Face hub.

    Attributes:
        repo: owner/name there.
        megabytes: to download, 10⁶ bytes.
        accuracy: top-1 accuracy on ImageNet-1k in percent, as published (``source``); not measured here.
        measure: how: ``fine-tuned``, ``linear probe`` or ``zero-shot``.
        revision: a commit, so that everybody gets the same bytes; ``main``, the newest, where none is known to us.
            Of CLIP's base models, that of the hub's own conversion to safetensors: their ``main`` is a pickle.
    """

    repo: str
    licence: str
    megabytes: int
    accuracy: float
    measure: str
    source: str
    revision: str = "main"

    @property
    def address(self) -> str:
        """``hf://owner/name@revision``."""
        return f"hf://{self.repo}@{self.revision}"


_TIMM = "timm, results-imagenet.csv"
_DINOV2, _CLIP = "Oquab et al. 2023, table 4", "Radford et al. 2021, table 11"
KNOWN: dict[str, KnownWeights] = {
    "vit_tiny_augreg": KnownWeights(
        "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "apache-2.0",
        23,
        75.5,
        TUNED,
        _TIMM,
        "7d3afdd0cf93ad84d986eb2d6bcc5812ebd0b106",
    ),
    "vit_small_augreg": KnownWeights(
        "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        "apache-2.0",
        88,
        81.4,
        TUNED,
        _TIMM,
        "7e2c55630205e1266030f18370f4c6ed1a514b52",
    ),
    "vit_base_augreg": KnownWeights(
        "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "apache-2.0",
        346,
        85.1,
        TUNED,
        _TIMM,
        "063c6c38a5d8510b2e57df480445e94b231dad2c",
    ),
    "vit_large_augreg": KnownWeights(
        "timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
        "apache-2.0",
        1217,
        85.8,
        TUNED,
        _TIMM,
        "0930ab3308b84cb2ae091a4a80703c459412a4c7",
    ),
    "deit3_small": KnownWeights("timm/deit3_small_patch16_224.fb_in22k_ft_in1k", "apache-2.0", 88, 83.1, TUNED, _TIMM),
    "deit3_base": KnownWeights("timm/deit3_base_patch16_224.fb_in22k_ft_in1k", "apache-2.0", 346, 85.7, TUNED, _TIMM),
    "deit3_large": KnownWeights(
        "timm/deit3_large_patch16_224.fb_in22k_ft_in1k", "apache-2.0", 1217, 87.0, TUNED, _TIMM
    ),
    "beit_base": KnownWeights("timm/beit_base_patch16_224.in22k_ft_in22k_in1k", "apache-2.0", 346, 85.2, TUNED, _TIMM),
    "dinov2_small": KnownWeights(
        "facebook/dinov2-small", "apache-2.0", 88, 81.1, LINEAR, _DINOV2, "ed25f3a31f01632728cabb09d1542f84ab7b0056"
    ),
    "dinov2_base": KnownWeights(
        "facebook/dinov2-base", "apache-2.0", 346, 84.5, LINEAR, _DINOV2, "f9e44c814b77203eaa57a6bdbbd535f21ede1415"
    ),
    "dinov2_large": KnownWeights(
        "facebook/dinov2-large", "apache-2.0", 1217, 86.3, LINEAR, _DINOV2, "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"
    ),
    "clip_vit_b32": KnownWeights(
        "openai/clip-vit-base-patch32", "MIT", 605, 63.2, ZERO_SHOT, _CLIP, "c237dc49a33fc61debc9276459120b7eac67e7ef"
    ),
    "clip_vit_b16": KnownWeights(
        "openai/clip-vit-base-patch16", "MIT", 599, 68.6, ZERO_SHOT, _CLIP, "5ef227a78de3f75873f373246dac80def63b0003"
    ),
    "clip_vit_l14": KnownWeights(
        "openai/clip-vit-large-patch14", "MIT", 1711, 75.3, ZERO_SHOT, _CLIP, "32bd64288804d66eefd0ccbe215aa642df71cc41"
    ),
}


def download(name: str) -> None:
    """Fetch weights of this table into the hub's cache, if they are not there; another name is left alone.

    Raises:
        UserError: no network, or the hub's library is missing.
    """
    from vitrail.checkpoints import hub
    from vitrail.console import note

    if (known := KNOWN.get(name)) is not None and hub.cached(known.address) is None:
        note(f"downloading {known.repo} ({known.megabytes:,} MB, {known.licence})")
        hub.fetch(known.address)
