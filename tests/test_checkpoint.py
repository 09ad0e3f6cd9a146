"""A run that was stopped, in whatever way, goes on and ends as if it had never stopped."""

import contextlib
import errno
import os
import pickle
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vitcourse import VisionTransformer, ViTConfig, data
from vitcourse.convolutional import ConvolutionalNetwork
from vitcourse.training import TrainingConfig, fit, read_log, set_seed, trainer
from vitcourse.training.checkpoint import save_checkpoint

fit_module = sys.modules["vitcourse.training.fit"]  # the name in the package is the function
CONFIG = TrainingConfig(
    epochs=3, batch_size=20, learning_rate=3e-3, flip=True, crop_padding=2, rand_augment=1, mixup=0.3,
    label_smoothing=0.1,
)  # fmt: skip
STEPS, SAVES = 4, 1 + 4 * 3 + 3  # a save at the start, one before each step and one after each epoch


@pytest.fixture(scope="module")
def few():
    return data.load("fashion-mnist", "train").subset(slice(0, 64))


def small_model(**changes):
    set_seed(0)
    config = ViTConfig(
        num_channels=1, patch_size=16, num_hidden_layers=1, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
        initializer_range=0.08,
    )  # fmt: skip
    return VisionTransformer(config.replace(**changes))


def run(train, folder, config=CONFIG, **options):
    model = small_model()
    log = fit(model, train, train, config, folder=folder, **{"save_minutes": 0, "progress": False, **options})
    return model, log


def without_seconds(log):
    return [replace(row, seconds=0.0) for row in log]


def saved_state(folder):
    return torch.load(folder / "last.pt", weights_only=True)


