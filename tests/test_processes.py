"""Several processes train as one does, and one of them writes. The device is chosen or refused."""

import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from vitcourse import VisionTransformer
from vitcourse.training import choose_device, process_group, read_log, trainer
from vitcourse.training.experiment import Experiment
from vitcourse.training.processes import Processes, processes

TESTS = os.path.dirname(__file__)
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
batch_size = 857  # an odd number, and of 6,000 images the last batch has one
warmup_epochs = 0
flip = true
crop_padding = 2
rand_augment = 1
mixup = 0.2
label_smoothing = 0.1
"""

# Each scenario runs in two processes, forked from one that has imported everything, so that it takes no minute, and
# computed nothing, since a process that has may fork children that wait forever. A process leaves what the scenario
# returned, or its error.
TWO = """
import os, sys, traceback
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
import torch._dynamo  # the first step of an optimizer imports it
import torchvision.transforms.v2.functional
torch.set_num_threads(1)
import test_processes as t

def in_one(scenario, rank, out):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="test")
    try:
        with t.process_group(torch.device("cpu")) as ours:
            assert (ours.rank, ours.count) == (rank, 2)
            torch.save(scenario(out), out / f"{rank}.pt")
    except BaseException as error:
        (out / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}")

for name in ("one", *sys.argv[3:]):
    out, port, children = Path(sys.argv[2]) / name, t.free_port(), []
    out.mkdir(parents=True, exist_ok=True)
    for rank in range(1 if name == "one" else 2):
        pid = os.fork()
        if pid == 0:
            try:
                t.trains(out) if name == "one" else in_one(getattr(t, name), rank, out)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
"""
SCENARIOS = ("evaluates", "trains", "looks_late", "stops", "goes_on", "meets_nan_in_one_process")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which both processes of each scenario left what they found."""
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-c", TWO, TESTS, str(out), *SCENARIOS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    return out


def results(folder):
    assert not list(folder.glob("*.txt")), [path.read_text() for path in folder.glob("*.txt")]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def errors(folder):
    return [(folder / f"{rank}.txt").read_text() for rank in range(2)]


needs_fork = pytest.mark.skipif(
    not (hasattr(os, "fork") and torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs fork and gloo",
)


# ---- one process


def test_alone_it_is_the_only_process():
    assert processes() == Processes(0, 1)
    with process_group(torch.device("cpu")) as ours:
        assert ours == Processes(0, 1)
    model, tensor = nn.Linear(2, 3), torch.arange(3.0)
    assert Processes().joined(model) is model
    assert Processes().total(tensor).tolist() == [0, 1, 2]


# ---- torchrun


def test_torchrun_trains_as_one_process_does(tmp_path):
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "vitcourse", "train", str(config), "--out", str(tmp_path / "two"), "--device", "cpu"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    result = Experiment.read(config).run(tmp_path / "one", device="cpu")
    both = json.loads((tmp_path / "two" / "result.json").read_text())
    assert (result["processes"], both["processes"]) == (1, 2)
    for name in ("test_accuracy", "test_loss", "test_balanced_accuracy", "test_macro_f1", "validation_accuracy"):
        assert both[name] == pytest.approx(result[name], abs=2e-3)
    one, two = (read_log(tmp_path / name / "log.csv") for name in ("one", "two"))
    assert len(one) == len(two) == 2
    for mine, theirs in zip(one, two, strict=True):
        for name in ("learning_rate", "train_loss", "validation_loss"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), abs=1e-4)
        assert mine.train_accuracy == pytest.approx(theirs.train_accuracy, abs=1e-3)
    mine, theirs = (VisionTransformer.load(tmp_path / name / "best.safetensors") for name in ("one", "two"))
    for name, weight in mine.named_parameters():
        torch.testing.assert_close(weight, theirs.state_dict()[name], atol=1e-3, rtol=1e-2)
    log = (tmp_path / "two" / "train.log").read_text()
    assert len(re.findall("tiny on cpu, 2 processes", log)) == 1  # the first process alone writes
    assert len(re.findall(r"Epoch\(epoch=1", log)) == 1


# ---- two processes, in detail


def few():
    from vitcourse import data

    return data.load("fashion-mnist", "train").subset(slice(0, 41))


def config():
    from vitcourse.training import TrainingConfig

    settings = {"epochs": 2, "batch_size": 10, "mixup": 0.3, "flip": True, "warmup_epochs": 0.5, "learning_rate": 3e-3}
    return TrainingConfig(**settings)


def small_model():
    from vitcourse import ViTConfig
    from vitcourse.training import set_seed

    set_seed(0)
    model = VisionTransformer(ViTConfig(num_channels=1, patch_size=16, num_hidden_layers=1, initializer_range=0.08))
    return model


