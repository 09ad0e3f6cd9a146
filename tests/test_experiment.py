"""A configuration file becomes a run: what it says, where it starts, what it writes, and what MLflow is told."""

import json
import logging
import platform
import re
import sys
from contextlib import contextmanager
from dataclasses import asdict
from types import ModuleType

import pytest
import torch

from vitcourse import VisionTransformer, ViTConfig, data
from vitcourse.training import TrainingConfig, evaluate, read_log, trainer
from vitcourse.training.experiment import Experiment

CONFIG = """
[data]
name = "fashion-mnist"
[model]
num_channels = 1
patch_size = 16
num_hidden_layers = 1
initializer_range = 0.08
[training]
epochs = 2
batch_size = 30
seed = 4
"""
SMALL = ViTConfig(num_channels=1, patch_size=16, num_hidden_layers=1, initializer_range=0.08)
fit_module = sys.modules["vitcourse.training.fit"]  # the name in the package is the function


@pytest.fixture
def written(tmp_path):
    """Write a configuration file and give its path."""

    def write(text=CONFIG, name="tiny"):
        (tmp_path / f"{name}.toml").write_text(text)
        return tmp_path / f"{name}.toml"

    return write


@pytest.fixture
def few(monkeypatch):
    """60 images of each split instead of thousands; the options are still checked."""
    real = data.load
    monkeypatch.setattr(data, "load", lambda *args, **options: real(*args, **options).subset(slice(0, 60)))


# ---- reading


def test_a_file_is_read(written):
    experiment = Experiment.read(written(CONFIG.replace("[data]", "[data]\ncomplete = true"), "my-run"))
    assert experiment.name == "my-run"
    assert experiment.data == {"name": "fashion-mnist", "complete": True}
    assert experiment.model == SMALL
    assert experiment.training == TrainingConfig(epochs=2, batch_size=30, seed=4)
    assert experiment.start is None