@pytest.fixture(scope="module")
def uninterrupted(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model, log = run(few, folder, save_minutes=60)
    return model, log, folder


def test_a_stop_within_an_epoch_counts_the_statistics_of_batch_norm_once(few, tmp_path):
    def convolutional():
        set_seed(0)
        return ConvolutionalNetwork(1, 10, widths=(4, 4, 4))

    options = {"save_minutes": 0, "progress": False}
    whole, stopped = convolutional(), convolutional()
    fit(whole, few, few, CONFIG, folder=tmp_path / "whole", **options)
    updates = []

    def stop(*_):
        updates.append(1)
        if len(updates) == 6:
            raise KeyboardInterrupt

    handle = stopped.register_forward_pre_hook(lambda module, _: stop() if module.training else None)
    with contextlib.suppress(KeyboardInterrupt):
        fit(stopped, few, few, CONFIG, folder=tmp_path / "stopped", **options)
    handle.remove()
    again = convolutional()
    fit(again, few, few, CONFIG, folder=tmp_path / "stopped", resume=True, **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def assert_ends_alike(model, log, folder, uninterrupted):
    expected_model, expected_log, expected_folder = uninterrupted
    for (name, mine), theirs in zip(model.named_parameters(), expected_model.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    assert without_seconds(log) == without_seconds(expected_log)
    assert without_seconds(read_log(folder / "log.csv")) == without_seconds(read_log(expected_folder / "log.csv"))
    assert (folder / "best.safetensors").read_bytes() == (expected_folder / "best.safetensors").read_bytes()
    mine, theirs = (saved_state(place)["optimizer"] for place in (folder, expected_folder))
    assert mine["param_groups"] == theirs["param_groups"]
    for index, state in theirs["state"].items():
        assert all(torch.equal(tensor, mine["state"][index][name]) for name, tensor in state.items())
    assert not list(folder.glob(".*"))


class Stopped(Exception):
    pass


def stop_at_save(monkeypatch, number, before=False, error=Stopped):
    """Raise right after the `number`-th save, or right before it."""
    saves = []

    def save(*arguments):
        saves.append(1)
        if len(saves) == number and before:
            raise error
        save_checkpoint(*arguments)
        if len(saves) == number:
            raise error

    monkeypatch.setattr(trainer, "save_checkpoint", save)
    return saves


# ---- stopped and gone on with


def test_saving_changes_nothing(few, tmp_path, uninterrupted, monkeypatch):
    saves = stop_at_save(monkeypatch, None)
    assert_ends_alike(*run(few, tmp_path), tmp_path, uninterrupted)
    assert len(saves) == SAVES


@pytest.mark.parametrize("number", range(1, SAVES + 1))
def test_a_run_stopped_after_any_save_ends_alike(few, tmp_path, uninterrupted, monkeypatch, number):
    stop_at_save(monkeypatch, number)
    with pytest.raises(Stopped):
        run(few, tmp_path)
    monkeypatch.undo()
    assert_ends_alike(*run(few, tmp_path, resume=True), tmp_path, uninterrupted)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_stopped_between_the_log_and_the_save_of_an_epoch_ends_alike(
    few, tmp_path, uninterrupted, monkeypatch, epoch
):
    stop_at_save(monkeypatch, 1 + epoch * (STEPS + 1), before=True)
    with pytest.raises(Stopped):
        run(few, tmp_path)
    monkeypatch.undo()
    assert len(read_log(tmp_path / "log.csv")) == epoch
    assert_ends_alike(*run(few, tmp_path, resume=True), tmp_path, uninterrupted)


def test_a_run_stopped_again_and_again_by_ctrl_c_ends_alike(few, tmp_path, uninterrupted, monkeypatch):
    """The saves of a run that goes on are counted anew: before the first step it saves what it has just read."""
    stops = 0
    while True:
        with monkeypatch.context() as patch:
            stop_at_save(patch, 3, error=KeyboardInterrupt)
            try:
                result = run(few, tmp_path, resume=True)
                break
            except KeyboardInterrupt:
                stops += 1
    assert stops >= 5
    assert_ends_alike(*result, tmp_path, uninterrupted)


def test_a_run_stopped_within_a_step_ends_alike(few, tmp_path, uninterrupted):
    class Stopping(VisionTransformer):
        calls = 0

        def forward(self, images):
            Stopping.calls += 1
            if Stopping.calls == 9:  # the second step of the second epoch, and one pass before all
                raise KeyboardInterrupt
            return super().forward(images)

    config = small_model().config
    set_seed(0)
    with pytest.raises(KeyboardInterrupt):
        fit(Stopping(config), few, few, CONFIG, folder=tmp_path, save_minutes=0, progress=False)
    assert_ends_alike(*run(few, tmp_path, resume=True), tmp_path, uninterrupted)


def test_a_run_goes_on_with_other_random_numbers_around(few, tmp_path, uninterrupted, monkeypatch):
    stop_at_save(monkeypatch, 7)
    with pytest.raises(Stopped):
        run(few, tmp_path)
    monkeypatch.undo()
    model = small_model(initializer_range=0.08)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7.0)  # the weights come from the file alone
    torch.manual_seed(123)
    log = fit(model, few, few, CONFIG, folder=tmp_path, resume=True, progress=False)
    assert_ends_alike(model, log, tmp_path, uninterrupted)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_short_precision_goes_on_alike(few, tmp_path, monkeypatch, precision):
    config = replace(CONFIG, precision=precision)
    expected = (*run(few, tmp_path / "whole", config), tmp_path / "whole")
    stop_at_save(monkeypatch, 9)
    with pytest.raises(Stopped):
        run(few, tmp_path / "parts", config)
    monkeypatch.undo()
    assert_ends_alike(*run(few, tmp_path / "parts", config, resume=True), tmp_path / "parts", expected)
    scales = [saved_state(tmp_path / name)["scaler"] for name in ("whole", "parts")]
    assert scales[0] == scales[1]
    assert bool(scales[0]) == (precision == "float16")


def test_a_model_that_is_no_vision_transformer_goes_on_too(few, tmp_path, monkeypatch):
    def linear():
        set_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))

    whole = linear()
    fit(whole, few, few, CONFIG, progress=False)
    stop_at_save(monkeypatch, 7)
    with pytest.raises(Stopped):
        fit(linear(), few, few, CONFIG, folder=tmp_path, save_minutes=0, progress=False)
    monkeypatch.undo()
    parts = linear()
    fit(parts, few, few, CONFIG, folder=tmp_path, resume=True, progress=False)
    assert torch.equal(whole[1].weight, parts[1].weight)


