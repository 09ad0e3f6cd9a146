"""Train a classifier and say how well it does."""

from vitcourse.training.augmentation import augment
from vitcourse.training.config import TrainingConfig
from vitcourse.training.evaluation import Evaluation, evaluate
from vitcourse.training.fit import batches, fit, set_seed
from vitcourse.training.log import Epoch, read_log, write_log
from vitcourse.training.optimisation import learning_rate_factor, parameter_groups

__all__ = [
    "Epoch",
    "Evaluation",
    "TrainingConfig",
    "augment",
    "batches",
    "evaluate",
    "fit",
    "learning_rate_factor",
    "parameter_groups",
    "read_log",
    "set_seed",
    "write_log",
]
