"""Models of other libraries as ours: equal logits, equal settings, copies, and the reason where it can't be.

Random weights, small models, no downloads. The relative error of logits is the largest absolute difference over the
largest absolute logit of theirs.
"""

import copy
import inspect
import subprocess
import sys
from functools import partial

import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

from vitcourse import VisionTransformer
from vitcourse.interop import from_huggingface, from_timm, from_torchvision

NEAR = {torch.float32: 1e-5, torch.float64: 1e-12}

# ---- theirs: small, P^2 C != D, heads != head width


def torchvision_vit(**changes):
    sizes = {"image_size": 24, "patch_size": 8, "num_layers": 2, "num_heads": 3, "hidden_dim": 36}
    return torchvision.models.VisionTransformer(**sizes | {"mlp_dim": 40, "num_classes": 5} | changes)


def timm_vit(**changes):
    sizes = {"img_size": 24, "patch_size": 8, "depth": 2, "num_heads": 3, "embed_dim": 36, "mlp_ratio": 1.5}
    if unknown := changes.keys() - inspect.signature(timm.models.VisionTransformer).parameters.keys():
        pytest.skip(f"timm {timm.__version__} has no {unknown}")
    return timm.models.VisionTransformer(**sizes | {"num_classes": 5} | changes)


def timm_layer(name):
    if not hasattr(timm.layers, name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    return getattr(timm.layers, name)


def timm_without_positions(**changes):
    model = timm_vit(pos_embed="none", **changes)
    if model._pos_embed(torch.zeros(1, 9, 36)).shape[1] == 9:
        pytest.skip(f"timm {timm.__version__} then leaves out [CLS]")
    return model


HUGGINGFACE = {
    "image_size": 24,
    "patch_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "hidden_size": 36,
    "intermediate_size": 40,
}


def huggingface_config(num_labels=5, **changes):
    return transformers.ViTConfig(**HUGGINGFACE | {"num_labels": num_labels} | changes)


def huggingface_vit(**changes):
    return transformers.ViTForImageClassification(huggingface_config(**changes))


def huggingface_sibling(name, **changes):
    config = getattr(transformers, f"{name.partition('For')[0]}Config")
    return getattr(transformers, name)(config(**HUGGINGFACE | changes))


SMALL = {"torchvision": torchvision_vit, "timm": timm_vit, "transformers": huggingface_vit}
IMPORTERS = {"torchvision": from_torchvision, "timm": from_timm, "transformers": from_huggingface}
LIBRARIES = list(IMPORTERS)


@torch.no_grad()
def randomise(model):
    """Move every parameter away from 0 and 1, where a wrong or missing one could hide; evaluation mode."""
    for name, parameter in model.named_parameters():
        if parameter.ndim in (2, 4):
            parameter.normal_(std=1.5 * parameter[0].numel() ** -0.5)
        else:
            parameter.normal_(std=0.5)
            if "weight" in name or "gamma" in name:  # norms and LayerScale
                parameter.add_(1)
    return model.eval()


def images_for(ours, batch=3):
    parameter = ours.class_token
    return torch.randn(batch, ours.config.num_channels, *ours.config.image_height_width, dtype=parameter.dtype)


def logits_of(model, images):
    output = model(images)
    return getattr(output, "logits", output)


@torch.no_grad()
def relative_error(theirs, ours, images):
    expected = logits_of(theirs, images)
    return ((logits_of(ours, images) - expected).abs().max() / expected.abs().max()).item()


def changed(model, **parts):
    """The model with some parts, named by their paths with __ for a dot, replaced."""
    for path, part in parts.items():
        parent, _, name = path.replace("__", ".").rpartition(".")
        setattr(model.get_submodule(parent), name, part)
    return model


# ---- equal logits

MODELS = {
    "torchvision": (torchvision_vit, {}),
    "torchvision eps": (torchvision_vit, {"norm_layer": partial(nn.LayerNorm, eps=1e-2)}),
    "torchvision sizes": (
        torchvision_vit,
        {"image_size": 20, "patch_size": 4, "num_layers": 3, "num_heads": 5, "hidden_dim": 30, "num_classes": 7},
    ),
    "torchvision bare head": (lambda: changed(torchvision_vit(), heads=nn.Linear(36, 4)), {}),
    "torchvision norm without bias": (torchvision_vit, {"norm_layer": partial(nn.LayerNorm, bias=False)}),
    "timm": (timm_vit, {}),
    "timm qkv_bias": (timm_vit, {"qkv_bias": False}),
    "timm eps": (timm_vit, {"norm_layer": partial(nn.LayerNorm, eps=1e-2)}),
    "timm avg": (timm_vit, {"global_pool": "avg"}),
    "timm avg eps": (timm_vit, {"global_pool": "avg", "norm_layer": partial(nn.LayerNorm, eps=1e-2)}),
    "timm token fc_norm": (timm_vit, {"fc_norm": True}),
    "timm oblong": (timm_vit, {"img_size": (16, 40), "in_chans": 2, "num_classes": 3}),
    "timm oblong avg": (timm_vit, {"img_size": (40, 16), "in_chans": 1, "global_pool": "avg"}),
    "timm sizes": (timm_vit, {"img_size": 20, "patch_size": 4, "depth": 3, "embed_dim": 30, "num_heads": 5}),
    "timm LayerScale": (timm_vit, {"init_values": 0.1}),
    "timm LayerScale no bias": (timm_vit, {"init_values": 0.1, "proj_bias": False, "qkv_bias": False}),
    "timm no_embed_class": (timm_vit, {"no_embed_class": True}),
    "timm no positions": (timm_without_positions, {}),
    "timm LayerNormFp32": (lambda: timm_vit(norm_layer=timm_layer("LayerNormFp32")), {}),
    "timm act_layer": (timm_vit, {"act_layer": "gelu"}),
    "transformers": (huggingface_vit, {}),
    "transformers qkv_bias": (huggingface_vit, {"qkv_bias": False}),
    "transformers eps": (huggingface_vit, {"layer_norm_eps": 1e-2}),
    "transformers oblong": (huggingface_vit, {"image_size": (16, 40), "num_channels": 2}),
    "transformers sizes": (
        huggingface_vit,
        {"image_size": 20, "patch_size": 4, "num_hidden_layers": 3, "num_attention_heads": 5, "hidden_size": 30},
    ),
    "transformers pair of equals": (huggingface_vit, {"patch_size": (8, 8), "num_labels": 1}),
    "transformers eager": (huggingface_vit, {"attn_implementation": "eager"}),
}

ROUNDED = ("timm LayerNormFp32", "transformers eager")  # theirs round to float32 inside, whatever the dtype


@pytest.mark.parametrize("dtype", NEAR, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_equal(name, dtype, record_property):
    make, changes = MODELS[name]
    theirs = randomise(make(**changes)).to(dtype)
    ours = IMPORTERS[name.split()[0]](theirs)
    error = relative_error(theirs, ours, images_for(ours))
    record_property("relative error", error)
    assert error <= (NEAR[torch.float32] if name in ROUNDED else NEAR[dtype])
    assert ours.config.num_parameters() == sum(parameter.numel() for parameter in ours.parameters())


@pytest.mark.parametrize(
    ("library", "make", "parameters"),
    [
        ("timm", lambda: timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=6), 5_525_574),
        ("torchvision", torchvision.models.vit_b_16, 86_567_656),
        (
            "transformers",
            lambda: transformers.AutoModelForImageClassification.from_config(
                transformers.ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=6)
            ),
            5_525_574,
        ),
    ],
    ids=["timm vit_tiny_patch16_224", "torchvision vit_b_16", "transformers Ti/16"],
)
def test_a_named_variant(library, make, parameters):
    theirs = make().eval()
    head = {"timm": "head", "torchvision": "heads.head", "transformers": "classifier"}[library]
    nn.init.normal_(theirs.get_submodule(head).weight)  # torchvision's starts from zeros
    ours = IMPORTERS[library](theirs)
    assert relative_error(theirs, ours, images_for(ours, batch=1)) <= 1e-5
    assert sum(parameter.numel() for parameter in ours.parameters()) == parameters
    assert sum(parameter.numel() for parameter in theirs.parameters()) == parameters
    assert ours.config.num_parameters() == parameters


