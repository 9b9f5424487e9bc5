"""ViTs as tutorials write them, with their tensors' names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, PATCH = 16, 4


class OfTransformerEncoder(nn.Module):
    """On PyTorch's own encoder, after a convolution."""

    def __init__(
        self, dim: int = 64, heads: int = 1, *, cls: bool = True, pre: bool = True, gelu: bool = True, norm: bool = True
    ) -> None:
        super().__init__()
        tokens = (SIDE // PATCH) ** 2
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim)) if cls else None
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens + cls, dim))
        layer = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, activation="gelu" if gelu else "relu", norm_first=pre, batch_first=True
        )
        self.transformer_encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.fc = nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x).flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = self.norm(self.transformer_encoder(x + self.pos_embedding))
        return self.fc(x[:, 0] if self.cls_token is not None else x.mean(dim=1))


class PreNorm(nn.Module):
    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(dim), fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class Residual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x) + x


class TokenScaled(nn.Module):
    """Attention whose scores are divided by the root of a token's width."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, dim**-0.5
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.to_qkv(x).chunk(3, dim=-1))
        weights = (q @ k.mT * self.scale).softmax(-1)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        parts = (nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, dim), nn.Dropout(0.0))
        self.net = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Early(nn.Module):
    """vit-pytorch 0.2's, with its ``Residual`` modules or without."""

    def __init__(self, dim: int = 128, heads: int = 2, *, residual: bool = True, hidden_head: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.pos_embedding = nn.Parameter(torch.empty(1, (SIDE // PATCH) ** 2 + 1, dim))
        self.patch_to_embedding = nn.Linear(3 * PATCH**2, dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList()
        for _ in range(2):
            pair = [PreNorm(dim, TokenScaled(dim, heads)), PreNorm(dim, FeedForward(dim, 96))]
            self.transformer.layers.append(nn.ModuleList([Residual(each) for each in pair] if residual else pair))
        hidden = [nn.Linear(dim, 96), nn.GELU(), nn.Dropout(0.0), nn.Linear(96, 5)]
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), *(hidden if hidden_head else [nn.Linear(dim, 5)]))

    def forward(self, x: Tensor) -> Tensor:
        n = SIDE // PATCH
        patches = x.unflatten(3, (n, PATCH)).unflatten(2, (n, PATCH)).permute(0, 2, 4, 3, 5, 1)
        x = self.patch_to_embedding(patches.flatten(3).flatten(1, 2))
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embedding
        for attention, mlp in self.transformer.layers:
            x = attention(x) if self.residual else attention(x) + x
            x = mlp(x) if self.residual else mlp(x) + x
        return self.mlp_head(x[:, 0])


class PlainBlock(nn.Module):
    def __init__(self, dim: int, heads: int, ratio: int, *, separate: bool) -> None:
        super().__init__()
        self.heads, self.separate = heads, separate
        self.ln1, self.ln2, self.out = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.Linear(dim, dim)
        if separate:
            self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        else:
            self.qkv = nn.Linear(dim, 3 * dim)
        self.mlp = nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln1(x)
        parts = (self.query(y), self.key(y), self.value(y)) if self.separate else self.qkv(y).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.ln2(x))


class Plain(nn.Module):
    """Plain code with one ``qkv`` layer, or three."""

    def __init__(self, dim: int = 64, heads: int = 1, ratio: int = 4, *, separate: bool = False) -> None:
        super().__init__()
        self.patcher = nn.Conv2d(3, dim, PATCH, PATCH)
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        self.pos = nn.Parameter(torch.empty((SIDE // PATCH) ** 2 + 1, dim))
        self.encoder = nn.ModuleList(PlainBlock(dim, heads, ratio, separate=separate) for _ in range(2))
        self.ln_final, self.classify = nn.LayerNorm(dim), nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patcher(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(len(x), -1, -1), x), dim=1) + self.pos
        for block in self.encoder:
            x = block(x)
        return self.classify(self.ln_final(x)[:, 0])
