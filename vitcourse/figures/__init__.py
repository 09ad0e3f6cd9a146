"""The course's figures: functions that take data, draw, and return the figure or the axes.

Labels are symbols; the words stand in the captions of the notebooks. `use_style` sets the packaged style.
"""

from vitcourse.figures.ablation import ablation, compare_runs, learning_rates
from vitcourse.figures.attention import attention_cost, attention_matrix, saturation, soft_dictionary
from vitcourse.figures.bias import accuracies, linear_maps, receptive_fields, shift_changes, shifted_features
from vitcourse.figures.costs import assembled, config_costs, costs, field_costs
from vitcourse.figures.curves import training_curves
from vitcourse.figures.design import cost_against_time, grid_maps, paired_seeds, pareto
from vitcourse.figures.encoder import (
    by_depth,
    gradients_by_depth,
    losses_by_step,
    runs_by_step,
)
from vitcourse.figures.evaluation import (
    calibration,
    class_measures,
    confusion_matrix,
    reliability,
    worst_mistakes,
)
from vitcourse.figures.heads import attention_heads, dealt_heads, one_row
from vitcourse.figures.images import RIGHT, WRONG, image, image_grid, patch_grid, predictions
from vitcourse.figures.inside import attention_map, class_probabilities, inside
from vitcourse.figures.introspection import (
    deletion_curves,
    distances_by_depth,
    filters,
    head_map,
    head_maps,
    map_marks,
    maps_beside,
    position_grids,
)
from vitcourse.figures.normalisation import normalised_together
from vitcourse.figures.patches import cut_images, image_as_sequence, patch_costs, seen_pixels
from vitcourse.figures.positions import (
    bits_and_waves,
    grid_similarities,
    position_similarities,
    sinusoidal_positions,
)
from vitcourse.figures.style import use_style
from vitcourse.figures.transfer import class_counts, resized_positions, transfer_levels, transfer_ways
from vitcourse.figures.transformer import encoder_blocks, transformer
from vitcourse.figures.words import forgetting, neighbours, recall

__all__ = [
    "RIGHT",
    "WRONG",
    "ablation",
    "accuracies",
    "assembled",
    "attention_cost",
    "attention_heads",
    "attention_map",
    "attention_matrix",
    "bits_and_waves",
    "by_depth",
    "calibration",
    "class_counts",
    "class_measures",
    "class_probabilities",
    "compare_runs",
    "config_costs",
    "confusion_matrix",
    "cost_against_time",
    "costs",
    "cut_images",
    "dealt_heads",
    "deletion_curves",
    "distances_by_depth",
    "encoder_blocks",
    "field_costs",
    "filters",
    "forgetting",
    "gradients_by_depth",
    "grid_maps",
    "grid_similarities",
    "head_map",
    "head_maps",
    "image",
    "image_as_sequence",
    "image_grid",
    "inside",
    "learning_rates",
    "linear_maps",
    "losses_by_step",
    "map_marks",
    "maps_beside",
    "neighbours",
    "normalised_together",
    "one_row",
    "paired_seeds",
    "pareto",
    "patch_costs",
    "patch_grid",
    "position_grids",
    "position_similarities",
    "predictions",
    "recall",
    "receptive_fields",
    "reliability",
    "resized_positions",
    "runs_by_step",
    "saturation",
    "seen_pixels",
    "shift_changes",
    "shifted_features",
    "sinusoidal_positions",
    "soft_dictionary",
    "training_curves",
    "transfer_levels",
    "transfer_ways",
    "transformer",
    "use_style",
    "worst_mistakes",
]