@pytest.mark.parametrize("library", LIBRARIES)
def test_these_tests_would_notice_a_wrong_tensor(library):
    theirs = randomise(SMALL[library]())
    ours = IMPORTERS[library](theirs)
    images = images_for(ours)
    for name, tensor in ours.state_dict().items():
        right = tensor.clone()
        tensor.copy_(right.flip(-1))
        assert relative_error(theirs, ours, images) > 1e-3, name
        tensor.copy_(right)


@pytest.mark.parametrize("setting", [{"num_attention_heads": 4}, {"layer_norm_eps": 1e-6}, {"pooling": "mean"}])
@pytest.mark.parametrize("library", LIBRARIES)
def test_these_tests_would_notice_a_wrong_setting(library, setting):
    changes = {"layer_norm_eps": 1e-2} if library == "transformers" else {"norm_layer": partial(nn.LayerNorm, eps=1e-2)}
    theirs = randomise(SMALL[library](**changes))
    ours = IMPORTERS[library](theirs)
    wrong = VisionTransformer(ours.config.replace(**setting)).eval()
    wrong.load_state_dict(ours.state_dict())
    assert relative_error(theirs, wrong, images_for(ours)) > 1e-4


# ---- everything else that is copied


def test_settings_are_copied():
    config = from_torchvision(torchvision_vit(dropout=0.1, attention_dropout=0.2)).config
    assert config.to_dict() == {
        "patch_size": 8,
        "hidden_size": 36,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.2,
        "initializer_range": 0.02,
        "image_size": 24,
        "num_classes": 5,
        "num_channels": 3,
        "qkv_bias": True,
        "use_faster_attention": True,
        "position_embedding": "learned",
        "pooling": "cls",
        "layer_norm_eps": 1e-6,
    }
    settings = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2, "initializer_range": 0.03}
    expected = config.replace(layer_norm_eps=1e-12, initializer_range=0.03)
    assert from_huggingface(huggingface_vit(**settings)).config == expected
    theirs = timm_vit(img_size=(16, 40), pos_drop_rate=0.1, proj_drop_rate=0.1, attn_drop_rate=0.2, global_pool="avg")
    expected = config.replace(image_size=(16, 40), intermediate_size=54, pooling="mean")
    assert from_timm(theirs).config == expected


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("library", LIBRARIES)
def test_mode_is_copied(library, training):
    ours = IMPORTERS[library](SMALL[library]().train(training))
    assert {module.training for module in ours.modules()} == {training}


