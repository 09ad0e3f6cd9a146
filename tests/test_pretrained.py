"""Public models: taken through the importers, and replaced by a checkpoint when they can't be had. No network."""

import builtins

import pytest
import torch

from vitcourse import checkpoints, pretrained

timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")


def small_timm(**changes):
    return timm.models.VisionTransformer(
        img_size=24, patch_size=8, depth=1, num_heads=3, embed_dim=36, num_classes=5, **changes
    )


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_offline_is_the_checkpoint_and_says_so():
    model, said = pretrained.load("timm/vit_tiny_patch16_224", online=False, otherwise="poses-20")
    assert same(model, checkpoints.load("poses-20"))
    assert said == "The course's checkpoint poses-20, because online is False."


def test_a_model_of_timm(monkeypatch):
    asked, theirs = [], small_timm()
    monkeypatch.setattr(timm, "create_model", lambda name, **options: asked.append((name, options)) or theirs)
    model, said = pretrained.load("timm/vit_tiny_patch16_224.augreg")
    assert asked == [("vit_tiny_patch16_224.augreg", {"pretrained": True})]
    images = torch.randn(2, 3, 24, 24)
    torch.testing.assert_close(model(images), theirs.eval()(images))
    assert said == "timm/vit_tiny_patch16_224.augreg was fetched."
    assert not model.training


def test_a_model_of_hugging_face(monkeypatch, tmp_path):
    config = transformers.ViTConfig(
        image_size=24, patch_size=8, hidden_size=36, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    model, _ = pretrained.load(str(tmp_path))
    assert model.config.hidden_size == 36


def test_a_checkpoint_without_head_is_refused(tmp_path):
    config = transformers.ViTConfig(
        image_size=24, patch_size=8, hidden_size=36, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no weights for classifier\.bias, classifier\.weight.*classification head"):
        pretrained.load(str(tmp_path))


@pytest.mark.parametrize("error", [ConnectionError("no route"), type("E", (Exception,), {"__module__": "httpx._x"})()])
def test_without_network_it_is_the_checkpoint(monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    model, said = pretrained.load("timm/vit_tiny_patch16_224")
    assert same(model, checkpoints.load("poses-82"))
    assert f"could not be fetched ({type(error).__name__}: {str(error) or 'without a reason'})." in said


def test_without_the_library_it_is_the_checkpoint(monkeypatch):
    real = builtins.__import__

    def no_timm(name, *rest):
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_timm)
    assert "because timm is not installed" in pretrained.load("timm/vit_tiny_patch16_224")[1]


def test_what_ours_cannot_be_is_not_hidden(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda name, **options: small_timm(qk_norm=True))
    with pytest.raises(ValueError, match="qk_norm"):
        pretrained.load("timm/vit_tiny_patch16_224")
