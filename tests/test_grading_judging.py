"""What a learner's process wrote is data, and strange data is a wrong answer, never a crash and never a point."""

import contextlib
import functools
import hashlib
import io
import json
import os
import pickle
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from vitcourse.checks import attention
from vitcourse.checks.compare import Other
from vitcourse.checks.watch import Outcome
from vitcourse.grading import candidate, judging

KEY = b"k" * 32
SEAL = functools.partial(hashlib.blake2b, key=KEY)
OUTCOME = {"error": "", "line": "", "unfilled": False, "timed_out": False, "changed": [], "unstable": "", "printed": ""}


def packed(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def sealed(path, text, arrays=None):
    """Files with a right seal and any content, as one writes who got at the secret."""
    text, arrays = text.encode(), packed() if arrays is None else arrays
    seal = SEAL(b"\n".join([path.name.encode(), text, arrays])).hexdigest().encode()
    path.with_name(path.name + ".json").write_bytes(seal + b"\n" + text)
    path.with_name(path.name + ".npz").write_bytes(arrays)


def told(*values, **changes):
    return json.dumps({"refused": "", "outcomes": [{**OUTCOME, "values": [["output", v] for v in values], **changes}]})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "check-count"


def report(path, name="count_multiply_adds"):
    return judging.report(judging.read(path, KEY), "attention", name, 0)


VALUES = [
    torch.randn(2, 3),
    torch.randn(3, 2).T,
    torch.tensor(1.5, dtype=torch.bfloat16),
    torch.zeros(0, 3),
    torch.tensor([True, False]),
    torch.tensor([1 + 2j]).conj(),
    torch.arange(3, dtype=torch.uint8),
    float("inf"),
    3.25,
    7,
    True,
    None,
    "text",
    Other("a list of 3"),
]


def test_values_come_back_as_they_were(path):
    outcome = Outcome({str(n): value for n, value in enumerate(VALUES)}, "E: x", "line 1", changed=("x",), printed="p")
    candidate.write(path, "no", [outcome], SEAL)
    (back,), refused = judging.read(path, KEY)
    assert refused == "no"
    assert (back.error, back.line, back.changed, back.printed) == ("E: x", "line 1", ("x",), "p")
    for value, other in zip(VALUES, back.values.values(), strict=True):
        if isinstance(value, torch.Tensor):
            assert (value.dtype, value.shape) == (other.dtype, other.shape)
            assert torch.equal(value, other)
        else:
            assert type(value) is type(other)
            assert value == other


def test_a_right_answer_is_right(path):
    task = attention.count_multiply_adds
    candidate.write(path, "", task.observe(lambda N, D: 4 * N * D**2 + 2 * N**2 * D, 0), SEAL)
    assert report(path).earned == 2
    assert judging.report(judging.read(path, KEY), "attention", "count_multiply_adds", 1).earned == 0  # other inputs


def test_another_hands_files_are_refused(path):
    outcomes = attention.count_multiply_adds.observe(attention.count_multiply_adds.reference, 0)
    for seal in (hashlib.blake2b, functools.partial(hashlib.blake2b, key=b"guess")):
        candidate.write(path, "", outcomes, seal)
        assert report(path).problem == "What came out was not written by the run itself."
    candidate.write(path, "", outcomes, SEAL)
    for suffix in ("json", "npz"):  # a right file for another exercise
        os.replace(f"{path}.{suffix}", path.with_name(f"check-crossover.{suffix}"))
    assert report(path.with_name("check-crossover")).earned == 0


STRANGE = {
    "not JSON": "{",
    "not a table": "[]",
    "nothing": "null",
    "no outcomes": '{"refused": ""}',
    "outcomes of a wrong kind": '{"refused": "", "outcomes": 3}',
    "deep": '{"outcomes": ' + "[" * 10**6,
    "long number": '{"refused": "", "outcomes": [' + "9" * 10**5 + "]}",
    "wrong kind of value": told([1, 2]),
    "no such tensor": told({"tensor": "array7"}),
    "no tensor's name": told({"tensor": []}),
    "no number": told({"float": "one"}),
    "unknown kind": told({"pickle": "gASVAAAA"}),
    "too many values": told(*range(1000)),
    "no list of changes": told(1, changed=3),
    "too large": told("x" * 2**23),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_json_is_wrong(path, name):
    sealed(path, STRANGE[name])
    found = report(path)
    assert (found.earned, found.state) == (0, "wrong")
    assert found.problem.startswith("What came out can't be read")


WRONG = {
    "large number": told(10**300),
    "nan": told({"float": "nan"}),
    "bare nan": told(float("nan")),
    "infinite": told({"float": "-inf"}),
    "surrogate": told("\ud800"),
    "markup": told("<script>alert(1)</script>", error="<b>", line="<i>", printed="</pre><script>"),
    "nobody's state": told(1, unstable="<script>"),
    "unfilled as a number": told(1, unfilled=1),
    "many outcomes": json.dumps({"refused": "", "outcomes": [json.loads(told(1))["outcomes"][0]] * 10**4}),
    "refused is a tree": json.dumps({"refused": {"a": [1]}, "outcomes": []}),
}


@pytest.mark.parametrize("name", WRONG)
def test_strange_values_are_wrong_and_can_be_written_down(path, name):
    sealed(path, WRONG[name])
    found = report(path)
    page = found._repr_html_()
    assert found.earned == 0
    assert "<script>" not in page
    page.encode()
    str(found).encode()


def array(head, data=b"\0" * 64):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        text = head.encode().ljust(117) + b"\n"
        archive.writestr("array0.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    return file.getvalue()


def squeezed():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("array0.npy", b"\0" * 10**8)
    return file.getvalue()


HEAD = "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}"
ARRAYS = {
    "objects": array(HEAD.format("|O8", "8,")),
    "a pickle": pickle.dumps([1]),
    "a zip bomb": squeezed(),
    "no zip": b"x" * 100,
    "texts": array(HEAD.format("<U2", "8,")),
    "more than there is": array(HEAD.format("<f4", "1000000000000,")),
    "wrong count": array(HEAD.format("<f4", "3, 3")),
    "code for a head": array("{'descr': __import__('os').system('true')}"),
    "deep head": array("(" * 90),
    "many axes": array(HEAD.format("|u1", "64," + "1," * 70)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_strange_arrays_are_wrong(path, name):
    sealed(path, told({"tensor": "array0"}), ARRAYS[name])
    assert report(path).problem.startswith("What came out can't be read")


def test_objects_in_an_array_are_not_unpickled(path, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    file = io.BytesIO()
    np.savez(file, array0=np.array([Trap()], dtype=object))
    sealed(path, told({"tensor": "array0"}), file.getvalue())
    assert report(path).earned == 0
    assert not (tmp_path / "sprung").exists()


class Busy:
    """An exercise whose reference doesn't come back in time."""

    def judge(self, outcomes, seed, refused=""):
        raise TimeoutError("busy")


def test_a_machine_that_is_too_busy_costs_nobody_points(monkeypatch):
    monkeypatch.setattr(judging, "exercise_of", lambda module, name: Busy())
    with pytest.raises(TimeoutError, match="busy"):
        judging.report(([], ""), "attention", "crossover", 0)


def test_threads_judge_one_after_the_other(monkeypatch):
    meeting, met = threading.Barrier(2), []

    class Meets:
        def judge(self, outcomes, seed, refused=""):
            with contextlib.suppress(threading.BrokenBarrierError):
                meeting.wait(0.5)
                met.append(seed)

    monkeypatch.setattr(judging, "exercise_of", lambda module, name: Meets())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: judging.report(([], ""), "attention", "crossover", seed), range(2)))
    assert not met


def test_nothing_there(path):
    assert report(path).problem.startswith("Nothing came out")


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as Linux and macOS make them")
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "linked folder"])
def test_what_is_no_file_is_not_read(tmp_path, kind):
    place = tmp_path / "outcomes"
    place.mkdir()
    sealed(tmp_path / "good", told(1))
    path = place / "good"
    if kind == "link":
        (place / "good.json").symlink_to(tmp_path / "good.json")
    elif kind == "pipe":
        os.mkfifo(place / "good.json")
    elif kind == "folder":
        (place / "good.json").mkdir()
    else:
        place.rmdir()
        place.symlink_to(tmp_path)
    outcomes, refused = judging.read(path, KEY)
    assert not outcomes
    assert refused.startswith("What came out can't be read")
