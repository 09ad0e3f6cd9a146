"""The command line: it does what it says, and one sentence tells what went wrong."""

import json

import pytest

from vitcourse import VisionTransformer
from vitcourse.__main__ import main

CONFIG = """
[data]
name = "fashion-mnist"
[model]
num_channels = 1
patch_size = 16
num_hidden_layers = 1
[training]
epochs = 1
batch_size = 500
"""


def test_train_writes_model_log_and_result(tmp_path, capsys):
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    assert main(["train", str(config), "--out", str(tmp_path / "out")]) == 0
    assert {"best.safetensors", "log.csv", "result.json", "train.log"} == {p.name for p in (tmp_path / "out").iterdir()}
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["parameters"] == VisionTransformer.load(tmp_path / "out" / "best.safetensors").config.num_parameters()
    assert 0 <= result["test_accuracy"] <= 1
    assert result["test_images"] == 1000
    assert "Test accuracy" in capsys.readouterr().out


def test_an_earlier_run_is_never_overwritten(tmp_path, capsys):
    config, out = tmp_path / "tiny.toml", tmp_path / "out"
    config.write_text(CONFIG)
    out.mkdir()
    (out / "log.csv").write_text("mine")
    assert main(["train", str(config), "--out", str(out)]) == 1
    assert "already holds a run; choose another --out" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["log.csv"]
    assert (out / "log.csv").read_text() == "mine"


def test_each_run_logs_to_its_own_file(tmp_path):
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    for name in ("first", "second"):
        assert main(["train", str(config), "--out", str(tmp_path / name)]) == 0
    assert len((tmp_path / "first" / "train.log").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data", "is not valid TOML"),
        ("[data]\nname = 'fashion-mnist'", "lacks the section [model], [training]"),
        (CONFIG + "epoch = 3", "Unknown field 'epoch'"),
        (CONFIG.replace("num_channels", "num_chanels"), "Unknown field 'num_chanels'"),
        (CONFIG.replace("patch_size = 16", "patch_size = 5"), "patch_size 5"),
        (CONFIG.replace('"fashion-mnist"', '"mnist"'), "got 'mnist'"),
        (CONFIG.replace("num_channels = 1", "num_channels = 3"), "images must have"),
    ],
)
def test_a_bad_config_is_one_sentence(tmp_path, capsys, text, message):
    config = tmp_path / "bad.toml"
    config.write_text(text)
    assert main(["train", str(config), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert "Traceback" not in error


def test_a_missing_config_is_one_sentence(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none.toml")]) == 1
    assert "none.toml' is not a file" in capsys.readouterr().err


def test_doctor_reports_and_succeeds(capsys):
    assert main(["doctor"]) == 0
    assert "✓ torch" in capsys.readouterr().out
