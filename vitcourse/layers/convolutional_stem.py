"""From pixels to tokens by way of a small convolutional network."""

from itertools import pairwise

from torch import Tensor, nn

from vitcourse.functional import check_patches_fit, patchify


class ConvolutionalStem(nn.Module):
    """Make tokens from a CNN's feature map, one for each of its places: `(B, C, H, W) -> (B, N, D)`, N = H W / P^2.

    The hybrid of Dosovitskiy et al. (2021, section 3.1): patches of 1 x 1 are cut from a feature map and projected
    linearly. Here the CNN is small, as in Xiao et al. (2021, "Early Convolutions Help Transformers See Better"): a
    3 x 3 convolution of stride 2, BatchNorm and ReLU, log2(P) times. The last is D wide, each one before it half as
    wide as the next, none below 8. Takes the place of `PatchEmbedding`; a token sees 2P - 1 pixels each way, not P.

    Args:
        patch_size: P, the total stride in pixels, a power of two from 2 on.
        num_channels: C.
        hidden_size: D.

    Raises:
        ValueError: a `patch_size` that is no power of two; from `forward`, images with another number of channels, or
            sides that P doesn't divide.
    """

    def __init__(self, patch_size: int, num_channels: int, hidden_size: int):
        super().__init__()
        if patch_size < 2 or patch_size & (patch_size - 1):
            raise ValueError(
                f"patch_size must be a power of two from 2 on, got {patch_size}: each convolution halves the sides."
            )
        self.patch_size = patch_size
        self.num_channels = num_channels
        depth = patch_size.bit_length() - 1
        widths = [num_channels, *(max(8, hidden_size >> left) for left in reversed(range(depth)))]
        self.features = nn.Sequential()
        for narrow, wide in pairwise(widths):
            # BatchNorm has a bias of its own.
            self.features.append(nn.Conv2d(narrow, wide, kernel_size=3, stride=2, padding=1, bias=False))
            self.features.append(nn.BatchNorm2d(wide))
            self.features.append(nn.ReLU())
        self.projection = nn.Linear(widths[-1], hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        # A convolution would round the sides in silence.
        check_patches_fit(images, self.patch_size, self.num_channels)
        return self.projection(patchify(self.features(images), 1))
