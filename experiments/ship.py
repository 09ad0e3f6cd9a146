"""Put a finished run into the package: python -m experiments.ship runs/poses-6-seed0 poses-6

The weights go into the file in half precision and are read back as float32. The model, the log and the result go to
`vitcourse/checkpoints/NAME/`. The card, `README.md` there, is written by hand from `result.json`; a test compares the
two. A new name also goes into `NAMES` in `vitcourse/checkpoints/__init__.py`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from vitcourse.storage import read_weights, write_weights

CHECKPOINTS = Path(__file__).parents[1] / "vitcourse" / "checkpoints"
FILES = ("log.csv", "result.json")


def ship(run: Path, name: str) -> Path:
    """Copy the files of the folder `run`, and return where they went."""
    missing = [file for file in ("best.safetensors", *FILES) if not (run / file).is_file()]
    if missing:
        raise SystemExit(f"run {str(run)!r} isn't finished: it has no {', '.join(missing)}.")
    folder = CHECKPOINTS / name
    folder.mkdir(parents=True, exist_ok=True)
    weights, notes = read_weights(run / "best.safetensors")
    write_weights(folder / "model.safetensors", {name: tensor.half() for name, tensor in weights.items()}, notes)
    for file in FILES:
        shutil.copyfile(run / file, folder / file)
    return folder


if __name__ == "__main__":
    print(ship(Path(sys.argv[1]), sys.argv[2]))
