"""One process, or several that share each batch: started by `torchrun`, joined by PyTorch's DistributedDataParallel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    def share(self, length: int) -> Tensor:
        """The rows of a batch of `length` that belong to this process: every `count`-th."""
        return torch.arange(length)[self.rank :: self.count]

    def joined(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are averaged over all processes."""
        return nn.parallel.DistributedDataParallel(model) if self.count > 1 else model

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            tensor = tensor.cuda() if torch.distributed.get_backend() == "nccl" else tensor
            torch.distributed.all_reduce(tensor)
        return tensor


def processes() -> Processes:
    """This process among those that `process_group` joined; one alone otherwise."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return Processes()


@contextmanager
def process_group(device: torch.device) -> Iterator[Processes]:
    """Join the other processes if `torchrun` started this one: over NCCL on CUDA, over gloo elsewhere."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes()
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield processes()
    finally:
        torch.distributed.destroy_process_group()
