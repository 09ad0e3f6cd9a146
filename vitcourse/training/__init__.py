"""Train a classifier and say how well it does."""

from vitcourse.training.batches import batches
from vitcourse.training.config import TrainingConfig
from vitcourse.training.device import choose_device
from vitcourse.training.evaluation import Evaluation, evaluate
from vitcourse.training.fit import fit
from vitcourse.training.log import Epoch, read_log, write_log
from vitcourse.training.optimisation import learning_rate_factor, make_optimizer, parameter_groups
from vitcourse.training.processes import process_group
from vitcourse.training.seeds import set_seed

__all__ = [
    "Epoch",
    "Evaluation",
    "TrainingConfig",
    "batches",
    "choose_device",
    "evaluate",
    "fit",
    "learning_rate_factor",
    "make_optimizer",
    "parameter_groups",
    "process_group",
    "read_log",
    "set_seed",
    "write_log",
]