def described(model, log):
    return {
        "log": [[row.train_loss, row.train_accuracy, row.validation_loss, row.validation_accuracy] for row in log],
        "weights": model.state_dict(),
    }


def evaluates(out):
    from vitcourse.training import evaluate

    both = [evaluate(small_model(), few().subset(slice(0, count)), batch_size=8) for count in (41, 1)]
    return [{"loss": each.loss, "accuracy": each.accuracy, "probabilities": each.probabilities} for each in both]


@needs_fork
def test_each_process_gets_the_whole_evaluation(two):
    """Also where there is one image for two."""
    whole = evaluates(None)
    for result in results(two / "evaluates"):
        for mine, expected in zip(result, whole, strict=True):
            assert mine["accuracy"] == expected["accuracy"]
            assert mine["loss"] == pytest.approx(expected["loss"], rel=1e-5)
            torch.testing.assert_close(mine["probabilities"], expected["probabilities"])


def trains(out):
    from vitcourse.training import fit

    model = small_model()
    return described(model, fit(model, few(), few(), config(), folder=out / "run", save_minutes=0, progress=False))


def looks_late(out):
    """Rank 1 looks whether the folder holds a run a while after rank 0."""
    module = sys.modules["vitcourse.training.fit"]
    look = module.refuse_to_overwrite

    def late(folder):
        time.sleep(processes().rank)
        look(folder)

    module.refuse_to_overwrite = late
    return trains(out)


def stops(out):
    """Rank 0 stops after a save; rank 1 finds itself alone and stops too."""
    saves, save = [], trainer.save_checkpoint

    def stopping(*arguments):
        save(*arguments)
        saves.append(1)
        if len(saves) == 4:
            raise KeyboardInterrupt

    trainer.save_checkpoint = stopping
    return trains(out)


def goes_on(out):
    from vitcourse.training import fit

    model, folder = small_model(), out.parent / "stops" / "run"
    return described(model, fit(model, few(), few(), config(), folder=folder, resume=True, progress=False))


@needs_fork
def test_two_processes_train_as_one_does(two):
    first, second = results(two / "trains")
    assert first["log"] == second["log"]
    assert all(torch.equal(first["weights"][name], weight) for name, weight in second["weights"].items())
    alone = read_log(two / "one" / "run" / "log.csv")
    for mine, row in zip(first["log"], alone, strict=True):
        expected = [row.train_loss, row.train_accuracy, row.validation_loss, row.validation_accuracy]
        assert mine == pytest.approx(expected, abs=1e-4)


@needs_fork
def test_a_late_process_does_not_take_the_others_run_for_an_old_one(two):
    assert [len(result["log"]) for result in results(two / "looks_late")] == [2, 2]


@needs_fork
def test_two_processes_stopped_within_an_epoch_go_on_and_end_alike(two):
    """Losses and right answers before the stop count for both, and nobody waits for who is gone."""
    assert errors(two / "stops")[0].startswith("KeyboardInterrupt")
    assert not (two / "stops" / "0.pt").exists()
    for mine, theirs in zip(results(two / "goes_on"), results(two / "trains"), strict=True):
        assert mine["log"] == theirs["log"]
        for name, weight in theirs["weights"].items():
            assert torch.equal(mine["weights"][name], weight), name


def meets_nan_in_one_process(out):
    from vitcourse.training import fit

    model = small_model()
    forward, calls = model.forward, []

    def broken(images):
        calls.append(model.training)
        late = sum(calls) == 3 and processes().rank == 1
        return forward(images) * (torch.nan if late else 1)

    model.forward = broken
    return fit(model, few(), few(), config(), progress=False)


@needs_fork
def test_nan_in_one_process_stops_all_with_the_same_sentence(two):
    sentence = "FloatingPointError: The loss became nan in epoch 1, step 3."
    assert [error.startswith(sentence) for error in errors(two / "meets_nan_in_one_process")] == [True, True]


# ---- devices


def test_the_cpu_can_be_chosen():
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_here_is_refused_in_one_sentence(name):
    with pytest.raises(ValueError, match=f"^device {name!r} can't be used here") as error:
        choose_device(name)
    assert "\n" not in str(error.value)


def test_without_a_name_the_best_device_here_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")


def test_under_torchrun_each_process_has_its_own_gpu(monkeypatch):
    asked = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *_, device: asked.append(device))
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    for name, index in ((None, 3), ("cuda", 3), ("cuda:1", 1)):
        assert choose_device(name) == torch.device("cuda", index)
    assert asked == [torch.device("cuda", index) for index in (3, 3, 3, 3, 1, 1)]
    assert choose_device("cpu") == torch.device("cpu")
