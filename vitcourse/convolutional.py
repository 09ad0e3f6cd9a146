"""A small convolutional network, to stand beside the Vision Transformer."""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut: `(B, C, H, W) -> (B, C', H / stride, W / stride)`, rounded up.

    x <- ReLU(BN(conv(ReLU(BN(conv(x))))) + shortcut(x)) (He et al., 2016, "Deep Residual Learning", figure 2). The
    shortcut is the identity, or a 1 x 1 convolution with BatchNorm where the shape changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU()
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.activation(self.norm1(self.conv1(images)))
        return self.activation(self.norm2(self.conv2(hidden)) + self.shortcut(images))


class ConvolutionalNetwork(nn.Module):
    """A residual network of one block a stage: `(B, C, H, W) -> (B, num_classes)`, for any H and W.

    A 3 x 3 convolution, then stages that halve the sides, rounding up (all but the first), the mean over places, one
    linear layer.
    With the default widths and three channels it has about as many parameters as the default `ViTConfig`.

    Args:
        widths: channels of each stage.
    """

    def __init__(self, num_channels: int = 3, num_classes: int = 10, widths: tuple[int, ...] = (20, 40, 80)):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(num_channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.Sequential(
            *(
                ResidualBlock(narrow, wide, stride=1 if stage == 0 else 2)
                for stage, (narrow, wide) in enumerate(zip(inputs, widths, strict=True))
            )
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(images)).mean(dim=(2, 3)))