def test_settings_from_numpy_go_on_too(few, tmp_path, monkeypatch):
    """They are saved as Python's numbers: no others may be read back."""
    config = replace(CONFIG, epochs=np.int64(2), learning_rate=np.logspace(-3, -2, 3)[1])
    stop_at_save(monkeypatch, 3)
    with pytest.raises(Stopped):
        run(few, tmp_path, config)
    monkeypatch.undo()
    assert len(run(few, tmp_path, config, resume=True)[1]) == 2


# ---- nothing to do, or nothing to go on with


def test_a_finished_run_returns_its_log_and_trains_nothing(few, tmp_path, uninterrupted, monkeypatch):
    run(few, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(trainer, "batches", lambda *_, **__: pytest.fail("it trains"))
    monkeypatch.setattr(fit_module, "evaluate", lambda *_, **__: pytest.fail("it evaluates"))
    model, log = run(few, tmp_path, resume=True)
    assert without_seconds(log) == without_seconds(uninterrupted[1])
    assert torch.equal(model.head.weight, uninterrupted[0].head.weight)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_ran_out_of_patience_stays_stopped(few, tmp_path):
    config = replace(CONFIG, epochs=30, patience=1, learning_rate=1e-9)
    _, log = run(few, tmp_path, config)
    assert len(log) == 2  # nothing is learned
    assert len(run(few, tmp_path, config, resume=True)[1]) == 2


def test_without_a_checkpoint_it_starts_anew(few, tmp_path, uninterrupted):
    assert_ends_alike(*run(few, tmp_path, resume=True), tmp_path, uninterrupted)


@pytest.mark.parametrize("name", ["last.pt", "best.safetensors", "log.csv", "result.json"])
def test_without_resume_an_earlier_run_is_not_overwritten(few, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=r"already holds a run: go on with it \(--resume, or resume=True\)"):
        run(few, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["best.safetensors", "log.csv"])
def test_a_run_that_lost_its_checkpoint_is_not_overwritten(few, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileNotFoundError, match=r"last.pt' is not a file: there is no run to go on with"):
        run(few, tmp_path, resume=True)
    assert (tmp_path / name).read_text() == "mine"


def test_leftovers_of_a_killed_run_are_swept_and_others_are_not(few, tmp_path, uninterrupted):
    mine = [".last.pt.x7_a.part", ".best.safetensors.q.part", ".log.csv.z.part"]
    others = ["last.pt.part", ".marks.csv.x.part", ".last.pt.x.old", "x.last.pt.y.part"]
    for name in mine + others:
        (tmp_path / name).write_text("half of it")
    run(few, tmp_path, resume=True)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.safetensors", "log.csv", *others}


# ---- a checkpoint of another run


@pytest.mark.parametrize(
    ("model", "training", "message"),
    [
        ({"hidden_size": 24, "intermediate_size": 96}, {}, "hidden_size was 48 and is 24; intermediate_size was 192"),
        ({"pooling": "mean"}, {}, "pooling was 'cls' and is 'mean'"),
        ({}, {"learning_rate": 0.5}, "learning_rate was 0.003 and is 0.5"),
        ({}, {"epochs": 4}, "epochs was 3 and is 4"),
        ({}, {"clip_norm": None}, "clip_norm was 1.0 and is None"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_with_both_values(few, uninterrupted, model, training, message):
    folder = uninterrupted[2]
    with pytest.raises(ValueError, match=f"^path .*last.pt' is a checkpoint of another run: {message}") as error:
        fit(small_model(**model), few, few, replace(CONFIG, **training), folder=folder, resume=True, progress=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["images", "labels", "name"])
def test_a_checkpoint_of_other_data_is_refused(few, uninterrupted, change):
    other = {
        "images": few.subset(slice(0, 60)),
        "labels": replace(few, labels=few.labels.flip(0)),
        "name": replace(few, name="another"),
    }[change]
    message = r"another run: data was 'fashion-mnist, 64 images, labels \w{8}' and is '\w+[-\w]*, \d+ images"
    with pytest.raises(ValueError, match=message):
        fit(small_model(), other, few, CONFIG, folder=uninterrupted[2], resume=True, progress=False)


def test_a_model_of_another_kind_is_refused(few, uninterrupted):
    model = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    with pytest.raises(ValueError, match=r"another run: .*model was None and is 'Sequential'"):
        fit(model, few, few, CONFIG, folder=uninterrupted[2], resume=True, progress=False)


def test_a_model_of_the_same_kind_and_other_sizes_is_refused_in_one_sentence(few, tmp_path):
    """Its identity is its class alone, so that only the weights tell."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    fit(linear, few, few, CONFIG, folder=tmp_path, progress=False)
    deeper = nn.Sequential(nn.Flatten(), nn.Linear(1024, 12), nn.Linear(12, 10))
    with pytest.raises(ValueError, match=r"last.pt' is a checkpoint of another model: .*2\.weight") as error:
        fit(deeper, few, few, CONFIG, folder=tmp_path, resume=True, progress=False)
    assert "\n" not in str(error.value)


class Evil:
    def __reduce__(self):
        return (os.system, ("touch evil",))


def foreign(path, kind):
    whole = path.read_bytes()
    if kind.startswith("first"):
        path.write_bytes(whole[: int(len(whole) * float(kind.split()[1]))])
    elif kind == "text":
        path.write_text("epoch,loss\n1,2.3\n")
    elif kind == "directory entry overwritten":
        path.write_bytes(whole[:-40] + bytes(40))
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "weights":
        torch.save(nn.Linear(2, 3).state_dict(), path)
    elif kind == "other identity":
        torch.save({"identity": [1, 2], "model": {}}, path)
    elif kind == "lacks a part":
        torch.save({"identity": torch.load(path, weights_only=True)["identity"]}, path)
    elif kind == "code":
        torch.save({"identity": Evil()}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"identity": Evil()}))


KINDS = [
    "first 0", "first 0.001", "first 0.3", "first 0.97", "first 0.999", "text", "directory entry overwritten", "list",
    "tensor", "weights", "other identity", "lacks a part", "code", "pickle",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about what it finds there
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_or_foreign_checkpoint_is_refused_in_one_sentence(few, tmp_path, uninterrupted, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.pt"
    path.write_bytes((uninterrupted[2] / "last.pt").read_bytes())
    foreign(path, kind)
    before = path.read_bytes()
    message = f"^path {re.escape(repr(str(path)))} is damaged or no checkpoint of a run"
    with pytest.raises(ValueError, match=message) as error:
        run(few, tmp_path, resume=True)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    assert not (tmp_path / "evil").exists()


def test_a_folder_in_place_of_the_checkpoint_is_refused(few, tmp_path):
    (tmp_path / "last.pt").mkdir()
    with pytest.raises(FileNotFoundError, match=r"last\.pt' is not a file"):
        run(few, tmp_path, resume=True)


# ---- a full disk


@contextmanager
def files_at_most(size):
    """No file grows beyond `size` bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_older_checkpoint_whole(few, tmp_path, uninterrupted, monkeypatch):
    stop_at_save(monkeypatch, 7)
    with pytest.raises(Stopped):
        run(few, tmp_path)
    monkeypatch.undo()
    before = (tmp_path / "last.pt").read_bytes()
    with files_at_most(len(before) - 1000), pytest.raises(OSError, match=r"^path .*last\.pt' can't be written .*large"):
        run(few, tmp_path, resume=True)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert_ends_alike(*run(few, tmp_path, resume=True), tmp_path, uninterrupted)


def test_a_full_disk_leaves_the_older_best_model_whole(few, tmp_path, monkeypatch):
    """The second epoch is better, but its model finds no room."""
    from vitcourse.training import Evaluation

    nothing, accuracies = torch.zeros(0), [0.1, 0.9, 0.9, 0.9]
    monkeypatch.setattr(fit_module, "evaluate", lambda *_: Evaluation(1.0, accuracies.pop(0), *[nothing] * 3))
    size = {}

    def fill_up(row):
        size.update({path.name: path.read_bytes() for path in tmp_path.iterdir()})
        raise Stopped

    with pytest.raises(Stopped):
        run(few, tmp_path, on_epoch=fill_up, save_minutes=60)
    with (
        files_at_most(len(size["best.safetensors"]) - 1000),
        pytest.raises(OSError, match=r"^path .*best\.safetensors' can't be written .*large"),
    ):
        run(few, tmp_path, resume=True, save_minutes=60)
    assert (tmp_path / "best.safetensors").read_bytes() == size["best.safetensors"]
    assert (tmp_path / "last.pt").read_bytes() == size["last.pt"]
    VisionTransformer.load(tmp_path / "best.safetensors")
    assert not list(tmp_path.glob(".*"))
    _, log = run(few, tmp_path, resume=True)
    assert [row.validation_accuracy for row in log] == [0.1, 0.9, 0.9]


def test_no_space_left_is_said_with_the_path(few, tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"^path '.*last\.pt' can't be written \(.*No space left on device\)"):
        run(few, tmp_path)
    assert not list(tmp_path.iterdir())


# ---- killed

# Children are forked from one process that has imported everything. A child writes its checkpoint in parts with pauses
# and says when it is in the middle of one; it is killed there, or at a random moment.
KILLING = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
import test_checkpoint as t
from vitcourse import VisionTransformer, data
from vitcourse.training import read_log

out = Path(sys.argv[1])
few = data.load("fashion-mnist", "train").subset(slice(0, 64))
whole, log = t.run(few, out.parent / "whole")
chance = random.Random(int(sys.argv[3]))

def slow(self, content):
    with self.open("wb") as file:
        for part in range(0, len(content), len(content) // 3):
            file.write(content[part : part + len(content) // 3])
            file.flush()
            os.write(writing, b"x")
            time.sleep(0.002)
    return len(content)

def child():
    Path.write_bytes = slow
    t.run(few, out, resume=True)
    os._exit(0)

kills = halves = 0
while True:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(1)
    os.close(writing)
    if kills < 9:
        for _ in range(chance.randint(1, 13)):  # parts of a checkpoint, three and a rest each
            os.read(reading, 1)
        time.sleep(chance.choice([0, 0, chance.uniform(0, 0.03)]))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(reading)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, status
        break
    kills += 1
    left = list(out.glob(".last.pt.*.part")) if out.exists() else []
    halves += bool(left)
    assert len(left) <= 1, left
    if (out / "last.pt").exists():
        torch.load(out / "last.pt", weights_only=True)
    if (out / "log.csv").exists():
        read_log(out / "log.csv")
    if (out / "best.safetensors").exists():
        VisionTransformer.load(out / "best.safetensors")
end, end_log = t.run(few, out, resume=True)
t.assert_ends_alike(end, end_log, out, (whole, log, out.parent / "whole"))
print(kills, halves)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_any_moment_again_and_again_ends_alike(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", KILLING, str(tmp_path / "out"), os.path.dirname(__file__), "1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    kills, halves = map(int, done.stdout.split())
    assert kills >= 5
    assert halves >= 2  # killed while a checkpoint was being written
