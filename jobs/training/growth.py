"""Growing a trained UNet2DModel in depth without changing what it computes (Net2Net, Chen et al. 2016).

New residual blocks end in a zeroed convolution and pass their input on, so that training starts where the
smaller network stopped. A target without a middle block takes the source's two middle blocks into its deepest
level.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# torch types a module's children as Tensor | Module, which says less than this.
Network = Any
Block = Any

TIME_GRID = torch.linspace(0.0, 640.0, 4001)


@torch.no_grad()
def grow(source: Network, target: Network) -> Network:
    """Fill the UNet2DModel `target` (same channels, no fewer layers) with `source`'s function; returns it.

    Exact, but for a middle block that `target` lacks (its second half keeps its weights under wider norm
    groups) and for a narrower time embedding (refitted by least squares). Raises ValueError if the shapes do
    not allow it.
    """
    extra = target.config["layers_per_block"] - source.config["layers_per_block"]
    if extra < 0 or source.config["block_out_channels"] != target.config["block_out_channels"]:
        raise ValueError("growth keeps block_out_channels and cannot remove layers")
    fold = target.mid_block is None and source.mid_block is not None
    if fold and extra == 0:
        raise ValueError("a target without a middle block needs one more layer a block to hold it")
    for name in ("conv_in", "conv_norm_out", "conv_out"):
        _copy(getattr(source, name), getattr(target, name))
    for old, new in zip(source.down_blocks, target.down_blocks, strict=True):
        _place(old, new, range(len(old.resnets)))
    for depth, (old, new) in enumerate(zip(source.up_blocks, target.up_blocks, strict=True)):
        count = len(old.resnets)
        # A level's first block alone sees the coarser level's channels; the last level has none below it.
        kept = range(extra, extra + count) if fold and depth == 0 else (0, *range(1 + extra, extra + count))
        _place(old, new, kept)
    if fold:
        deepest = target.down_blocks[-1].resnets[-extra]
        _copy(source.mid_block.resnets[0], deepest, but="time_emb_proj")
        _widen_input(source.mid_block.resnets[1], target.up_blocks[0].resnets[0])
    elif source.mid_block is not None:
        for old, new in zip(source.mid_block.resnets, target.mid_block.resnets, strict=True):
            _copy(old, new, but="time_emb_proj")
    _move_time(source, target, _time_pairs(source, target, extra, fold))
    return target


def _place(old: Block, new: Block, positions: range | tuple[int, ...]) -> None:
    for index, block in enumerate(new.resnets):
        if index not in positions:
            _pass_through(block)
    for block, index in zip(old.resnets, positions, strict=True):
        _copy(block, new.resnets[index], but="time_emb_proj")
    for name in ("downsamplers", "upsamplers"):
        if getattr(old, name, None) is not None:
            _copy(getattr(old, name), getattr(new, name))


def _copy(old: Block, new: Block, *, but: str | None = None) -> None:
    state = {k: v for k, v in old.state_dict().items() if but is None or not k.startswith(but)}
    missing = new.load_state_dict(state, strict=False)
    if missing.unexpected_keys or any(but is None or not k.startswith(but) for k in missing.missing_keys):
        raise ValueError(f"layers differ between source and target: {missing}")


def _pass_through(block: Block) -> None:
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    if block.conv_shortcut is not None:
        channels = block.conv_shortcut.weight.shape[0]
        nn.init.zeros_(block.conv_shortcut.bias)
        nn.init.zeros_(block.conv_shortcut.weight)
        block.conv_shortcut.weight[:, :channels, 0, 0] = torch.eye(channels)


def _widen_input(old: Block, new: Block) -> None:
    """`old` on the first channels of a wider input; the rest is unused until training finds a use."""
    _pass_through(new)
    channels = old.conv1.weight.shape[1]
    for name in ("norm2", "conv2"):
        _copy(getattr(old, name), getattr(new, name))
    nn.init.zeros_(new.conv1.weight)
    new.conv1.weight[:, :channels] = old.conv1.weight
    new.conv1.bias.copy_(old.conv1.bias)
    new.norm1.weight[:channels] = old.norm1.weight
    new.norm1.bias[:channels] = old.norm1.bias


def _time_pairs(source: Network, target: Network, extra: int, fold: bool) -> list[tuple[Block, Block]]:
    pairs = []
    for old, new in zip(source.down_blocks, target.down_blocks, strict=True):
        pairs += [(block, new.resnets[i]) for i, block in enumerate(old.resnets)]
    for depth, (old, new) in enumerate(zip(source.up_blocks, target.up_blocks, strict=True)):
        shift = extra if fold and depth == 0 else 0
        pairs += [(block, new.resnets[i + (shift or (extra if i else 0))]) for i, block in enumerate(old.resnets)]
    if fold:
        moved = (target.down_blocks[-1].resnets[-extra], target.up_blocks[0].resnets[0])
        pairs += list(zip(source.mid_block.resnets, moved, strict=True))
    elif source.mid_block is not None:
        pairs += list(zip(source.mid_block.resnets, target.mid_block.resnets, strict=True))
    return [(old.time_emb_proj, new.time_emb_proj) for old, new in pairs]


def _move_time(source: Network, target: Network, pairs: list[tuple[Block, Block]]) -> None:
    """Copy the time embedding, or keep its first features and refit what reads them over all times."""
    old, new = source.time_embedding, target.time_embedding
    width = new.linear_1.weight.shape[0]
    if width == old.linear_1.weight.shape[0]:
        _copy(old, new)
        for before, after in pairs:
            _copy(before, after)
        return
    wave = source.time_proj(TIME_GRID)
    hidden = old.act(old.linear_1(wave))
    emb = old.linear_2(hidden)
    new.linear_1.weight.copy_(old.linear_1.weight[:width])
    new.linear_1.bias.copy_(old.linear_1.bias[:width])
    _refit(hidden[:, :width], emb[:, :width], new.linear_2)
    features = source.conv_act(new(wave))
    for before, after in pairs:
        _refit(features, before(source.conv_act(emb)), after)


def _refit(inputs_TD: torch.Tensor, outputs_TE: torch.Tensor, layer: nn.Linear) -> None:
    design = torch.cat([inputs_TD, torch.ones(len(inputs_TD), 1)], dim=1).double()
    gram = design.T @ design
    ridge = 1e-7 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    solution = torch.linalg.solve(gram + ridge, design.T @ outputs_TE.double())
    layer.weight.copy_(solution[:-1].T)
    layer.bias.copy_(solution[-1])
