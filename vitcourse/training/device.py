"""Where a model is trained."""

from __future__ import annotations

import os

import torch


def choose_device(name: str | None = None) -> torch.device:
    """The device called `name`, or the best one here: CUDA, then MPS, then the CPU. Under `torchrun`, one GPU each.

    Raises:
        ValueError: a name that isn't one, or a device that isn't here.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} can't be used here ({reason}); leave it out, or take 'cpu'.") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
