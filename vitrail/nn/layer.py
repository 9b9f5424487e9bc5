"""The layers of encoders and decoders."""

from __future__ import annotations

from torch import nn


class Layer(nn.Module):
    """One of a stack of equal layers, each of which is compiled, sharded and checkpointed by itself.

    A stack calls it as a module, so that what wraps the call stays in force.
    """
