"""Steps of a few images before a training: what one costs in time and memory, without a trace on the model."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.data.batch import Batch, chunks, to_device
from vitrail.data.loading.loader import Loader
from vitrail.train.distributed import World
from vitrail.train.precision import autocast
from vitrail.trainable import EncoderModule, Trainable
from vitrail.vit import ViT

MOST_IMAGES = 8
OPERATIONS = 1e11  # of a step on a CPU: about two seconds on one core
LIMIT = 3.0  # seconds, after which a step is not measured again


@dataclass(frozen=True)
class Cost:
    """What a training step costs for each image.

    Attributes:
        seconds: of the forward and the backward pass.
        num_bytes: of what the forward pass keeps for the backward pass.
    """

    seconds: float
    num_bytes: int


def few_images(loader: Loader, model: Trainable, device: torch.device, pieces: int) -> Batch:
    """The first piece of a training's first batch, on the device; on a CPU as many of its images as take a moment.

    Args:
        pieces: that a batch is processed in.
    """
    batches = loader.batches(0)
    batch = chunks(to_device(next(batches), device), pieces)[0]
    batches.close()  # type: ignore[attr-defined]
    if device.type == "cpu":
        wanted = min(max(int(OPERATIONS / operations(model)), 2 if model.whole_batch else 1), MOST_IMAGES)
        batch = chunks(batch, math.ceil(len(batch["keys"]) / wanted))[0]
    return batch


def operations(model: EncoderModule) -> float:
    """Of a step for one image, roughly: six for each parameter and token of the first encoder (Kaplan et al. 2020)."""
    vit = next(iter(model.encoders().values()))
    if not isinstance(vit, ViT):
        return OPERATIONS / MOST_IMAGES
    return 6 * math.prod(vit.embed.grid(vit.config.image_size)) * sum(p.numel() for p in vit.parameters())


def measure(model: Trainable, batch: Batch, precision: str, world: World) -> Cost:
    """The cost of a step on these images; parameters, buffers, gradients and random numbers stay as they were.

    All ranks call it, since a loss may gather what the others computed.
    """
    device = world.device
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    num_images, seconds = len(batch["keys"]), math.inf
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for _ in range(1 if world.size > 1 else 2):  # the first one also allocates; ranks take the same number
            kept.clear()
            started = time.perf_counter()
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast(precision, device):
                loss = model.loss(batch)["loss"]
            loss.backward()
            float(loss.detach())  # a GPU has computed it all by then
            seconds = min(seconds, time.perf_counter() - started)
            if seconds > LIMIT:
                break
    for parameter in model.parameters():
        parameter.grad = None
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return Cost(seconds / num_images, sum(kept.values()) // num_images)
