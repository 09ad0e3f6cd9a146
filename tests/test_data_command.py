"""`python -m vitcourse data`: what it lists, fetches and finds wrong. No network."""

import argparse
import hashlib
import shutil
import tarfile

import pytest
from PIL import Image

from vitcourse import data
from vitcourse.data import check, cifar10, command, download, fashion_mnist, fetching, yoga_lists
from vitcourse.data.cifar10 import CLASS_NAMES


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("VITCOURSE_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(cifar10, "VALIDATION_PER_CLASS", 1)
    monkeypatch.setattr(cifar10, "PER_CLASS", {"train": 2, "test": 1})
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no network in tests")

    monkeypatch.setattr(download.urllib.request, "urlopen", refuse)


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def write_cifar10(folder):
    for part, count in (("train", 2), ("test", 1)):
        for label, name in enumerate(CLASS_NAMES):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (label, number, 0)).save(folder / part / name / f"{number}.png")
    return folder


def archive_of(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        for entry in folder.iterdir():
            archive.add(entry, entry.name)
    return path


# ---- list


def test_list_names_every_set_and_where_it_is(capsys, home):
    assert run("list") == 0
    text = capsys.readouterr().out
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert set(data.NAMES) <= set(lines)
    assert "6,000 / 1,000 / 1,000" in lines["fashion-mnist"]
    assert "comes with the course" in lines["fashion-mnist"]
    assert f"no, not in {home / 'cifar-10'}" in lines["cifar-10"]
    assert "no, not in" in lines["yoga-82"]
    assert str(home) in text.splitlines()[-1]
    write_cifar10(home / "cifar-10")
    run("list")
    assert f"yes, {home / 'cifar-10'}" in capsys.readouterr().out


def test_generated_sets_have_the_counts_of_their_load(capsys):
    run("list")
    text = capsys.readouterr().out
    for name in set(data.NAMES) - {"fashion-mnist", "cifar-10", "yoga-82"}:
        (line,) = (line for line in text.splitlines() if line.startswith(name))
        assert "made when asked for" in line
        assert f" / {len(data.load(name, 'test')):,} " in line


# ---- fetch


def test_an_archive_is_unpacked_and_checked(tmp_path, home, capsys):
    archive = archive_of(write_cifar10(tmp_path / "made"), tmp_path / "cifar10-jpeg.tar.gz")
    assert run("fetch", "cifar-10", "--archive", archive) == 0
    assert f"CIFAR-10 is in {home / 'cifar-10'}." in capsys.readouterr().out
    assert archive.is_file()
    assert len(data.load("cifar-10", "train")) == 10
    assert run("check", "cifar-10") == 0
    assert run("fetch", "cifar-10") == 0
    assert "is here already" in capsys.readouterr().out


def test_a_download_is_unpacked_and_the_archive_removed(tmp_path, home, monkeypatch):
    archive = archive_of(write_cifar10(tmp_path / "made"), tmp_path / "there.tar.gz")

    def copy(urls, path, md5, otherwise):
        assert urls == cifar10.URLS
        assert md5 == "c58f30108f718f92721af3b95e74349a"
        path.parent.mkdir(parents=True)
        return shutil.copy(archive, path) and path

    monkeypatch.setattr(fetching, "fetch", copy)
    assert run("fetch", "cifar-10") == 0
    assert sorted(path.name for path in (home / "cifar-10").iterdir()) == ["test", "train"]


def test_an_archive_lying_in_the_folder_is_taken(tmp_path):
    (tmp_path / "here").mkdir()
    archive = archive_of(write_cifar10(tmp_path / "made"), tmp_path / "here" / cifar10.ARCHIVE)
    with pytest.raises(ValueError, match=r"has md5 \w+ instead of c58f.*: copy or fetch it again"):
        run("fetch", "cifar-10", "--folder", tmp_path / "here")
    archive.rename(archive.with_name(cifar10.JPEG_ARCHIVE))
    assert run("fetch", "cifar-10", "--folder", tmp_path / "here") == 0


def test_an_archive_of_something_else_is_refused_and_leaves_nothing(tmp_path, home):
    (tmp_path / "other" / "folder").mkdir(parents=True)
    (tmp_path / "other" / "folder" / "file").write_text("x")
    (tmp_path / "other" / "notes.txt").write_text("x")
    archive = archive_of(tmp_path / "other", tmp_path / "other.tar.gz")
    with pytest.raises(ValueError, match=r"holds folder, notes\.txt, which is no CIFAR-10.*Give --archive cifar-10-py"):
        run("fetch", "cifar-10", "--archive", archive)
    assert list((home / "cifar-10").iterdir()) == []
    assert archive.is_file()


def test_a_failed_download_is_one_sentence_with_the_ways_out():
    with pytest.raises(ConnectionError) as error:
        run("fetch", "cifar-10")
    message = str(error.value)
    assert message.count("no network in tests") == 3
    assert "--archive FILE" in message
    assert "bundled Fashion-MNIST" in message
    assert "\n" not in message
    with pytest.raises(ConnectionError, match="use the bundled subset"):
        run("fetch", "fashion-mnist")


def test_fashion_mnist_comes_to_the_place_where_load_looks(home, monkeypatch):
    content = b"x"
    monkeypatch.setattr(fashion_mnist, "MD5", dict.fromkeys(fashion_mnist.MD5, hashlib.md5(content).hexdigest()))

    def write(urls, path, md5, otherwise):
        assert [url.rpartition("/")[2] for url in urls] == [path.name] * 2
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr(fetching, "fetch", write)
    assert run("fetch", "fashion-mnist") == 0
    assert fashion_mnist.find() == home / "fashion-mnist"


def test_yoga_82_can_t_be_fetched_and_the_layout_is_told(capsys, home):
    assert run("fetch", "yoga-82") == 1
    text = capsys.readouterr().out
    assert "yoga_train.txt" in text
    assert "lists of links" in text
    assert f"By default FOLDER is {home / 'yoga-82'}" in text


def test_bad_requests():
    with pytest.raises(ValueError, match=r"name must be one of 'fashion-mnist', .*, got 'mnist'"):
        run("fetch", "mnist")
    with pytest.raises(FileNotFoundError, match=r"archive '/no/where' is not a file"):
        run("fetch", "cifar-10", "--archive", "/no/where")
    with pytest.raises(ValueError, match=r"--archive is for cifar-10; yoga-82 doesn't come in one"):
        run("fetch", "yoga-82", "--archive", "x")
    with pytest.raises(FileNotFoundError, match="doesn't exist"):
        run("check", "cifar-10")
    with pytest.raises(SystemExit):
        run()


# ---- check


def test_check_counts_and_names_what_is_damaged(tmp_path, capsys):
    folder = write_cifar10(tmp_path / "cifar")
    assert run("check", "cifar-10", "--folder", folder) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == "✓ whole"
    assert text.splitlines()[-2].split() == ["all", "20", "10"]
    (folder / "train" / "cat" / "0.png").write_bytes(b"")
    (folder / "train" / "dog" / "1.png").unlink()
    (folder / cifar10.ARCHIVE).write_bytes(b"x")
    assert run("check", "cifar-10", "--folder", folder) == 1
    faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith("✗")]
    assert len(faults) == 2
    assert "1 of 19 images of train can't be read" in faults[0]
    assert "cat/0.png' isn't a whole image: the file is empty" in faults[0]
    assert faults[1] == "✗ 1 classes of train don't have 2 images: dog 1"