def test_dropout_does_what_theirs_does_in_training():
    # Probability nearly 1, so that each draw drops everything and the residual stream alone is left, whatever the seed.
    theirs = randomise(torchvision_vit(dropout=1 - 1e-7, attention_dropout=0.5)).train()
    ours = from_torchvision(theirs)
    images = images_for(ours)
    torch.testing.assert_close(ours(images), theirs(images))
    assert not torch.allclose(ours(images), ours.eval()(images))


@pytest.mark.parametrize(
    ("device", "dtype"), [("cpu", torch.bfloat16), ("meta", torch.float32), ("cuda", torch.float16)]
)
@pytest.mark.parametrize("library", LIBRARIES)
def test_device_and_dtype_are_copied(library, device, dtype):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    changes = {"init_values": 0.1, "no_embed_class": True} if library == "timm" else {}
    ours = IMPORTERS[library](SMALL[library](**changes).to(device, dtype))
    assert {(tensor.device.type, tensor.dtype) for tensor in ours.state_dict().values()} == {(device, dtype)}


@pytest.mark.parametrize("library", LIBRARIES)
def test_gradients_are_equal(library):
    theirs = randomise(SMALL[library]()).double()
    ours = IMPORTERS[library](theirs)
    images = images_for(ours)
    for model in (theirs, ours):
        nn.functional.cross_entropy(logits_of(model, images), torch.tensor([0, 1, 2])).backward()
    kernels = next(part for part in theirs.modules() if isinstance(part, nn.Conv2d)).weight.grad
    torch.testing.assert_close(ours.patch_embedding.projection.weight.grad, kernels.flatten(1))
    assert all(parameter.grad is not None for parameter in ours.parameters())


