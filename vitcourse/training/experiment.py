"""A training run that a configuration file describes: from the file to the result, in one folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vitcourse import VisionTransformer, ViTConfig, data
from vitcourse.files import write_text
from vitcourse.training.config import TrainingConfig
from vitcourse.training.device import choose_device
from vitcourse.training.evaluation import evaluate
from vitcourse.training.fit import fit, refuse_to_overwrite
from vitcourse.training.log import logging_to
from vitcourse.training.processes import process_group
from vitcourse.training.result import circumstances, scores
from vitcourse.training.seeds import set_seed
from vitcourse.training.settings import read_settings
from vitcourse.training.tracking import tracked
from vitcourse.transfer import with_new_head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """What a configuration file says.

    Attributes:
        name: of the file, without its ending.
        data: the set's name and the options that `data.load` takes.
        model, training: the two configurations.
        start: the checkpoint that the model starts from, or None. "{seed}" in it stands for the run's seed. A
            checkpoint for other classes gets a new head; in all else it must be of the same configuration.
    """

    name: str
    data: dict[str, Any]
    model: ViTConfig
    training: TrainingConfig
    start: str | None = None

    @classmethod
    def read(cls, path: str | Path, changes: Mapping[str, Any] | None = None) -> Experiment:
        """Read a .toml file.

        Args:
            changes: what to put in place of what it says, such as `{"training.seed": 1, "start": ""}`.

        Raises:
            FileNotFoundError, ValueError, TypeError: no such file, no TOML, or a field that is missing, unknown or out
                of range.
        """
        settings = read_settings(path, changes or {})
        training = TrainingConfig.from_dict(settings["training"])
        start = settings.get("start", "")
        if not isinstance(start, str):
            raise TypeError(f"config {str(path)!r}: start must be the path of a checkpoint, got {start!r}.")
        return cls(
            name=Path(path).stem,
            data=settings["data"],
            model=ViTConfig.from_dict(settings["model"]),
            training=training,
            start=start.replace("{seed}", str(training.seed)) or None,
        )

    def load_data(self, folder: str | Path | None = None) -> dict[str, data.ImageSet]:
        """The three splits, from `folder` if the set lies there."""
        options = {**self.data, **({} if folder is None else {"folder": folder})}
        return {split: data.load(split=split, **options) for split in data.SPLITS}

    def make_model(self) -> VisionTransformer:
        """A new model, or one with the weights of `start`.

        Raises:
            FileNotFoundError, ValueError: a `start` that isn't there, is damaged, or is of another configuration.
        """
        trained = None if self.start is None else VisionTransformer.load(self.start)
        set_seed(self.training.seed)  # after loading, which draws random numbers too
        if trained is None:
            return VisionTransformer(self.model)
        if trained.config.replace(num_classes=self.model.num_classes) != self.model:
            raise ValueError(f"start {self.start!r} is a checkpoint of another configuration: {trained.config}.")
        if trained.config != self.model:
            logger.info("new head: %d classes instead of %d", self.model.num_classes, trained.config.num_classes)
            trained = with_new_head(trained, self.model.num_classes)
        return trained.train()

    def run(
        self,
        out: str | Path,
        *,
        folder: str | Path | None = None,
        device: str | None = None,
        resume: bool = False,
        track: bool = False,
    ) -> dict[str, Any]:
        """Train, judge the best model on the test images, and write all of it into the folder `out`.

        Args:
            out: gets `log.csv`, `train.log`, `best.safetensors`, `last.pt` and `result.json`.
            folder: of the data set, if it isn't where it is looked for.
            device: "cpu", "cuda", "mps"; chosen by itself if None.
            resume: go on with the run in `out`.
            track: also write to MLflow.

        Raises:
            FileExistsError: `out` holds a run, and `resume` isn't asked for.
        """
        out, chosen = Path(out), choose_device(device)
        if not resume:
            refuse_to_overwrite(out)
        sets = self.load_data(folder)
        with process_group(chosen) as ours:
            first = ours.rank == 0
            with logging_to(out / "train.log") if first else nullcontext():
                logger.info("%s on %s, %d processes", self.name, chosen, ours.count)
                model = self.make_model().to(chosen)
                with tracked(self.name, asdict(self), out, wanted=track and first) as on_epoch:
                    log = fit(model, sets["train"], sets["validation"], self.training, folder=out, resume=resume,
                              on_epoch=on_epoch)  # fmt: skip
                if ours.count > 1:
                    torch.distributed.barrier()  # the first process has written the best model
                best = VisionTransformer.load(out / "best.safetensors").to(chosen)
                test = evaluate(best, sets["test"])
                images = {split: len(images) for split, images in sets.items()}
                result = {**scores(log, test), "data": self.data, "images": images}
                result |= {"parameters": self.model.num_parameters(), **circumstances(chosen, ours.count)}
                if first:
                    write_text(out / "result.json", json.dumps(result, indent=2) + "\n")
                logger.info("test accuracy %.4f", result["test_accuracy"])
        return result