def test_settings_can_be_put_in_place_of_the_files(written):
    changes = {"training.seed": 7, "model.hidden_size": 24, "data.complete": True, "start": "runs/{seed}/{x}.pt"}
    experiment = Experiment.read(written(), changes)
    assert experiment.training == TrainingConfig(epochs=2, batch_size=30, seed=7)
    assert experiment.model == SMALL.replace(hidden_size=24)
    assert experiment.data == {"name": "fashion-mnist", "complete": True}
    assert experiment.start == "runs/7/{x}.pt"
    assert Experiment.read(written('start = "a.safetensors"' + CONFIG), {"start": ""}).start is None


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[data", ValueError, r"config '.*' is not valid TOML: .+\.$"),
        ("[data]\nname = 'fashion-mnist'", ValueError, r"config '.*' lacks the section \[model\], \[training\]\.$"),
        ("data = 3\nmodel = 4\ntraining = 5", ValueError, r"lacks the section \[data\], \[model\], \[training\]"),
        ("speed = 3" + CONFIG, ValueError, "config '.*' has no use for 'speed'"),
        (CONFIG + "[extra]\na = 1", ValueError, "config '.*' has no use for 'extra'"),
        (CONFIG.replace("name", "# name"), ValueError, r"names no data set: \[data\] needs name = one of .*'fashion-m"),
        (CONFIG + "epoch = 3", ValueError, r"^Unknown field 'epoch'\. Known fields: epochs"),
        (CONFIG.replace("num_channels", "num_chanels"), ValueError, "^Unknown field 'num_chanels'"),
        (CONFIG.replace("patch_size = 16", "patch_size = 5"), ValueError, "patch_size 5"),
        (CONFIG + "learning_rate = 'high'", TypeError, "^learning_rate must be a number, got 'high'"),
        ("start = 3" + CONFIG, TypeError, "config '.*': start must be the path of a checkpoint, got 3"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(written, text, error, message):
    with pytest.raises(error, match=message) as raised:
        Experiment.read(written(text))
    assert "\n" not in str(raised.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ValueError, match=r"x\.toml' is not valid TOML"):
        Experiment.read(tmp_path / "x.toml")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml' is not a file"):
        Experiment.read(tmp_path / "none.toml")


@pytest.mark.parametrize("key", ["a.b.c", "speed.epochs"])
def test_a_setting_that_is_none_is_refused(written, key):
    with pytest.raises(ValueError, match=f"^'{re.escape(key)}' is no setting"):
        Experiment.read(written(), {key: 1})


@pytest.mark.parametrize(
    ("replaced", "error", "message"),
    [
        ("name = 'mnist'", ValueError, "^name must be one of 'fashion-mnist', .*got 'mnist'"),
        ("name = 'fashion-mnist'\nlevel = 6", TypeError, "^'fashion-mnist' has no option 'level'; it takes complete, "),
    ],
)
def test_unknown_data_are_refused_in_one_sentence(written, tmp_path, replaced, error, message):
    experiment = Experiment.read(written(CONFIG.replace('name = "fashion-mnist"', replaced)))
    with pytest.raises(error, match=message):
        experiment.run(tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


# ---- the start


def started(written, path, **changes):
    return Experiment.read(written(), {"start": str(path), **changes}).make_model()


def test_a_new_model_follows_from_the_seed(written):
    first, again, other = (Experiment.read(written(), {"training.seed": seed}).make_model() for seed in (1, 1, 2))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_a_model_starts_from_a_checkpoint(written, tmp_path):
    saved = VisionTransformer(SMALL)
    saved.save(tmp_path / "start.safetensors")
    model = started(written, tmp_path / "start.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), saved.parameters(), strict=True))


def test_a_checkpoint_for_other_classes_gets_a_new_head_and_keeps_the_rest(written, tmp_path, caplog):
    saved = VisionTransformer(SMALL.replace(num_classes=82))
    saved.save(tmp_path / "start.safetensors")
    with caplog.at_level(logging.INFO, logger="vitcourse"):
        model = started(written, tmp_path / "start.safetensors")
    assert "new head: 10 classes instead of 82" in caplog.text
    new = Experiment.read(written()).make_model()
    for name, weight in model.state_dict().items():
        kept = new if name.startswith("head.") else saved
        assert torch.equal(weight, kept.state_dict()[name]), name
    assert model.training


def test_each_seed_has_its_own_start(written, tmp_path):
    for seed in (1, 2):
        torch.manual_seed(seed)
        VisionTransformer(SMALL).save(tmp_path / f"run-{seed}.safetensors")
    for seed in (1, 2):
        model = started(written, tmp_path / "run-{seed}.safetensors", **{"training.seed": seed})
        torch.manual_seed(seed)
        assert torch.equal(model.class_token, VisionTransformer(SMALL).class_token)


def test_a_start_that_does_not_fit_or_is_not_there_is_refused(written, tmp_path):
    VisionTransformer(SMALL.replace(hidden_size=24)).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"start '.*other\.safetensors' is a checkpoint of another.*hidden_size=24"):
        started(written, tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors' is not a file"):
        started(written, tmp_path / "none.safetensors")


def test_a_new_head_is_said_in_the_log_of_the_run(written, few, tmp_path):
    VisionTransformer(SMALL.replace(num_classes=82)).save(tmp_path / "start.safetensors")
    Experiment.read(written(), {"start": str(tmp_path / "start.safetensors")}).run(tmp_path / "out", device="cpu")
    assert "INFO new head: 10 classes instead of 82" in (tmp_path / "out" / "train.log").read_text()


# ---- the run


def test_a_run_writes_log_models_and_result(written, few, tmp_path):
    experiment, out = Experiment.read(written()), tmp_path / "deep" / "out"
    result = experiment.run(out, device="cpu")
    names = {"best.safetensors", "last.pt", "log.csv", "result.json", "train.log"}
    assert {path.name for path in out.iterdir()} == names
    assert json.loads((out / "result.json").read_text()) == result
    best, test = VisionTransformer.load(out / "best.safetensors"), data.load(split="test")
    judged, log = evaluate(best, test), read_log(out / "log.csv")
    assert result["test_accuracy"] == pytest.approx(judged.accuracy, abs=1e-6)
    assert result["test_loss"] == pytest.approx(judged.loss, abs=1e-6)
    assert result["test_balanced_accuracy"] == pytest.approx(judged.balanced_accuracy(), abs=1e-6)
    assert result["test_macro_f1"] == pytest.approx(judged.macro_f1(), abs=1e-6)
    assert result["test_calibration_error"] == pytest.approx(judged.calibration_error(), abs=1e-6)
    assert result["validation_accuracy"] == pytest.approx(max(row.validation_accuracy for row in log), abs=1e-6)
    assert log[result["best_epoch"] - 1].validation_accuracy == max(row.validation_accuracy for row in log)
    assert result["epochs"] == len(log) == 2
    assert result["images"] == {"train": 60, "validation": 60, "test": 60}
    assert result["parameters"] == SMALL.num_parameters()
    assert (result["device"], result["processes"], result["threads"]) == ("cpu", 1, torch.get_num_threads())
    assert result["machine"] == platform.machine()
    assert result["versions"]["torch"] == torch.__version__
    text = (out / "train.log").read_text()
    assert re.search(r"INFO tiny on cpu, 1 processes\n", text)
    assert len(re.findall(r"INFO Epoch\(epoch=\d", text)) == 2
    assert f"test accuracy {result['test_accuracy']:.4f}" in text


@pytest.mark.parametrize("name", ["log.csv", "last.pt", "result.json"])
def test_an_earlier_run_is_never_overwritten(written, few, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(FileExistsError, match=r"folder '.*out' already holds a run: go on with it \(--resume,"):
        Experiment.read(written()).run(out, device="cpu")
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "mine"


def interrupted(experiment, out, monkeypatch):
    """Stop it after the first epoch."""
    save = trainer.save_checkpoint

    def stop(*arguments):
        save(*arguments)
        if (out / "log.csv").exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            experiment.run(out, device="cpu")


def test_a_stopped_run_goes_on_to_the_same_result(written, few, tmp_path, monkeypatch):
    experiment = Experiment.read(written())
    whole = experiment.run(tmp_path / "whole", device="cpu")
    interrupted(experiment, tmp_path / "parts", monkeypatch)
    assert not (tmp_path / "parts" / "result.json").exists()
    assert "KeyboardInterrupt" in (tmp_path / "parts" / "train.log").read_text()
    with pytest.raises(FileExistsError):
        experiment.run(tmp_path / "parts", device="cpu")
    parts = experiment.run(tmp_path / "parts", device="cpu", resume=True)
    assert {**parts, "minutes": 0} == {**whole, "minutes": 0}
    best = [(tmp_path / name / "best.safetensors").read_bytes() for name in ("whole", "parts")]
    assert best[0] == best[1]
    text = (tmp_path / "parts" / "train.log").read_text()
    assert "goes on from epoch 2, step 1" in text
    assert experiment.run(tmp_path / "parts", device="cpu", resume=True)["test_loss"] == whole["test_loss"]


def test_a_failure_leaves_its_traceback_in_the_log_of_the_run(written, few, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "evaluate", lambda *_: {}["wanted"])
    with pytest.raises(KeyError):
        Experiment.read(written()).run(tmp_path / "out", device="cpu")
    text = (tmp_path / "out" / "train.log").read_text()
    assert "ERROR the run stopped\nTraceback (most recent call last):" in text
    assert "KeyError: 'wanted'" in text


def test_each_run_logs_to_its_own_file(written, few, tmp_path):
    before = list(logging.getLogger("vitcourse").handlers)
    for name in ("alpha", "beta"):
        Experiment.read(written(name=name)).run(tmp_path / name, device="cpu")
    assert "beta" not in (tmp_path / "alpha" / "train.log").read_text()
    assert "alpha" not in (tmp_path / "beta" / "train.log").read_text()
    assert logging.getLogger("vitcourse").handlers == before


# ---- MLflow


@pytest.fixture
def mlflow(monkeypatch):
    """A stand-in that writes down what it is told."""
    module, told = ModuleType("mlflow"), []

    @contextmanager
    def start_run(run_name=None):
        told.append(("start", run_name))
        yield
        told.append(("end", run_name))

    module.start_run = start_run
    module.log_params = lambda params: told.append(("params", params))
    module.log_metrics = lambda metrics, step: told.append(("metrics", step, metrics))
    module.log_artifact = lambda path: told.append(("artifact", path))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return told


def test_mlflow_is_told_settings_epochs_and_log(written, few, tmp_path, mlflow):
    Experiment.read(written()).run(tmp_path / "my-run", device="cpu", track=True)
    assert [entry[0] for entry in mlflow] == ["start", "params", "metrics", "metrics", "artifact", "end"]
    assert mlflow[0] == ("start", "my-run")
    params = mlflow[1][1]
    assert params["name"] == "tiny"
    assert params["data.name"] == "fashion-mnist"
    assert params["model.hidden_size"] == 48
    assert params["training.seed"] == 4
    assert not any(isinstance(value, dict) for value in params.values())
    for (_, step, metrics), row in zip(mlflow[2:4], read_log(tmp_path / "my-run" / "log.csv"), strict=True):
        assert step == row.epoch
        assert metrics == pytest.approx({key: value for key, value in asdict(row).items() if key != "epoch"}, rel=1e-5)
    assert mlflow[4] == ("artifact", str(tmp_path / "my-run" / "log.csv"))


def test_mlflow_is_told_nothing_unless_asked(written, few, tmp_path, mlflow):
    Experiment.read(written()).run(tmp_path / "out", device="cpu")
    assert mlflow == []


def test_without_mlflow_one_sentence_says_so(written, few, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ModuleNotFoundError, match=r"^MLflow isn't installed: `pip install mlflow`, or leave out --mlf"):
        Experiment.read(written()).run(tmp_path / "out", device="cpu", track=True)
