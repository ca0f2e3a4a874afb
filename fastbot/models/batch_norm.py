"""What batch norm normalizes over: surgery on a model for a recipe's `model.bn_batch`.

A rank has positions r, r + R, r + 2R, ... of the global batch, and of those micro-batch m of M has m, m + M, ...
Groups are strided in the same way: of the rows of a micro-batch, group g of G has g, g + G, g + 2G, ... So a group's
rows are positions of the global batch that are equal modulo R * M * G, which is the number of all groups, global batch
over `bn_batch`: groups hold the same samples on any number of ranks and in any number of micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from fastbot.errors import ModelError, RecipeError


class _TrackingBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that is told what to move its running statistics by."""

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


class GroupedBatchNorm2d(_TrackingBatchNorm2d):
    """Batch norm that in training normalizes over strided groups of rows, each on its own.

    Running statistics move by the mean over groups of their means and unbiased variances: to the average of what so
    many ranks would have tracked. In evaluation it is `BatchNorm2d`, and so are its state-dict keys.

    Args:
        group_size: rows of a group; it divides the rows of every training batch.
        num_features, eps, momentum: as of `BatchNorm2d`; affine, and with running statistics.
    """

    def __init__(self, group_size: int, num_features: int, eps: float, momentum: float) -> None:
        super().__init__(num_features, eps, momentum)
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, C, H, W) normalized, in its memory format."""
        if not self.training:
            return super().forward(x)
        num_groups = x.shape[0] // self.group_size
        statistics = torch.zeros(2, num_groups, self.num_features, dtype=self.weight.dtype, device=x.device)
        # Which is faster was measured on a CPU; a compiler makes one kernel of either, from the shorter graph.
        apart = x.device.type == "cpu" and _is_channels_last(x) and not torch.compiler.is_compiling()
        out = self._one_by_one(x, statistics) if apart else self._at_once(x, statistics)
        self._track(*statistics.mean(1))
        return out

    def _at_once(self, x: Tensor, statistics: Tensor) -> Tensor:
        """Normalize all groups as channels of their own."""
        num_groups = statistics.shape[1]
        folded = _fold_groups(x, self.group_size, num_groups)
        weight, bias = self.weight.repeat(num_groups), self.bias.repeat(num_groups)
        return _unfold_groups(self._normalize(folded, statistics.flatten(1), weight, bias), x)

    def _one_by_one(self, x: Tensor, statistics: Tensor) -> Tensor:
        """Normalize each group as a batch."""
        groups = _Deal.apply(x, statistics.shape[1])
        normalized = [
            self._normalize(group, own, self.weight, self.bias)
            for group, own in zip(groups, statistics.unbind(1), strict=True)
        ]
        return cast(Tensor, _Gather.apply(*normalized))

    def _normalize(self, x: Tensor, statistics: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        # With a momentum of 1, what is left in the running statistics is this batch's own.
        return functional.batch_norm(x, statistics[0], statistics[1], weight, bias, True, 1.0, self.eps)


def _fold_groups(x: Tensor, group_size: int, num_groups: int) -> Tensor:
    """Return (group_size, num_groups * C, H, W) of x (N, C, H, W), where row r is of group r mod num_groups.

    A view of contiguous memory. In channels-last memory the same pixel of different groups lies apart, and one copy
    brings it together; `torch.compile` fuses that with what follows.
    """
    _, channels, height, width = x.shape
    if _is_channels_last(x):
        pixels = x.permute(0, 2, 3, 1).view(group_size, num_groups, height, width, channels)
        folded = pixels.permute(0, 2, 3, 1, 4).reshape(group_size, height, width, num_groups * channels)
        return folded.permute(0, 3, 1, 2)
    return x.reshape(group_size, num_groups * channels, height, width)


def _unfold_groups(folded: Tensor, like: Tensor) -> Tensor:
    """Return what `_fold_groups` made of a tensor as a tensor of the first one's shape and memory format."""
    num_rows, channels, height, width = like.shape
    if _is_channels_last(like):
        pixels = folded.permute(0, 2, 3, 1).reshape(folded.shape[0], height, width, -1, channels)
        return pixels.permute(0, 3, 1, 2, 4).reshape(num_rows, height, width, channels).permute(0, 3, 1, 2)
    return folded.reshape(num_rows, channels, height, width)


def _dealt(x: Tensor, num_groups: int) -> tuple[Tensor, ...]:
    return tuple(x[g::num_groups].contiguous(memory_format=torch.channels_last) for g in range(num_groups))


def _gathered(groups: Sequence[Tensor]) -> Tensor:
    rows, *shape = groups[0].shape
    out = torch.empty((rows * len(groups), *shape), dtype=groups[0].dtype, memory_format=torch.channels_last)
    for g, group in enumerate(groups):
        out[g :: len(groups)].copy_(group)
    return out


