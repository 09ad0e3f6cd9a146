"""The command line: it does what it says, and one sentence tells what went wrong."""

import json
import sys

import pytest
import torch

from vitcourse import VisionTransformer, data
from vitcourse.__main__ import main
from vitcourse.training import trainer

CONFIG = """
[data]
name = "fashion-mnist"
[model]
num_channels = 1
patch_size = 16
num_hidden_layers = 1
[training]
epochs = 1
batch_size = 30
"""


@pytest.fixture(autouse=True)
def few(monkeypatch, tmp_path):
    """60 images of each split instead of thousands, and a folder of one's own."""
    real = data.load
    monkeypatch.setattr(data, "load", lambda *args, **options: real(*args, **options).subset(slice(0, 60)))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tiny.toml").write_text(CONFIG)
    return str(tmp_path / "tiny.toml")


def seed_of(folder):
    return torch.load(folder / "last.pt", weights_only=True)["identity"]["seed"]


def one_sentence(capsys):
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "Traceback" not in error
    return error


# ---- train


def test_train_writes_model_log_and_result(config, tmp_path, capsys):
    assert main(["train", config, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert {"best.safetensors", "last.pt", "log.csv", "result.json", "train.log"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["parameters"] == VisionTransformer.load(tmp_path / "out" / "best.safetensors").config.num_parameters()
    assert capsys.readouterr().out.startswith(f"Test accuracy {result['test_accuracy']:.2%} after 0.0 minutes; all in ")


def test_without_out_a_run_has_its_name_and_its_seed(config, tmp_path):
    assert main(["train", config, "--device", "cpu"]) == 0
    assert main(["train", config, "--device", "cpu", "--seed", "3"]) == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"tiny", "tiny-seed3"}
    assert (seed_of(tmp_path / "runs" / "tiny"), seed_of(tmp_path / "runs" / "tiny-seed3")) == (0, 3)


def test_settings_on_the_command_line_replace_those_of_the_file(config, tmp_path):
    changes = ["--set", "training.epochs=2", "--set", "model.pooling=mean", "--set", "training.flip=true"]
    assert main(["train", config, "--out", "out", "--device", "cpu", *changes]) == 0
    identity = torch.load(tmp_path / "out" / "last.pt", weights_only=True)["identity"]
    assert (identity["epochs"], identity["pooling"], identity["flip"]) == (2, "mean", True)


def test_a_finished_run_is_refused_and_with_resume_it_is_done_at_once(config, tmp_path, capsys):
    command = ["train", config, "--out", "out", "--device", "cpu"]
    assert main(command) == 0
    first = (tmp_path / "out" / "log.csv").read_bytes()
    capsys.readouterr()
    assert main(command) == 1
    assert (
        "already holds a run: go on with it (--resume, or resume=True), choose another folder (--out)"
        in one_sentence(capsys)
    )
    assert main([*command, "--resume"]) == 0
    assert (tmp_path / "out" / "log.csv").read_bytes() == first


def test_ctrl_c_is_no_traceback_and_resume_goes_on(config, tmp_path, capsys, monkeypatch):
    save = trainer.save_checkpoint

    def stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    command = ["train", config, "--out", "out", "--device", "cpu", "--set", "training.epochs=2"]
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", stop)
        assert main(command) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "Interrupted."
    assert main([*command, "--resume"]) == 0
    assert len((tmp_path / "out" / "log.csv").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "out" / "result.json").read_text())["epochs"] == 2


def test_going_on_with_other_settings_is_one_sentence(config, capsys):
    assert main(["train", config, "--out", "out", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["train", config, "--out", "out", "--device", "cpu", "--resume", "--seed", "5"]) == 1
    assert "is a checkpoint of another run: seed was 0 and is 5" in one_sentence(capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data", "is not valid TOML"),
        ("[data]\nname = 'fashion-mnist'", "lacks the section [model], [training]"),
        (CONFIG + "epoch = 3", "Unknown field 'epoch'"),
        ("speed = 1" + CONFIG, "has no use for 'speed'"),
        ("start = 1" + CONFIG, "start must be the path of a checkpoint, got 1"),
        ("start = 'none.safetensors'" + CONFIG, "none.safetensors' is not a file"),
        (CONFIG.replace("num_channels", "num_chanels"), "Unknown field 'num_chanels'"),
        (CONFIG.replace("patch_size = 16", "patch_size = 5"), "patch_size 5"),
        (CONFIG.replace("name =", "complete ="), "names no data set"),
        (CONFIG.replace('"fashion-mnist"', '"mnist"'), "got 'mnist'"),
        (CONFIG.replace('"fashion-mnist"', '"fashion-mnist"\nlevel = 6'), "has no option 'level'"),
        (CONFIG.replace("num_channels = 1", "num_channels = 3"), "images must have"),
        (CONFIG + "learning_rate = 1e30\nclip_norm = 1e30\nwarmup_epochs = 0", "The loss became "),
    ],
)
def test_a_bad_config_is_one_sentence(tmp_path, capsys, text, message):
    (tmp_path / "bad.toml").write_text(text)
    assert main(["train", str(tmp_path / "bad.toml"), "--out", "out", "--device", "cpu"]) == 1
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "gpu"], "device 'gpu' can't be used here"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--set", "training.epochs"], "--set takes NAME=VALUE, for example training.epochs=5, got 'training.epochs'"),
        (["--set", "epochs.training=5"], "'epochs.training' is no setting"),
        (["--set", "training.epoch=5"], "Unknown field 'epoch'"),
        (["--set", "training.epochs=many"], "epochs must be a whole number, got 'many'"),
        (["--data", "nowhere", "--set", "data.complete=true"], "'nowhere' holds no complete Fashion-MNIST"),
    ],
)
def test_a_bad_option_is_one_sentence(config, tmp_path, capsys, options, message):
    assert main(["train", config, "--out", "out", *options]) == 1
    assert message in one_sentence(capsys)
    assert not (tmp_path / "out").exists()


def test_mlflow_that_is_not_there_is_one_sentence(config, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(["train", config, "--out", "out", "--device", "cpu", "--mlflow"]) == 1
    assert "MLflow isn't installed: `pip install mlflow`, or leave out --mlflow." in one_sentence(capsys)


def test_a_missing_config_is_one_sentence(capsys):
    assert main(["train", "none.toml"]) == 1
    assert "none.toml' is not a file" in one_sentence(capsys)


# ---- the others


def test_no_command_is_refused_with_the_usage(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "usage: python -m vitcourse" in capsys.readouterr().err


def test_doctor_reports_and_succeeds(capsys):
    assert main(["doctor"]) == 0
    assert "✓ torch" in capsys.readouterr().out
