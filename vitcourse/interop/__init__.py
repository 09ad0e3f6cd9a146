"""Other libraries' Vision Transformers as ours, with the same logits in evaluation mode.

Each function `from_...` takes a model object of theirs and returns a `VisionTransformer` with copies of its weights, on
its device, in its dtype and mode. `to_huggingface` goes the other way. None of the libraries is needed to import this
package.

What ours can't represent is refused, with the reason. Nothing unknown is dropped: every part of theirs must be of
a known class, and every tensor must find its place. Represented by arithmetic: LayerScale (multiplied into the
linear layer before it), no position for [CLS] (a position of zeros), no bias where ours has one (zeros).
"""

from vitcourse.interop.huggingface import from_huggingface, to_huggingface
from vitcourse.interop.timm import from_timm
from vitcourse.interop.torchvision import from_torchvision

__all__ = ["from_huggingface", "from_timm", "from_torchvision", "to_huggingface"]
