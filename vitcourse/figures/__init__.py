"""The course's figures: functions that take data, draw, and return the figure or the axes.

Labels are symbols; the words stand in the captions of the notebooks. `use_style` sets the packaged style.
"""

from vitcourse.figures.attention import attention_cost, attention_matrix, saturation, soft_dictionary
from vitcourse.figures.curves import training_curves
from vitcourse.figures.encoder import (
    by_depth,
    gradients_by_depth,
    losses_by_step,
    runs_by_step,
)
from vitcourse.figures.heads import attention_heads, dealt_heads, one_row
from vitcourse.figures.images import RIGHT, WRONG, image, image_grid, patch_grid, predictions
from vitcourse.figures.inside import attention_map, class_probabilities, inside
from vitcourse.figures.normalisation import normalised_together
from vitcourse.figures.positions import (
    bits_and_waves,
    grid_similarities,
    position_similarities,
    sinusoidal_positions,
)
from vitcourse.figures.style import use_style
from vitcourse.figures.transformer import encoder_blocks, transformer
from vitcourse.figures.words import forgetting, neighbours, recall

__all__ = [
    "RIGHT",
    "WRONG",
    "attention_cost",
    "attention_heads",
    "attention_map",
    "attention_matrix",
    "bits_and_waves",
    "by_depth",
    "class_probabilities",
    "dealt_heads",
    "encoder_blocks",
    "forgetting",
    "gradients_by_depth",
    "grid_similarities",
    "image",
    "image_grid",
    "inside",
    "losses_by_step",
    "neighbours",
    "normalised_together",
    "one_row",
    "patch_grid",
    "position_similarities",
    "predictions",
    "recall",
    "runs_by_step",
    "saturation",
    "sinusoidal_positions",
    "soft_dictionary",
    "training_curves",
    "transformer",
    "use_style",
]