@pytest.mark.parametrize("library", LIBRARIES)
def test_ours_is_a_copy(library):
    theirs = randomise(SMALL[library]())
    before = copy.deepcopy(theirs.state_dict())
    generator = torch.get_rng_state()
    ours = IMPORTERS[library](theirs)
    assert torch.equal(generator, torch.get_rng_state())
    storages = {tensor.untyped_storage().data_ptr() for tensor in theirs.state_dict().values()}
    assert not storages & {tensor.untyped_storage().data_ptr() for tensor in ours.state_dict().values()}
    for parameter in ours.parameters():
        parameter.data.zero_()
    assert before.keys() == theirs.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in theirs.state_dict().items())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in ours.parameters())


def test_ours_can_be_saved_and_loaded(tmp_path):
    ours = from_timm(randomise(timm_vit(img_size=(16, 40), init_values=0.1)))
    again = VisionTransformer.load(ours.save(tmp_path / "ours.safetensors"))
    images = images_for(ours)
    torch.testing.assert_close(again(images), ours(images), rtol=0, atol=0)


def test_importing_needs_none_of_the_libraries():
    code = "import sys, vitcourse.interop; sys.exit(bool({'torchvision', 'timm', 'transformers'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- the names of transformers 4


def test_names_of_transformers_4():
    theirs = randomise(huggingface_vit(qkv_bias=False, layer_norm_eps=1e-2))
    if hasattr(theirs.vit, "encoder"):
        pytest.skip(f"transformers {transformers.__version__} itself has the old names")
    old = with_old_names(theirs)
    ours = from_huggingface(old)
    assert relative_error(theirs, ours, images_for(ours)) <= 1e-5
    assert "vit.encoder.layer.1.attention.attention.query.weight" in old.state_dict()


def with_old_names(theirs):
    """The same parts under the names that release 4 gave them, in classes named as there."""
    vit = module_of(
        "ViTModel",
        embeddings=theirs.vit.embeddings,
        encoder=module_of("ViTEncoder", layer=nn.ModuleList(map(layer_with_old_names, theirs.vit.layers))),
        layernorm=theirs.vit.layernorm,
    )
    old = module_of("ViTForImageClassification", vit=vit, classifier=theirs.classifier)
    old.config = theirs.config
    return old.eval()


def layer_with_old_names(layer):
    new = layer.attention
    attention = module_of("ViTSelfAttention", query=new.q_proj, key=new.k_proj, value=new.v_proj)
    attention.num_attention_heads, attention.dropout_prob = new.num_attention_heads, new.attention_dropout
    return module_of(
        "ViTLayer",
        attention=module_of(
            "ViTAttention",
            attention=attention,
            output=module_of("ViTSelfOutput", dense=new.o_proj, dropout=layer.dropout),
        ),
        intermediate=module_of("ViTIntermediate", dense=layer.mlp.fc1, intermediate_act_fn=layer.mlp.activation_fn),
        output=module_of("ViTOutput", dense=layer.mlp.fc2, dropout=layer.dropout),
        layernorm_before=layer.layernorm_before,
        layernorm_after=layer.layernorm_after,
    )


def module_of(name, **parts):
    module = type(name, (nn.Module,), {"__module__": "transformers.models.vit.modeling_vit"})()
    for part, value in parts.items():
        module.add_module(part, value)
    return module


# ---- refusals

