"""From pixels to tokens."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitcourse.functional import check_patches_fit, patchify


class PatchEmbedding(nn.Module):
    """Cut an image into patches and project each one linearly: `(B, C, H, W) -> (B, N, D)`.

    x_i E + b for each flattened patch x_i of length P^2 C (Dosovitskiy et al., 2021, eq. 1). A convolution with
    kernel = stride = P computes the same numbers from the same weights.

    Args:
        patch_size: P, in pixels.
        num_channels: C.
        hidden_size: D.
        as_convolution: compute by convolution instead of cutting and multiplying.

    Raises:
        ValueError: from `forward`, images with another number of channels, or sides that P doesn't divide.
    """

    def __init__(self, patch_size: int, num_channels: int, hidden_size: int, as_convolution: bool = False):
        super().__init__()
        self.patch_size = patch_size
        self.num_channels = num_channels
        self.as_convolution = as_convolution
        self.projection = nn.Linear(patch_size**2 * num_channels, hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        # A convolution would crop in silence.
        check_patches_fit(images, self.patch_size, self.num_channels)
        if not self.as_convolution:
            return self.projection(patchify(images, self.patch_size))
        # The patch vector is flattened as (C, P, P), so a row of the matrix is a kernel.
        kernels = self.projection.weight.unflatten(1, (self.num_channels, self.patch_size, self.patch_size))
        grid = F.conv2d(images, kernels, self.projection.bias, stride=self.patch_size)
        return rearrange(grid, "b d gh gw -> b (gh gw) d")
