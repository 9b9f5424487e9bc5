"""One loop over the blocks, and what it is asked to do in place of plain attention."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vitrail
from vitrail.compress.methods.tome import Merging
from vitrail.compress.reduced import ReducedViT
from vitrail.nn.attend import Positions, full
from vitrail.nn.attention import Attention
from vitrail.nn.block import Block
from vitrail.nn.checkpointing import checkpoint_blocks
from vitrail.nn.windows import WindowConfig
from vitrail.vit import ViT, ViTConfig

MODELS: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"positions": "rope_2d", "registers": 2},
    "no class token": {"class_token": False},
    "post-norm": {"block": {"order": "post"}, "final_norm": False},
    "regularised": {"block": {"layer_scale": 0.5, "qk_norm": True, "drop_path": 0.1}},
}


@pytest.fixture(params=list(MODELS))
def vit(request: pytest.FixtureRequest) -> ViT:
    model = {"image_size": (16, 24), "patch_size": 4, "dim": 32, "depth": 3, "heads": 2, "mlp_dim": 48}
    made = ViT(ViTConfig(**model | MODELS[request.param])).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 24)


def by_attention_maps(vit: ViT, images: Tensor) -> Tensor:
    """Blocks that multiply their attention matrix out, as :meth:`ViT.attentions` gives it."""
    maps = iter(vit.attentions(images))

    def openly(module: Attention, x: Tensor, positions: Positions) -> Tensor:
        values = module.project(x, positions)[2]
        return module.out((next(maps) @ values).transpose(1, 2).flatten(2))

    def attend(layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        return block(x, positions, openly)

    tokens, _, positions = vit.tokenise(images)
    return vit.encode(tokens, positions, attend)


def encoded(vit: ViT, images: Tensor) -> Tensor:
    tokens, _, positions = vit.tokenise(images)
    return vit.encode(tokens, positions)


def last_of_layers(vit: ViT, images: Tensor) -> Tensor:
    tokens, _, positions = vit.tokenise(images)
    return vit.norm(list(vit.layers(tokens, positions, full))[-1])


WAYS: dict[str, tuple[Callable[[ViT, Tensor], Tensor], float]] = {
    "encode": (encoded, 0),
    "layers": (last_of_layers, 0),
    "intermediates": (lambda vit, x: vit.intermediates(x, [0, -1], norm=True)[-1].tokens, 0),
    "dense": (lambda vit, x: vit.dense(x)[0][0].tokens, 0),
    "merging nothing": (lambda vit, x: ReducedViT(vit, Merging([0] * 3, vit.num_prefix))(x).tokens, 0),
    "global windows": (lambda vit, x: vit.dense(x, window=WindowConfig(size=2, num_global=3))[0][0].tokens, 0),
    "no padding": (lambda vit, x: vit.dense(x, torch.zeros(2, 16, 24, dtype=torch.bool))[0][0].tokens, 1e-5),
    "one window": (lambda vit, x: vit.dense(x, window=WindowConfig(size=6, num_global=1))[0][0].tokens, 1e-5),
    "attention maps": (by_attention_maps, 1e-5),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_what_changes_nothing_gives_the_plain_forward(way: str, vit: ViT, images: Tensor) -> None:
    run, tolerance = WAYS[way]
    torch.testing.assert_close(run(vit, images), vit(images).tokens, rtol=tolerance, atol=tolerance)


def test_blocks_run_as_far_as_asked(vit: ViT, images: Tensor) -> None:
    ran: list[int] = []

    def attend(layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        ran.append(layer)
        return full(layer, block, x, positions)

    tokens, _, positions = vit.tokenise(images)
    outputs = vit.layers(tokens, positions, attend)
    assert not ran
    first = next(outputs)
    assert ran == [0]
    torch.testing.assert_close(first, vit.intermediates(images, [0])[0].tokens, rtol=0, atol=0)


class QueriesInTheLastLayers:
    """Learned queries that join the tokens from layer ``start`` on, as in EoMT, each with a mask of what it sees."""

    def __init__(self, queries: Tensor, start: int, sees: Tensor) -> None:
        self.queries, self.start, self.sees = queries, start, sees

    def __call__(self, layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        if layer < self.start:
            return full(layer, block, x, positions)
        if layer == self.start:
            x = torch.cat((self.queries.expand(len(x), -1, -1), x), dim=1)
        return block(x, positions, self.masked)

    def masked(self, module: Attention, x: Tensor, positions: Positions) -> Tensor:
        return module.mix(*module.project(x, positions), self.sees)


def test_queries_join_in_the_last_layers(vit: ViT, images: Tensor) -> None:
    """Tokens that do not see the queries are as without them; a query sees the tokens of its mask alone."""
    tokens, _, positions = vit.tokenise(images)
    num_queries, total = 3, 3 + tokens.shape[1]
    sees = torch.ones(total, total, dtype=torch.bool)
    sees[num_queries:, :num_queries] = False  # tokens see no queries
    sees[0, -4:] = False  # the first query does not see the last four patches
    queries = torch.randn(1, num_queries, 32)
    made = vit.encode(tokens, positions, QueriesInTheLastLayers(queries, 2, sees))
    assert made.shape == (2, total, 32)
    torch.testing.assert_close(made[:, num_queries:], vit(images).tokens, rtol=1e-5, atol=1e-5)
    changed = tokens.clone()

    def disturbed(layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        if layer == 2:
            x = torch.cat((x[:, :-4], torch.randn_like(x[:, -4:])), dim=1)
        return QueriesInTheLastLayers(queries, 2, sees)(layer, block, x, positions)

    other = vit.encode(changed, positions, disturbed)
    torch.testing.assert_close(other[:, 0], made[:, 0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(other[:, 1], made[:, 1], atol=1e-3)


def test_windows_go_through_the_blocks_own_call(vit: ViT, images: Tensor) -> None:
    """So that gradient checkpointing and sharding, which wrap it, stay in force."""
    padding = torch.zeros(2, 16, 24, dtype=torch.bool)
    padding[1, 8:] = True
    called: list[int] = []
    for block in vit.blocks:
        block.register_forward_hook(lambda *_: called.append(1))

    def step() -> list[Tensor]:
        (features,), _ = vit.dense(images, padding, WindowConfig(size=2, num_global=1))
        return list(torch.autograd.grad(features.patches.square().sum(), list(vit.blocks.parameters())))

    plain = step()
    assert len(called) == 3
    checkpoint_blocks(vit.blocks)
    torch.testing.assert_close(step(), plain, rtol=0, atol=0)


def test_the_loop_is_one_graph(vit: ViT, images: Tensor) -> None:
    compiled = torch.compile(vit, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images).tokens, vit(images).tokens, rtol=0, atol=0)


RUNNING = {"attention", "before_attention", "add_attention", "feed_forward", "mlp"}


def loops_that_run_blocks(tree: ast.Module) -> Iterator[str]:
    """The functions that loop over something called ``blocks`` and run what they get."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for loop in ast.walk(function):
            if isinstance(loop, ast.For) and "blocks" in ast.unparse(loop.iter):
                names = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
                if any(runs(node, names) for statement in loop.body for node in ast.walk(statement)):
                    yield function.name


def runs(node: ast.AST, names: set[str]) -> bool:
    """Whether a node is a call of one of these names, of a part of it, or of a function that gets it to run."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    root, _, part = called.partition(".")
    given = {leaf.id for each in node.args for leaf in ast.walk(each) if isinstance(leaf, ast.Name)}
    return called in names or (root in names and part in RUNNING) or (called == "attend" and bool(given & names))


def test_there_is_one_encoder_loop() -> None:
    root = Path(vitrail.__file__).parent
    found = {
        f"{path.relative_to(root).as_posix()}:{name}"
        for path in sorted(root.rglob("*.py"))
        for name in loops_that_run_blocks(ast.parse(path.read_text(encoding="utf-8")))
    }
    # those of a decoder and of what makes images of noise
    assert found == {"vit.py:layers", "pretrain/mae.py:forward", "generate/adversarial.py:forward"}
