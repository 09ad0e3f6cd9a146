"""The files in experiments/: each says its command and can be read; the yoga recipe runs on a made-up folder."""

import csv
import json
import re
from pathlib import Path
from statistics import mean

import pytest
from test_data_yoga_82 import write_set

from vitcourse import data, results
from vitcourse.__main__ import main
from vitcourse.training import read_log
from vitcourse.training.experiment import Experiment

FOLDER = Path(__file__).parents[1] / "experiments"
CONFIGS = sorted(FOLDER.glob("*.toml"))
LOGS = sorted(path for path in (FOLDER / "logs").rglob("*.csv") if path.name != "results.csv")


def test_there_are_experiments():
    assert len(CONFIGS) >= 9


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_can_be_read_and_says_its_command(path):
    experiment = Experiment.read(path)
    assert set(experiment.data) - {"name"} <= set(data.options_of(experiment.data["name"]))
    text = path.read_text(encoding="utf-8")
    assert f"-m vitcourse train experiments/{path.name}" in text
    assert re.search(r"^# (Seen|Reported)", text, re.MULTILINE), "no result is stated"
    assert "RESULT" not in text


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_log_can_be_read(path):
    log = read_log(path)
    assert [row.epoch for row in log] == list(range(1, len(log) + 1))


def test_readme_names_every_file():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in FOLDER.iterdir() if path.suffix in (".toml", ".py") and path.name not in readme]
    assert not missing


@pytest.mark.parametrize(("level", "parameters"), [(6, 5_525_574), (20, 5_528_276), (82, 5_540_242)])
def test_yoga_recipe_is_the_published_one(level, parameters):
    recipe = Experiment.read(FOLDER / f"yoga-82-level-{level}.toml")
    assert recipe.model.num_parameters() == parameters
    training = recipe.training
    assert (training.optimizer, training.learning_rate, training.schedule) == ("adam", 2e-4, "linear")
    assert (training.batch_size, training.clip_norm, training.patience, training.rand_augment) == (256, 5.0, 12, 2)
    assert recipe.model.hidden_dropout_prob == 0.1


def test_yoga_recipe_runs_on_a_folder_of_the_real_layout(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VITCOURSE_DATA", str(tmp_path / "home"))
    folder = write_set(tmp_path / "yoga")
    common = ["--data", str(folder), "--device", "cpu", "--set", "training.epochs=1"]
    first, second = FOLDER / "yoga-82-level-6.toml", FOLDER / "yoga-82-level-20.toml"
    assert main(["train", str(first), "--out", str(tmp_path / "6"), *common]) == 0
    start = f"start={tmp_path / '6' / 'best.safetensors'}"
    assert main(["train", str(second), "--out", str(tmp_path / "20"), "--set", start, *common]) == 0
    assert "new head: 20 classes instead of 6" in (tmp_path / "20" / "train.log").read_text()
    result = json.loads((tmp_path / "20" / "result.json").read_text())
    assert result["images"] == {"train": 32, "validation": 8, "test": 16}
    capsys.readouterr()


# ---- what the text says about the runs


def test_poses_table_is_that_of_the_runs():
    with (FOLDER / "logs" / "poses" / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["seed"] for row in rows} == {"0", "1", "2"}
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for run in {row["run"] for row in rows}:
        accuracies = [100 * float(row["test_accuracy"]) for row in rows if row["run"] == run]
        assert f"{mean(accuracies):.1f} ({min(accuracies):.1f} to {max(accuracies):.1f})" in readme, run


@pytest.mark.parametrize(("name", "base"), [("ablation", "all"), ("hyper_parameters", "base")])
def test_tables_of_single_changes_are_those_of_the_runs(name, base):
    rows = results.read(name)
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    all_of = {row["seed"]: row["test_accuracy"] for row in rows if row["run"] == base}
    for run in {row["run"] for row in rows}:
        accuracies = [(row["seed"], row["test_accuracy"]) for row in rows if row["run"] == run]
        differences = ", ".join(f"{100 * (accuracy - all_of[seed]):+.1f}" for seed, accuracy in accuracies)
        average = 100 * mean(accuracy for _, accuracy in accuracies)
        assert f"| `{run}` | {average:.1f} | {differences.replace('-', '−')} |" in readme, run


def test_transfer_tables_are_those_of_the_runs():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    groups = {}
    for row in results.read("transfer"):
        groups.setdefault(tuple(row[name] for name in ("way", "each", "rate", "updates")), []).append(row)
    for point, rows in groups.items():
        accuracies = [100 * row["test_accuracy"] for row in rows]
        assert f"{mean(accuracies):.1f} ({min(accuracies):.1f} to {max(accuracies):.1f})" in readme, point
    for name in ("bicubic", "truncated", "random"):
        after = [100 * row["after"] for row in results.read("transfer_size") if row["positions"] == name]
        assert f"{mean(after):.1f} ({min(after):.1f} to {max(after):.1f}) |" in readme, name


def test_explanations_table_is_that_of_the_runs():
    rows = results.read("explanations")
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for weights, name in {(row["weights"], row["map"]) for row in rows}:
        same = [row for row in rows if (row["weights"], row["map"]) == (weights, name)]
        cells = [", ".join(f"{row[column]:.2f}" for row in same) for column in ("pointing", "iou", "deletion")]
        assert f"| {name} | {weights} | {' | '.join(cells)} |" in readme, (weights, name)
        assert max(row[f"{column}_error"] for row in same for column in ("pointing", "iou", "deletion")) < 0.025


def test_occlusion_table_is_that_of_the_runs():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = results.read("occlusion")
    for column in rows[0].keys() - {"model", "seed", "parameters"}:
        cells = []
        for model in ("vit", "no-positions", "cnn"):
            values = [100 * row[column] for row in rows if row["model"] == model]
            cells.append(f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        assert f"| {' | '.join(cells)} |" in readme, column


def test_data_size_table_is_that_of_the_runs():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    points = {}
    for row in results.read("data_size"):
        points.setdefault((row["task"], row["images"], row["model"]), []).append(100 * row["test_accuracy"])
    for task, images in dict.fromkeys(point[:2] for point in points):
        three = [points[task, images, model] for model in ("vit", "cnn", "hybrid")]
        cells = [f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})" for values in three]
        assert f"| {task} | {images:,} | {' | '.join(cells)} |" in readme


def test_design_study_table_is_that_of_the_runs():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    groups = {}
    names = ("patch_size", "hidden_size", "num_hidden_layers", "epochs")
    for row in results.read("design_study"):
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    for point, rows in groups.items():
        accuracies = [100 * row["test_accuracy"] for row in rows]
        start = f"| {' | '.join(map(str, point))} | {rows[0]['parameters']:,} |"
        (line,) = (line for line in readme.splitlines() if line.startswith(start))
        assert f"| {mean(accuracies):.1f} ({min(accuracies):.1f} to {max(accuracies):.1f}) | {len(rows)} |" in line
        assert [row["seed"] for row in rows] == list(range(len(rows)))
