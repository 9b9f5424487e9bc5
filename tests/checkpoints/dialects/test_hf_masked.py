"""ViTMAEForPreTraining and ViTForMaskedImageModeling: losses, gradients, pixels, both ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.ops.masking import mask_by_noise

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DECODER = {
    "decoder_hidden_size": 24, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 3,
    "decoder_intermediate_size": 48,
}  # fmt: skip
IMAGE = {"image_size": 48, "patch_size": 8}
Randomise = Callable[[nn.Module], nn.Module]
Close = Callable[..., None]


def gradients(loss: Tensor, model: nn.Module) -> Tensor:
    """The norm of the whole gradient, which does not care how parameters are named or cut."""
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()


@pytest.mark.parametrize("normalise", [False, True])
def test_mae_is_theirs(normalise: bool, tmp_path: Path, randomise: Randomise, close: Close) -> None:
    config = transformers.ViTMAEConfig(**SIZES, **DECODER, **IMAGE, norm_pix_loss=normalise)
    theirs = randomise(transformers.ViTMAEForPreTraining(config))
    theirs.save_pretrained(tmp_path / "hf")
    found = open_checkpoint(tmp_path / "hf")
    assert (found.dialect, found.task.name) == ("hf_mae", "mae")
    ours = found.load().eval()
    images, noise = torch.randn(3, 3, 48, 48), torch.rand(3, 36)
    expected = theirs(images, noise=noise)
    mask = mask_by_noise(noise, config.mask_ratio)
    assert torch.equal(mask.hidden.float(), expected.mask)
    found_loss = ours.loss({"images": images}, mask)["loss"]
    close(found_loss, expected.loss)
    pixels = (
        ours.reconstruct(images, mask).unflatten(2, (3, 8, 8)).movedim(2, -1).flatten(2)
    )  # theirs are channels last
    close(pixels, expected.logits)
    # Frozen positions have no gradient on either side.
    close(gradients(found_loss, ours.decoder), gradients(expected.loss, theirs.decoder), 1e-4)

    foreign.save("hf_mae", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    again, info = transformers.ViTMAEForPreTraining.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.inference_mode():
        assert torch.equal(again.eval()(images, noise=noise).logits, expected.logits)


def test_masked_images_are_theirs(tmp_path: Path, randomise: Randomise, close: Close) -> None:
    config = transformers.ViTConfig(**SIZES, **IMAGE, encoder_stride=8)
    theirs = randomise(transformers.ViTForMaskedImageModeling(config))
    theirs.save_pretrained(tmp_path / "hf")
    found = open_checkpoint(tmp_path / "hf")
    assert (found.dialect, found.task.name) == ("hf_masked_image", "simmim")
    ours = found.load().eval()
    images, hidden = torch.randn(3, 3, 48, 48), torch.rand(3, 36) < 0.4
    expected = theirs(images, bool_masked_pos=hidden)
    loss = ours.loss({"images": images}, hidden)["loss"]
    close(loss, expected.loss)
    close(gradients(loss, ours), gradients(expected.loss, theirs), 1e-4)

    foreign.save("hf_masked_image", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    again, info = transformers.ViTForMaskedImageModeling.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.inference_mode():
        assert torch.equal(again.eval()(images, bool_masked_pos=hidden).reconstruction, expected.reconstruction)
