"""Learn Vision Transformers by building, training, opening up and criticising one.

The building blocks that the notebooks import. What needs torchvision, matplotlib or ipywidgets stands in modules of its
own (`vitcourse.data`, `vitcourse.figures`, `vitcourse.widgets`, ...), imported where it is used.
"""

from vitcourse import functional, layers
from vitcourse.config import ViTConfig
from vitcourse.model import VisionTransformer

__version__ = "0.1.0"
__all__ = ["ViTConfig", "VisionTransformer", "functional", "layers"]
