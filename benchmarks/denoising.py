"""Noise taken off grey pictures: a trained model against BM3D on the same noisy pictures.

    pip install bm3d      # free for non-commercial use alone, so no dependency of Vitrail
    python benchmarks/denoising.py MODEL PICTURES [--sigma 25] [--limit 20]

PSNR in dB of the restored picture, rounded to 8 bits, all pixels counted. Target: ≥ 0.2 dB above BM3D at σ = 25.
"""

from __future__ import annotations

import argparse
import statistics

import torch

import vitrail
from vitrail import console
from vitrail.data import SourceConfig, open_source
from vitrail.data.media.decode import decode
from vitrail.data.transforms.degrade import Degrade, DegradeConfig
from vitrail.data.transforms.preprocess import to_pixels
from vitrail.ops.picture_quality import psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pictures")
    parser.add_argument("--sigma", type=float, default=25)
    parser.add_argument("--limit", type=int, default=20)
    options = parser.parse_args()
    from bm3d import bm3d

    predictor = vitrail.load(options.model, device="cpu")
    degrade = Degrade(DegradeConfig(noise=options.sigma))
    _, source = next(iter(open_source(SourceConfig(spec=options.pictures, labelled=False)).items()))
    found: dict[str, list[float]] = {"noisy": [], "BM3D": [], "vitrail": []}
    for number in range(min(options.limit, len(source))):
        truth = to_pixels(decode(source.read(number), 1))
        noisy = degrade(truth, number)
        theirs = torch.from_numpy(bm3d(noisy[0].numpy() / 255, options.sigma / 255))[None]
        ours = torch.from_numpy(predictor.predict(noisy).levels / 65535).permute(2, 0, 1).mean(dim=0, keepdim=True)
        for name, picture in (("noisy", noisy / 255), ("BM3D", theirs), ("vitrail", ours)):
            found[name].append(psnr((255 * picture).round().clamp(0, 255), truth))
    print(console.table(["", "PSNR (dB)"], [[name, f"{statistics.mean(each):.2f}"] for name, each in found.items()]))


if __name__ == "__main__":
    main()
