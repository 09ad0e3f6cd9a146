"""The command line: `python -m vitcourse COMMAND`."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EPILOG = "Every command explains itself: python -m vitcourse COMMAND --help"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it went well, 1 with one sentence when it did not."""
    parser = argparse.ArgumentParser(prog="python -m vitcourse", description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("doctor", help="say what works here, and how to mend what doesn't")
    train = commands.add_parser("train", help="train what a configuration file describes")
    train.add_argument("config", type=Path, help="a .toml file, as in experiments/")
    train.add_argument("--out", type=Path, help="folder for log and model (default: runs/NAME)")
    train.add_argument("--data", type=Path, help="folder of the complete data set, if it isn't where it is looked for")
    options = parser.parse_args(arguments)
    try:
        return _doctor() if options.command == "doctor" else _train(options)
    except (OSError, ValueError, TypeError, ArithmeticError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _doctor() -> int:
    from vitcourse import doctor

    checks = doctor.examine()
    print(doctor.as_text(checks))
    return 0 if all(check.ok for check in checks) else 1


def _train(options: argparse.Namespace) -> int:
    from vitcourse import ViTConfig, data
    from vitcourse.files import written_whole
    from vitcourse.training import TrainingConfig

    settings = _read(options.config)
    out = options.out or Path("runs") / options.config.stem
    if (out / "log.csv").exists():
        raise FileExistsError(f"out {str(out)!r} already holds a run; choose another --out, or move that folder.")
    training = TrainingConfig.from_dict(settings["training"])
    source = {"name": settings["data"]["name"], "complete": settings["data"].get("complete", False)}
    sets = {split: data.load(split=split, folder=options.data, **source) for split in data.SPLITS}
    model = _model(ViTConfig.from_dict(settings["model"]), settings.get("start"), training.seed)
    out.mkdir(parents=True, exist_ok=True)
    with _logged_to(out / "train.log"):
        result = _run(model, training, sets, out)
    with written_whole(out / "result.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"Test accuracy {result['test_accuracy']:.2%} after {result['minutes']:.1f} minutes; all in {out}.")
    return 0


def _model(config, start: str | None, seed: int):
    """A new model, or one with the weights of the checkpoint `start`, which must be of the same config."""
    from vitcourse import VisionTransformer
    from vitcourse.training import set_seed

    set_seed(seed)
    if start is None:
        return VisionTransformer(config)
    model = VisionTransformer.load(start)
    if model.config != config:
        raise ValueError(f"start {start!r} is a checkpoint of another config: {model.config}.")
    return model


def _run(model, training, sets: dict[str, Any], out: Path) -> dict[str, Any]:
    import torch

    from vitcourse import VisionTransformer, __version__
    from vitcourse.training import evaluate, fit

    start = time.perf_counter()
    fit(model, sets["train"], sets["validation"], training, folder=out)
    best = VisionTransformer.load(out / "best.safetensors")
    test = evaluate(best, sets["test"])
    return {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_images": len(sets["test"]),
        "training_images": len(sets["train"]),
        "parameters": best.config.num_parameters(),
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "vitcourse": __version__,
        },
    }


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("vitcourse")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"config {str(path)!r} is not a file; the course's own stand in experiments/.")
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"config {str(path)!r} is not valid TOML: {error}.") from None
    missing = {"data", "model", "training"} - set(settings)
    if missing:
        raise ValueError(
            f"config {str(path)!r} lacks the section {', '.join(f'[{name}]' for name in sorted(missing))}."
        )
    return settings


if __name__ == "__main__":
    sys.exit(main())
