"""The course's figures: functions that take data, draw, and return the figure or the axes.

Labels are symbols; the words stand in the captions of the notebooks. `use_style` sets the packaged style.
"""

from vitcourse.figures.curves import training_curves
from vitcourse.figures.images import RIGHT, WRONG, image, image_grid, patch_grid, predictions
from vitcourse.figures.inside import attention_map, class_probabilities, inside
from vitcourse.figures.style import use_style

__all__ = [
    "RIGHT",
    "WRONG",
    "attention_map",
    "class_probabilities",
    "image",
    "image_grid",
    "inside",
    "patch_grid",
    "predictions",
    "training_curves",
    "use_style",
]