WRONG = {
    "a string": (lambda: "vit_tiny_patch16_224", "builtins.str"),
    "a state dict": (lambda: nn.Linear(2, 2).state_dict(), "collections.OrderedDict"),
    "a class": (lambda: timm.models.VisionTransformer, "builtins.type"),
    "None": (lambda: None, "builtins.NoneType"),
    "a module of torch": (lambda: nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    "a ResNet of torchvision": (lambda: torchvision.models.resnet18(), "torchvision.models.resnet.ResNet"),
    "a ResNet of timm": (lambda: timm.create_model("resnet10t"), "timm.models.resnet.ResNet"),
    "another ViTModel": (
        lambda: module_of("GroupViTModel", linear=nn.Linear(2, 2)),
        "transformers.models.vit.modeling_vit.GroupViTModel",
    ),
    "ours": (lambda: VisionTransformer(from_timm(timm_vit()).config), "vitcourse.model.VisionTransformer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_objects(name):
    make, got = WRONG[name]
    model = make()
    for library, importer in IMPORTERS.items():
        with pytest.raises(
            TypeError, match=rf"model must be a {library} ViT|model must be a {library} Vision"
        ) as error:
            importer(model)
        assert got in str(error.value)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("other", LIBRARIES)
def test_models_of_another_library(library, other):
    if library != other:
        with pytest.raises(TypeError, match=rf"must be a {library}.*got {other}"):
            IMPORTERS[library](SMALL[other]())


class MyTorchvision(torchvision.models.VisionTransformer):
    """A class of the learner's, which may compute anything."""


class MyHuggingFace(transformers.ViTForImageClassification):
    """Another."""


def with_parameter(model, path="extra"):
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent).register_parameter(name, nn.Parameter(torch.ones(3)))
    return model


def conv_stem(layers):
    stem = torchvision.models.vision_transformer.ConvStemConfig
    return torchvision_vit(conv_stem_configs=[stem(8, kernel_size=3, stride=8) for _ in range(layers)])


def reset(model, **how):
    model.reset_classifier(5, **how)
    return model


def with_setting(model, path, value):
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, value)
    return model


REFUSED = {
    # torchvision
    "torchvision conv_stem": (lambda: conv_stem(1), "Conv2dNormActivation; .*conv_stem_configs"),
    "torchvision conv_stem of one layer": (lambda: conv_stem(0), "conv_proj Sequential.*conv_stem_configs"),
    "torchvision representation_size": (lambda: torchvision_vit(representation_size=7), "Tanh"),
    "torchvision dropout before the head": (
        lambda: changed(torchvision_vit(), heads=nn.Sequential(nn.Dropout(0.5), nn.Linear(36, 5))),
        "a head of Dropout.*one linear layer",
    ),
    "torchvision two layers": (
        lambda: changed(torchvision_vit(), heads=nn.Sequential(nn.Linear(36, 36), nn.Linear(36, 5))),
        "a head of Linear.*one linear layer",
    ),
    "torchvision no head": (lambda: changed(torchvision_vit(), heads=nn.Identity()), "a head of nothing"),
    "torchvision subclass": (
        lambda: MyTorchvision(24, 8, 2, 3, 36, 40),
        "the class MyTorchvision; only VisionTransformer itself",
    ),
    "torchvision ReLU": (
        lambda: changed(torchvision_vit(), encoder__layers__encoder_layer_1__mlp__1=nn.ReLU()),
        "encoder_layer_1.mlp.1 of class ReLU; .*exact GELU",
    ),
    "torchvision tanh GELU": (
        lambda: changed(torchvision_vit(), encoder__layers__encoder_layer_1__mlp__1=nn.GELU("tanh")),
        "encoder_layer_1.mlp.1 GELU.*tanh.*exact GELU",
    ),
    "torchvision no activation": (
        lambda: changed(torchvision_vit(), encoder__layers__encoder_layer_0__mlp__1=nn.Identity()),
        "encoder_layer_0.mlp.1 Identity.*exact GELU",
    ),
    "torchvision a second activation": (
        lambda: changed(torchvision_vit(), encoder__layers__encoder_layer_0__mlp__more=nn.GELU()),
        "encoder_layer_0.mlp.more of class GELU; ours has one in each MLP",
    ),
    "torchvision BatchNorm": (
        lambda: changed(torchvision_vit(), encoder__ln=nn.BatchNorm1d(10)),
        "encoder.ln of class BatchNorm1d; .*LayerNorm",
    ),
    "torchvision no norm": (
        lambda: changed(torchvision_vit(), encoder__ln=nn.Identity()),
        "no tensor encoder.ln.weight",
    ),
    "torchvision an extra parameter": (lambda: with_parameter(torchvision_vit()), "left-over tensors extra"),
    "torchvision an extra block": (
        lambda: changed(torchvision_vit(), encoder__layers__more=nn.Linear(36, 36)),
        "no encoder.layers.more.self_attention",
    ),
    "torchvision different eps": (
        lambda: with_setting(torchvision_vit(), "encoder.ln.eps", 1e-3),
        "layer_norm_eps 1e-06, 0.001; ours has exactly one",
    ),
    "torchvision different dropout": (
        lambda: with_setting(torchvision_vit(), "encoder.dropout.p", 0.5),
        r"dropout probabilities 0.0, 0.5; ours has exactly one",
    ),
    "torchvision different dtypes": (
        lambda: changed(torchvision_vit(), heads=nn.Linear(36, 5).double()),
        "dtypes and devices torch.float32 on cpu, torch.float64 on cpu",
    ),
    "torchvision overlapping patches": (
        lambda: changed(torchvision_vit(), conv_proj=nn.Conv2d(3, 36, 8, stride=4)),
        "conv_proj Conv2d.*squares, side by side",
    ),
    "torchvision padded patches": (
        lambda: changed(torchvision_vit(), conv_proj=nn.Conv2d(3, 36, 8, stride=8, padding=1)),
        "conv_proj Conv2d.*padding=.*squares, side by side",
    ),
    "torchvision another width": (
        lambda: changed(torchvision_vit(), encoder__ln=nn.LayerNorm(35, eps=1e-6)),
        r"shape \(35,\) for our norm.weight; .*\(36,\)",
    ),
    # timm
    "timm qk_norm": (lambda: timm_vit(qk_norm=True), r"blocks.0.attn.q_norm.weight.*\(qk_norm\)"),
    "timm scale_attn_norm": (lambda: timm_vit(scale_attn_norm=True), r"attn.norm.weight.*\(scale_attn_norm\)"),
    "timm scale_mlp_norm": (lambda: timm_vit(scale_mlp_norm=True), r"mlp.norm.weight.*\(scale_mlp_norm\)"),
    "timm pre_norm": (lambda: timm_vit(pre_norm=True), r"left-over tensors norm_pre.weight.*\(pre_norm\)"),
    "timm norm of patches": (
        lambda: timm_vit(embed_norm_layer=nn.LayerNorm),
        "left-over tensors patch_embed.norm.weight",
    ),
    "timm gated": (
        lambda: timm_vit(attn_layer=partial_class(timm_layer("Attention"), gated=True)),
        "left-over tensors blocks.0.attn.gate.weight",
    ),
    "timm registers": (lambda: timm_vit(reg_tokens=4), "reg_tokens 4; ours has no registers"),
    "timm no class token": (lambda: timm_vit(class_token=False, global_pool="avg"), "class_token False; ours always"),
    "timm distilled": (
        lambda: timm.models.deit.VisionTransformerDistilled(
            img_size=24, patch_size=8, depth=1, embed_dim=36, num_heads=3
        ),
        "the class VisionTransformerDistilled; .*distillation",
    ),
    "timm relative positions": (
        lambda: timm.create_model("vit_relpos_small_patch16_224", img_size=32, depth=1),
        "the class VisionTransformerRelPos; .*relative",
    ),
    "timm rotary positions": (
        lambda: timm.models.eva.Eva(
            img_size=24, patch_size=8, depth=1, embed_dim=48, num_heads=3, use_rot_pos_emb=True
        ),
        "the class Eva; .*rotary",
    ),
    "timm BEiT": (
        lambda: timm.models.beit.Beit(img_size=24, patch_size=8, depth=1, embed_dim=36, num_heads=3),
        "the class Beit; .*relative",
    ),
    "timm post-norm": (
        lambda: timm_vit(block_fn=timm.models.vision_transformer.ResPostBlock),
        "blocks.0 of class ResPostBlock; our blocks have the norm first",
    ),
    "timm parallel": (
        lambda: timm_vit(block_fn=timm.models.vision_transformer.ParallelScalingBlock),
        "blocks.0 of class ParallelScalingBlock; our blocks have the attention first",
    ),
    "timm parallel things": (
        lambda: timm_vit(block_fn=timm.models.vision_transformer.ParallelThingsBlock),
        "blocks.0 of class ParallelThingsBlock; our blocks have the attention first",
    ),
    "timm differential attention": (
        lambda: timm_vit(attn_layer="diff", embed_dim=48),
        "blocks.0.attn of class DiffAttention",
    ),
    "timm SwiGLU": (lambda: timm_vit(mlp_layer=timm.layers.SwiGLU), "blocks.0.mlp of class SwiGLU; ours is made of"),
    "timm packed SwiGLU": (lambda: timm_vit(mlp_layer=timm.layers.GluMlp), "blocks.0.mlp of class GluMlp"),
    "timm ReLU": (lambda: timm_vit(act_layer="relu"), "blocks.0.mlp.act of class ReLU; .*exact GELU"),
    "timm quick GELU": (lambda: timm_vit(act_layer="quick_gelu"), "blocks.0.mlp.act of class QuickGELU"),
    "timm tanh GELU": (lambda: timm_vit(act_layer="gelu_tanh"), "blocks.0.mlp.act of class GELUTanh"),
    "timm torch's tanh GELU": (
        lambda: timm_vit(act_layer=partial(nn.GELU, approximate="tanh")),
        "blocks.0.mlp.act GELU.*tanh",
    ),
    "timm no activation": (lambda: timm_vit(act_layer=nn.Identity), "blocks.0.mlp.act Identity.*exact GELU"),
    "timm no attention": (lambda: changed(timm_vit(), blocks__1__attn=nn.Identity()), "no blocks.1.attn.num_heads"),
    "timm RmsNorm": (lambda: timm_vit(norm_layer="rmsnorm"), "norm1 of class RmsNorm; .*LayerNorm"),
    "timm oblong patches": (lambda: timm_vit(patch_size=(8, 4)), "patch_embed.proj Conv2d.*squares"),
    "timm a rest": (lambda: timm_vit(img_size=30), "30 leaves a rest of 6"),
    "timm dynamic_img_size": (lambda: timm_vit(dynamic_img_size=True), "dynamic_img_size True"),
    "timm dynamic_img_pad": (lambda: timm_vit(dynamic_img_pad=True), "dynamic_img_pad True"),
    "timm no img_size": (
        lambda: with_setting(timm_vit(), "patch_embed.img_size", None),
        "img_size None; ours takes images of the one size",
    ),
    "timm not strict": (
        lambda: with_setting(timm_vit(), "patch_embed.strict_img_size", False),
        "strict_img_size False; ours takes images of the one size",
    ),
    "timm map": (lambda: timm_vit(global_pool="map"), "attn_pool of class AttentionPoolLatent; .*'map'"),
    "timm prr": (
        lambda: timm_layer("AttentionPoolPrr") and timm_vit(global_pool="prr"),
        "attn_pool of class AttentionPoolPrr; .*'prr'",
    ),
    "timm max": (lambda: timm_vit(global_pool="max"), "global_pool 'max'; ours takes"),
    "timm avgmax": (lambda: timm_vit(global_pool="avgmax"), "global_pool 'avgmax'; ours takes"),
    "timm no pooling": (lambda: timm_vit(global_pool=""), "global_pool ''; ours takes"),
    "timm avg before the norm": (lambda: timm_vit(global_pool="avg", fc_norm=False), "'avg' with fc_norm False"),
    "timm avg put on later": (lambda: reset(timm_vit(), global_pool="avg"), "'avg' with fc_norm False"),
    "timm avg with the prefix": (
        lambda: timm_vit(global_pool="avg", pool_include_prefix=True),
        "pool_include_prefix True; ours leaves",
    ),
    "timm no last norm": (lambda: timm_vit(final_norm=False), r"as last norm none \(final_norm False\)"),
    "timm two last norms": (lambda: changed(timm_vit(), fc_norm=nn.LayerNorm(36)), "as last norm norm and fc_norm"),
    "timm no head": (lambda: timm_vit(num_classes=0), r"a head of nothing \(num_classes 0\)"),
    "timm drop_rate": (lambda: timm_vit(drop_rate=0.1), "drop_rate 0.1; .*head_drop.p = 0"),
    "timm drop_path_rate": (lambda: timm_vit(drop_path_rate=0.1), "of class DropPath; .*drop_path_rate=0"),
    "timm patch_drop_rate": (lambda: timm_vit(patch_drop_rate=0.1), "of class PatchDropout; .*patch_drop_rate=0"),
    "timm two dropouts": (lambda: timm_vit(proj_drop_rate=0.1), "dropout probabilities 0.0, 0.1"),
    "timm idle dropout": (
        lambda: timm_without_positions(pos_drop_rate=0.1, proj_drop_rate=0.1),
        "pos_drop_rate 0.1 without positions",
    ),
    "timm no positions and no [CLS]": (
        lambda: with_setting(timm_vit(pos_embed="none"), "_pos_embed", lambda patches: patches),  # as in timm 1.0.15
        "pos_embed 'none', which leaves out",
    ),
    "timm no blocks": (lambda: timm_vit(depth=0), "num_heads nowhere"),
    "timm an extra parameter": (
        lambda: with_parameter(timm_vit(), "blocks.1.attn.extra"),
        "tensors blocks.1.attn.extra",
    ),
    # Hugging Face
    **{
        f"transformers {name}": (lambda name=name: huggingface_vit(hidden_act=name), f"class {kind}; .*exact GELU")
        for name, kind in (
            ("relu", "ReLU"),
            ("gelu_new", "NewGELUActivation"),
            ("quick_gelu", "QuickGELUActivation"),
            ("gelu_pytorch_tanh", "GELUTanh|PytorchGELUTanh"),
        )
    },
    "transformers no head": (lambda: huggingface_vit(num_labels=0), "a head of nothing"),
    "transformers ViTModel": (
        lambda: transformers.ViTModel(huggingface_config()),
        "the class ViTModel; it has no classification head; make a ViTForImageClassification",
    ),
    "transformers ViTForMaskedImageModeling": (
        lambda: transformers.ViTForMaskedImageModeling(huggingface_config()),
        "the class ViTForMaskedImageModeling; it predicts pixels; make a ViTForImageClassification",
    ),
    "transformers DeiT": (lambda: huggingface_sibling("DeiTForImageClassification"), "DeiTForImage.*; .*distillation"),
    "transformers distilled DeiT": (
        lambda: huggingface_sibling("DeiTForImageClassificationWithTeacher"),
        "DeiTForImage.*; .*distillation",
    ),
    "transformers DINOv2": (
        lambda: huggingface_sibling("Dinov2ForImageClassification"),
        "Dinov2.*; .*joined to the mean of the patches",
    ),
    "transformers BEiT": (lambda: huggingface_sibling("BeitForImageClassification"), "Beit.*; its positions may be"),
    "transformers subclass": (lambda: MyHuggingFace(huggingface_config()), "the class MyHuggingFace; only ViTFor"),
    "transformers oblong patches": (lambda: huggingface_vit(patch_size=(8, 4)), "projection Conv2d.*squares"),
    "transformers an extra parameter": (lambda: with_parameter(huggingface_vit(), "vit.extra"), "tensors vit.extra"),
    "transformers a pooler": (
        lambda: changed(huggingface_vit(), vit__pooler=transformers.ViTModel(huggingface_config()).pooler),
        "vit.pooler of class ViTPooler",
    ),
}


def partial_class(kind, **settings):
    """A subclass of the same name with some arguments fixed, where a class is asked for."""

    def make(self, *args, **kwargs):
        kind.__init__(self, *args, **settings | kwargs)

    if not settings.keys() <= inspect.signature(kind).parameters.keys():
        pytest.skip(f"{kind.__name__} has no {settings.keys()}")
    return type(kind.__name__, (kind,), {"__init__": make, "__module__": kind.__module__})


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    make, message = REFUSED[name]
    library = name.split()[0]
    with pytest.raises(ValueError, match=rf"this {library} .* can't be represented: it has .*{message}"):
        IMPORTERS[library](make())


def test_a_mask_token_is_ignored():
    theirs = randomise(huggingface_vit())
    theirs.vit.embeddings.mask_token = nn.Parameter(torch.ones(1, 1, 36))  # left there by pre-training
    ours = from_huggingface(theirs)
    assert relative_error(theirs, ours, images_for(ours)) <= 1e-5