def test_check_fashion_mnist(capsys):
    assert run("check", "fashion-mnist") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["train", "validation", "test"]
    assert rows[1] == ["T-shirt", "600", "100", "100"]
    assert rows[11] == ["all", "6,000", "1,000", "1,000"]


def test_check_yoga_82(tmp_path, capsys):
    folder = tmp_path / "yoga"
    lines = {"train": [], "test": []}
    for pose, label in (("Boat (a)", 2), ("Crow", 14)):
        (folder / pose).mkdir(parents=True)
        for number in range(7):
            Image.new("RGB", (8, 8), (label, number, 0)).save(folder / pose / f"{number}.png")
            lines["test" if number > 4 else "train"].append(f"{pose}/{number}.png,{label % 3},{label},{label}")
    for part, file in yoga_lists.LISTS.items():
        (folder / file).write_text("\n".join([*lines[part], lines[part][0]]))
    assert run("check", "yoga-82", "--folder", folder) == 0
    text = capsys.readouterr().out
    assert "train: 10 listed, 10 usable, 0 missing, 0 unreadable, 1 listed twice" in text
    assert "✓ whole" in text
    (folder / "Crow" / "1.png").unlink()
    (folder / "Crow" / "6.png").write_bytes(b"")
    with (folder / "yoga_test.txt").open("a") as file:
        file.write("\nbroken\n")
    assert run("check", "yoga-82", "--folder", folder) == 1
    text = capsys.readouterr().out
    assert "✗ 1 listed images of train are missing: Crow/1.png" in text
    assert "✗ 1 images of test can't be read: " in text
    assert "✗ 1 broken lines in the list of test: line 6: 'broken' is not path,l6,l20,l82" in text
    (row,) = (line for line in text.splitlines() if line.strip().startswith("Crow"))
    assert row.split() == ["Crow", "5", "4", "2", "1"]


def test_check_of_a_generated_set_loads_it(monkeypatch, capsys):
    few = {split: data.load("fashion-mnist", split) for split in data.SPLITS}
    monkeypatch.setattr(data, "NAMES", (*data.NAMES, "made-up"))
    monkeypatch.setattr(data, "load", lambda name, split: few[split])
    assert run("check", "made-up") == 0
    assert "✓ whole" in capsys.readouterr().out
    with pytest.raises(ValueError, match="made-up is made when it is asked for"):
        run("check", "made-up", "--folder", "x")
    assert run("fetch", "made-up") == 0


def test_a_report_shows_the_first_faults_and_counts_the_rest():
    report = check.Report(["line"])
    report.fault("images are blue", [])
    assert str(report) == "line\n✓ whole"
    report.fault("images are blue", [f"{n}.png" for n in range(1007)])
    assert str(report) == "line\n✗ 1,007 images are blue: 0.png; 1.png; 2.png; 3.png; 4.png, and 1,002 more"
