"""The shipped models: each is what its card says."""

import json
import re
from pathlib import Path

import pytest

from vitcourse import VisionTransformer, checkpoints, data
from vitcourse.training import evaluate, read_log

FOLDER = Path(checkpoints.__file__).parent
# Sets that every machine has: the bundled subset and the generated worlds. Two standard errors of 1,000 images.
HERE = {name: name.split("-")[0] for name in checkpoints.NAMES if name.startswith(("poses", "scenes"))}
HERE["fashion-mnist"] = "fashion-mnist"


def result_of(name):
    return json.loads((FOLDER / name / "result.json").read_text(encoding="utf-8"))


def test_every_folder_is_listed():
    assert sorted(checkpoints.NAMES) == sorted(path.name for path in FOLDER.iterdir() if (path / "README.md").is_file())


@pytest.mark.parametrize("name", checkpoints.NAMES)
def test_card_quotes_the_result(name):
    card, result = (FOLDER / name / "README.md").read_text(encoding="utf-8"), result_of(name)
    assert f"{result['test_accuracy']:.2%}" in card.replace(" %", "%")
    assert f"{result['parameters']:,}" in card
    assert re.search(r"(python|torchrun .+) -m (vitcourse train|experiments\.\w+)", card), (
        "the card doesn't say how it was made"
    )


@pytest.mark.parametrize("name", checkpoints.NAMES)
def test_model_is_the_one_of_the_result(name):
    model = checkpoints.load(name)
    assert isinstance(model, VisionTransformer)
    assert sum(parameter.numel() for parameter in model.parameters()) == result_of(name)["parameters"]
    assert read_log(FOLDER / name / "log.csv")


@pytest.mark.parametrize("name", HERE)
def test_accuracy_is_that_of_the_card(name):
    result = result_of(name)
    options = {key: value for key, value in result.get("data", {}).items() if key != "name"}
    test = data.load(HERE[name], "test", **options)
    test = test.subset(slice(0, 1000))
    assert evaluate(checkpoints.load(name), test).accuracy == pytest.approx(result["test_accuracy"], abs=0.035)


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of .*'fashion-mnist'.*, got 'imagenet'"):
        checkpoints.load("imagenet")
