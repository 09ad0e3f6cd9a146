"""Look inside a ViT: what its tokens attend to, what its score depends on, and whether a picture of that is right.

with introspect.record(model) as seen:
    logits = model(images)
seen.attention  # one (B, h, T, T) a layer
"""

from vitcourse.introspect.filters import embedding_filters, position_similarity
from vitcourse.introspect.geometry import attention_distance, patch_distances
from vitcourse.introspect.marking import deletion_curve, edge_map, iou, pointing_game
from vitcourse.introspect.recording import Recording, record
from vitcourse.introspect.relevance import METHODS, attention_map, gradient_relevance, input_gradient, rollout_map

__all__ = [
    "METHODS",
    "Recording",
    "attention_distance",
    "attention_map",
    "deletion_curve",
    "edge_map",
    "embedding_filters",
    "gradient_relevance",
    "input_gradient",
    "iou",
    "patch_distances",
    "pointing_game",
    "position_similarity",
    "record",
    "rollout_map",
]
