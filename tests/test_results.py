"""The tables in the package are copies of the logs of the runs, and are read as what they are."""

import json
from pathlib import Path

import pytest

from vitcourse import checkpoints, introspect, results, training

LOGS = Path(__file__).parent.parent / "experiments" / "logs"
FOLDER = Path(results.__file__).parent
COPIES = {
    "ablation-all-seed0": "ablation/all-seed0",
    "cifar-10-100-epochs": "cifar-10/100-epochs",
    "cifar-10-range-0.02": "cifar-10/12-epochs-range-0.02",
    "cifar-10-range-0.08": "cifar-10/12-epochs-range-0.08",
}
TABLES = {
    "ablation",
    "cifar-10",
    "data_size",
    "design_study",
    "design_study_time",
    "explanations",
    "hyper_parameters",
    "occlusion",
    "poses",
    "transfer",
    "transfer_size",
}


@pytest.mark.parametrize(("name", "log"), COPIES.items(), ids=COPIES)
def test_a_log_in_the_package_is_the_log_of_the_run(name, log):
    assert (FOLDER / f"{name}.csv").read_bytes() == (LOGS / f"{log}.csv").read_bytes()
    rows = [training.Epoch(**row) for row in results.read(name)]
    assert rows == training.read_log(LOGS / f"{log}.csv")


def test_the_table_of_cifar_10_says_what_the_shipped_results_say():
    shipped = {"40": "cifar-10", "larger": "cifar-10-larger"}
    rows = {str(row["run"]): row for row in results.read("cifar-10")}
    for name, folder in shipped.items():
        path = Path(checkpoints.__file__).parent / folder / "result.json"
        saved = json.loads(path.read_text(encoding="utf-8"))
        for column, value in rows[name].items():
            assert column == "run" or saved[column] == value
    text = (LOGS.parent / "README.md").read_text(encoding="utf-8")
    assert f"{rows['100']['test_accuracy']:.2%}".replace("%", " %") in text


def test_names_are_all_tables_in_the_folder():
    assert set(results.NAMES) == {*COPIES, *TABLES}


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("ablation", {"all", "nothing", "linear", "no-dropout"}),
        ("hyper_parameters", {"base", "batch-8", "adam", "mixup-1", "bfloat16", "heads-1"}),
    ],
)
def test_a_table_has_every_run_at_three_seeds(name, some):
    rows = results.read(name)
    runs = {row["run"] for row in rows}
    assert {(row["run"], row["seed"]) for row in rows} == {(run, seed) for run in runs for seed in (0, 1, 2)}
    assert some <= runs
    for row in rows:
        log = training.read_log(LOGS / name / f"{row['run']}-seed{row['seed']}.csv")
        best = max(log, key=lambda epoch: epoch.validation_accuracy)
        assert (row["epochs"], row["best_epoch"]) == (len(log), best.epoch)
        assert row["validation_accuracy"] == pytest.approx(best.validation_accuracy, abs=1e-4)
        assert 0 < row["test_accuracy"] < 1


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'cifar-10-100-epochs'"):
        results.read("cifar")


def test_the_table_of_poses_is_that_of_the_runs():
    assert (FOLDER / "poses.csv").read_bytes() == (LOGS / "poses" / "results.csv").read_bytes()


def test_the_tables_of_transfer_have_every_run_at_three_seeds():
    rows = results.read("transfer")
    points = {(row["way"], row["each"], row["rate"], row["updates"]) for row in rows}
    assert len(points) == 18
    assert len(rows) == 3 * len(points)
    for row in rows:
        assert (row["old_accuracy"] == "") == (row["way"] in ("scratch", "far"))
        assert 0 < row["test_balanced_accuracy"] < 1
    sizes = results.read("transfer_size")
    assert {(row["positions"], row["seed"]) for row in sizes} == {
        (name, seed) for name in ("bicubic", "truncated", "random") for seed in (0, 1, 2)
    }


def test_the_explanations_are_marked_in_three_pairs_and_beside_every_baseline():
    rows = results.read("explanations")
    models = [(weights, name) for weights in ("trained", "random") for name in introspect.METHODS]
    maps = [("none", name) for name in ("noise", "centre", "edges", "mask")] + models
    assert sorted((row["pair"], row["weights"], row["map"]) for row in rows) == sorted(
        (pair, *one) for pair in (0, 1, 2) for one in maps
    )
    best = {row["pair"]: row["iou"] for row in rows if row["map"] == "mask"}
    by = {(row["pair"], row["weights"], row["map"]): row for row in rows}
    for (pair, weights, name), row in by.items():
        assert 0 <= row["iou"] <= best[pair]
        if weights == "trained":
            gain = row["iou"] - by[pair, "random", name]["iou"]
            assert row["iou_over_random"] == pytest.approx(gain, abs=2e-4)
            loss = by[pair, "none", "edges"]["deletion"] - row["deletion"]
            assert row["deletion_over_edges"] == pytest.approx(loss, abs=2e-4)


def test_the_table_of_occlusion_has_every_model_at_three_seeds():
    rows = results.read("occlusion")
    models = ("vit", "no-positions", "cnn")
    assert sorted((row["model"], row["seed"]) for row in rows) == sorted(
        (m, seed) for m in models for seed in (0, 1, 2)
    )
    for row in rows:
        shuffled = {row[f"shuffled{side}"] for side in (2, 4, 8)}
        assert (shuffled == {row["clean"]}) == (row["model"] == "no-positions")


def test_the_table_of_data_size_has_each_run_once():
    rows = results.read("data_size")
    points = [(row["task"], row["images"], row["model"], row["seed"]) for row in rows]
    assert len(set(points)) == len(points) == 3 * 5 * 3 * 3
    assert {point[2:] for point in points} == {(model, seed) for model in ("vit", "cnn", "hybrid") for seed in range(3)}
    assert all(118_000 < row["parameters"] < 122_000 or row["task"] == "fashion-mnist" for row in rows)


def test_the_table_of_the_design_study_has_each_run_once():
    rows = results.read("design_study")
    names = ("patch_size", "hidden_size", "num_hidden_layers", "epochs", "seed")
    points = {tuple(row[name] for name in names) for row in rows}
    assert len(points) == len(rows) == 80
    grid = {(patch, width, 4) for patch in (2, 4, 8, 16) for width in (24, 48, 96, 192)}
    assert {point[:3] for point in points} == grid | {(4, 48, depth) for depth in (2, 8, 12)}


def test_fill_makes_only_what_the_table_lacks(tmp_path):
    asked, path = [], tmp_path / "table.csv"

    def make(name, seed):
        asked.append((name, seed))
        return {"name": name, "seed": seed, "accuracy": seed / 2}

    results.fill(path, [("a", 0)], make, ("name", "seed"))
    results.fill(path, [("a", 0), ("a", 1)], make, ("name", "seed"))
    assert asked == [("a", 0), ("a", 1)]
    assert path.read_text(encoding="utf-8") == "name,seed,accuracy\na,0,0.0\na,1,0.5\n"
