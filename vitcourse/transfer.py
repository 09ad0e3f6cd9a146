"""Standing on someone else's training: a new head, a frozen body, another image size."""

from __future__ import annotations

import torch

from vitcourse.config import ViTConfig
from vitcourse.functional import resize_positions
from vitcourse.model import VisionTransformer
from vitcourse.validation import positive_integer


def with_new_head(model: VisionTransformer, num_classes: int) -> VisionTransformer:
    """A copy of `model` for `num_classes` other classes: all weights kept but the head's, which are drawn anew.

    The copy's parameters can all be trained, and it is in the mode of `model`. Also when the number of classes is the
    same: other classes need another head.

    Raises:
        TypeError, ValueError: a number of classes that is no positive whole number, or a model in which a part of the
            body was replaced (a convolutional stem, for example).
    """
    config = model.config.replace(num_classes=positive_integer("num_classes", num_classes))
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    return _copied(model, config, weights, new_head=True)


def with_image_size(
    model: VisionTransformer, image_size: int | tuple[int, int], mode: str = "bicubic"
) -> VisionTransformer:
    """A copy of `model` for images of another size: learned positions are resized, all else is kept.

    Positions that are computed are computed for the new grid. The patch size stays, so the number of patches changes.

    Args:
        mode: as in `functional.resize_positions`.

    Raises:
        TypeError, ValueError: an image size that can't be cut into patches, another mode, or a model in which a part
            was replaced.
    """
    config = model.config.replace(image_size=image_size)
    weights = dict(model.state_dict())
    name = "position_embedding.positions"
    if name in weights:
        weights[name] = resize_positions(weights[name], model.config.grid_size, config.grid_size, mode)
    return _copied(model, config, weights)


def freeze_body(model: VisionTransformer, frozen: bool = True) -> VisionTransformer:
    """Let only the head be trained (`frozen=False`: everything again); in place, and returned.

    A frozen parameter gets no gradient, and an optimizer that finds none neither moves nor decays it.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not frozen or name.startswith("head."))
    return model


def _copied(
    model: VisionTransformer, config: ViTConfig, weights: dict[str, torch.Tensor], *, new_head: bool = False
) -> VisionTransformer:
    """One of `config` with copies of `weights`, on the device and in the dtype and mode of `model`."""
    replaced = [name for name in model.replaced_weights() if not (new_head and name.startswith("head."))]
    if replaced:
        raise ValueError(
            f"model can't be copied by its config, which doesn't describe {', '.join(replaced)}: a part was replaced. "
            "Copy it with copy.deepcopy and change the copy."
        )
    new = VisionTransformer(config)
    new.load_state_dict(weights, strict=not new_head)
    return new.to(model.class_token).train(model.training)
