"""The doctor finds what is missing, too old or mismatched, and says what to do."""

import sys
from importlib import metadata

import pytest
import torch
import torchvision

from vitcourse import data, doctor
from vitcourse.data.command import table


def by_name(checks):
    return {check.name: check for check in checks}


def test_this_environment_is_healthy():
    checks = doctor.examine()
    assert all(check.ok for check in checks), doctor.as_text(checks)
    assert {"python", "torch", "einops", "torch + torchvision", "device"} <= set(by_name(checks))


def test_a_missing_package_is_named_with_the_way_out(monkeypatch):
    real = metadata.version

    def version(name):
        if name == "einops":
            raise metadata.PackageNotFoundError(name)
        return "2.5.1" if name == "torch" else real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    checks = by_name(doctor.examine())
    assert not checks["einops"].ok
    assert "missing" in checks["einops"].found
    assert "einops" in checks["einops"].remedy
    assert not checks["torch"].ok
    assert "2.5.1, at least 2.6" in checks["torch"].found
    assert checks["numpy"].ok


def test_versions_compare_as_numbers():
    assert doctor._numbers("2.14.1+cpu") > doctor._numbers("2.6")
    assert doctor._numbers("0.29.1") > doctor._numbers("0.9")


def test_a_mismatched_pair_is_told(monkeypatch):
    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    check = by_name(doctor.examine())["torch + torchvision"]
    assert not check.ok
    assert check.found == "operator torchvision::nms does not exist"
    text = doctor.as_text([check])
    assert text.startswith("✗")
    assert "→ the two don't match" in text


@pytest.mark.parametrize(
    ("broken", "name"),
    [("vitcourse.VisionTransformer.forward", "VisionTransformer"), ("vitcourse.data.load", "training")],
)
def test_what_breaks_in_a_trial_is_a_line_of_the_report(monkeypatch, broken, name):
    def breaks(*_, **__):
        raise RuntimeError("no kernel image is available\nmore")

    monkeypatch.setattr(broken, breaks)
    check = by_name(doctor.examine())[name]
    assert not check.ok
    assert check.found == "no kernel image is available"
    assert "run `python course.py lab`" in check.remedy


def test_logits_that_are_no_numbers_are_told(monkeypatch):
    monkeypatch.setattr("vitcourse.VisionTransformer.forward", lambda *_: torch.full((2, 10), torch.nan))
    check = by_name(doctor.examine())["VisionTransformer"]
    assert not check.ok
    assert check.found == "its logits aren't finite"


def test_what_one_can_do_without_is_no_failure(monkeypatch, tmp_path):
    monkeypatch.setenv("VITCOURSE_DATA", str(tmp_path))
    check = by_name(doctor.extras())["cifar-10"]
    assert check.ok
    assert doctor.as_text([check]) == (
        "· cifar-10 not here\n  → if you want it: python -m vitcourse data fetch cifar-10"
    )


def test_the_doctor_and_the_list_of_sets_look_in_the_same_place(monkeypatch, tmp_path):
    places = {name: (lambda place: lambda: place)(tmp_path / name[:5]) for name in data.FINDERS}
    monkeypatch.setattr(data, "FINDERS", places)
    for name, find in places.items():
        assert by_name(doctor.extras())[name].found == str(find())
        assert f"yes, {find()} " in table()


def test_a_missing_checkpoint_is_named(monkeypatch):
    monkeypatch.setattr("vitcourse.checkpoints.NAMES", ("fashion-mnist", "lost"))
    check = by_name(doctor.examine())["checkpoints/lost/model.safetensors"]
    assert not check.ok
    assert "fetch it again" in check.remedy


def test_the_doctor_leaves_the_generators_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    doctor.examine()
    assert torch.equal(torch.rand(1), expected)


def test_in_colab_it_says_how_to_get_a_gpu_and_to_keep_runs(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert "drive" not in by_name(doctor.examine())
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    found = by_name(doctor.examine())
    assert found["device"].ok
    assert "T4 GPU" in found["device"].remedy
    monkeypatch.delenv("COLAB_RELEASE_TAG")
    assert "drive" not in by_name(doctor.examine())
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    found = by_name(doctor.examine())
    assert found["drive"].ok
    assert "drive.mount" in found["drive"].remedy
    monkeypatch.setattr("vitcourse.places.DRIVE", tmp_path)
    assert str(tmp_path) in by_name(doctor.examine())["drive"].found
