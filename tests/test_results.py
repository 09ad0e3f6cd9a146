"""The tables in the package are copies of the logs of the runs, and are read as what they are."""

import json
from pathlib import Path

import pytest

from vitcourse import checkpoints, results, training

LOGS = Path(__file__).parent.parent / "experiments" / "logs"
FOLDER = Path(results.__file__).parent
COPIES = {
    "ablation-all-seed0": "ablation/all-seed0",
    "cifar-10-100-epochs": "cifar-10/100-epochs",
    "cifar-10-range-0.02": "cifar-10/12-epochs-range-0.02",
    "cifar-10-range-0.08": "cifar-10/12-epochs-range-0.08",
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
    assert set(results.NAMES) == {*COPIES, "ablation", "cifar-10"}


def test_the_ablation_has_every_run_at_three_seeds():
    rows = results.read("ablation")
    runs = {row["run"] for row in rows}
    assert {(row["run"], row["seed"]) for row in rows} == {(run, seed) for run in runs for seed in (0, 1, 2)}
    assert {"all", "nothing", "linear", "no-dropout"} <= runs
    for row in rows:
        log = training.read_log(LOGS / "ablation" / f"{row['run']}-seed{row['seed']}.csv")
        best = max(log, key=lambda epoch: epoch.validation_accuracy)
        assert (row["epochs"], row["best_epoch"]) == (len(log), best.epoch)
        assert row["validation_accuracy"] == pytest.approx(best.validation_accuracy, abs=1e-4)
        assert 0 < row["test_accuracy"] < 1


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'cifar-10-100-epochs'"):
        results.read("cifar")