class _Deal(torch.autograd.Function):
    """Cut x into its strided groups, each in channels-last memory.

    Autograd's own gradient of slices is in no memory format, and batch norm's backward then ten times slower.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, num_groups: int) -> tuple[Tensor, ...]:
        return _dealt(x, num_groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _gathered(gradients), None


class _Gather(torch.autograd.Function):
    """Put strided groups together again."""

    @staticmethod
    def forward(ctx: Any, *groups: Tensor) -> Tensor:
        ctx.num_groups = len(groups)
        return _gathered(groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return _dealt(gradients[0], ctx.num_groups)


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


class SyncedBatchNorm2d(_TrackingBatchNorm2d):
    """Batch norm over the rows of all ranks, through differentiable reductions of any backend, for ranks on CPUs.

    Every rank has the same number of rows. On CUDA `torch.nn.SyncBatchNorm` does the same in fewer kernels.

    Args:
        num_features, eps, momentum: as of `BatchNorm2d`; affine, and with running statistics.
    """

    def __init__(self, num_features: int, eps: float, momentum: float) -> None:
        super().__init__(num_features, eps, momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, C, H, W) normalized, in its memory format; in training every rank must call it."""
        if not self.training:
            return super().forward(x)
        count = x.numel() // self.num_features * dist.get_world_size()
        wide = x.to(self.weight.dtype)  # half formats are too narrow for statistics
        mean = _mean_over_ranks(wide)
        centred = wide - mean
        variance = _mean_over_ranks(centred.square())
        self._track(mean.flatten(), variance.flatten() * (count / (count - 1)))
        scale = self.weight.view(1, -1, 1, 1) * torch.rsqrt(variance + self.eps)
        return (centred * scale + self.bias.view(1, -1, 1, 1)).to(x.dtype)


def _mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean (1, C, 1, 1) over rows and pixels of all ranks."""
    return cast(Tensor, _SumOverRanks.apply(x.mean((0, 2, 3), keepdim=True))) / dist.get_world_size()


class _SumOverRanks(torch.autograd.Function):
    """Add up over all ranks. Each rank's term is in every rank's sum, so that gradients are added up likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def with_bn_batch(
    model: nn.Module,
    bn_batch: Literal["micro_batch", "sync"] | int,
    rows: int,
    world_size: int,
    micro_batches: int = 1,
) -> nn.Module:
    """Let a model's batch norms normalize over the pictures that `model.bn_batch` says.

    Args:
        model: changed in place, its parameters stay the same objects; on its device, where that matters to "sync".
        bn_batch: "micro_batch" changes nothing; a number normalizes over strided groups of so many rows; "sync" over
            all ranks' rows.
        rows: of a micro-batch of one rank.
        world_size: ranks of the run.
        micro_batches: of a step. Running statistics move once in each of them; with a number for `bn_batch` each
            then moves them so much less that a step moves them as far as one micro-batch would have.

    Returns:
        The same model, or the one that `SyncBatchNorm.convert_sync_batchnorm` returns.

    Raises:
        RecipeError: the groups do not divide the rows, or "sync" is asked of several micro-batches.
        ModelError: the model has no batch norm, or one of a kind that this cannot change.
    """
    if bn_batch == "micro_batch":
        return model
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise ModelError(
            f"model.bn_batch is {bn_batch} and {type(model).__name__} has no batch norm. "
            "Take model.bn_batch = micro_batch, which leaves any model as it is"
        )
    if bn_batch == "sync":
        return _synced(model, world_size, micro_batches)
    if rows % bn_batch:
        divisors = ", ".join(str(n) for n in range(2, rows + 1) if rows % n == 0)
        raise RecipeError(
            f"model.bn_batch is {bn_batch} and does not divide the {rows} rows of a rank's micro-batch: choose one of "
            f"{divisors}, micro_batch or sync, or change micro_batches or the number of ranks"
        )
    if bn_batch < rows:
        _replace(model, lambda norm: GroupedBatchNorm2d(bn_batch, norm.num_features, norm.eps, _momentum(norm)))
    if micro_batches > 1:
        for norm in model.modules():
            if isinstance(norm, _BatchNorm):
                norm.momentum = 1 - (1 - _momentum(norm)) ** (1 / micro_batches)
    return model


def _synced(model: nn.Module, world_size: int, micro_batches: int) -> nn.Module:
    if micro_batches > 1:
        raise RecipeError(
            f"model.bn_batch is sync and micro_batches is {micro_batches}: micro-batches are computed one after the "
            "other and cannot share statistics. Set micro_batches to 1, or model.bn_batch to a number"
        )
    if world_size == 1:
        return model
    if next(model.parameters()).is_cuda:
        list(_batch_norms(model))
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(model))  # type: ignore[no-untyped-call]
    _replace(model, lambda norm: SyncedBatchNorm2d(norm.num_features, norm.eps, _momentum(norm)))
    return model


def _batch_norms(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.BatchNorm2d]]:
    """Yield each batch norm with the module that has it and its name there."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if not isinstance(child, _BatchNorm):
                continue
            if type(child) is not nn.BatchNorm2d or not child.affine or not child.track_running_stats:
                raise ModelError(
                    f"model.bn_batch: {type(model).__name__} has a {type(child).__name__} ({name}), and only affine "
                    "BatchNorm2d with running statistics can be changed. Take model.bn_batch = micro_batch"
                )
            yield parent, name, child


def _replace(model: nn.Module, build: Callable[[nn.BatchNorm2d], nn.BatchNorm2d]) -> None:
    """Put another batch norm in the place of each, with the same parameters and buffers."""
    for parent, name, norm in list(_batch_norms(model)):
        other = build(norm).train(norm.training)
        other.weight, other.bias = norm.weight, norm.bias
        other.running_mean, other.running_var = norm.running_mean, norm.running_var
        other.num_batches_tracked = norm.num_batches_tracked
        setattr(parent, name, other)


def _momentum(norm: _BatchNorm) -> float:
    assert norm.momentum is not None, "no network of ours, timm's or torchvision's averages over all batches"
    return norm.momentum
