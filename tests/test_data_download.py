"""Downloads from a server in a thread, which breaks off, ignores Range, or has another file; no network."""

import errno
import hashlib
import http.server
import io
import os
import tarfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from vitcourse.data import archives, download
from vitcourse.data.download import fetch

CONTENT = bytes(range(256)) * 2000  # half a megabyte, several blocks
MD5 = hashlib.md5(CONTENT).hexdigest()
OTHERWISE = "Copy it by hand."


class Handler(http.server.BaseHTTPRequestHandler):
    """/good, /breaks (after 200 kB each time), /deaf (no Range), /deaf-breaks, /wrong, /silent; all else is 404."""

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        if self.path not in ("/good", "/breaks", "/deaf", "/deaf-breaks", "/wrong", "/silent"):
            return self.send_error(404)
        if self.path == "/silent":
            time.sleep(1)
            return None
        content = CONTENT[::-1] if self.path == "/wrong" else CONTENT
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and "deaf" not in self.path else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + 200_000] if "breaks" in self.path else content[start:])
        return None

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def running():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(running):
    running.asked = []
    return running


def get(server, path, *pages, md5=MD5, **options):
    return fetch([server.address + page for page in pages], path, md5, otherwise=OTHERWISE, **options)


def test_a_file_comes_whole_and_is_not_fetched_twice(server, tmp_path):
    path = tmp_path / "new" / "file.bin"
    assert get(server, path, "/good") == path
    assert path.read_bytes() == CONTENT
    get(server, path, "/good")
    assert server.asked == [("/good", None)]
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_a_break_goes_on_where_it_was(server, tmp_path):
    get(server, tmp_path / "file.bin", "/breaks")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [("/breaks", None), ("/breaks", "bytes=200000-"), ("/breaks", "bytes=400000-")]


def test_an_earlier_part_is_used(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:300_000])
    get(server, tmp_path / "file.bin", "/good")
    assert server.asked == [("/good", "bytes=300000-")]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_whole_part_needs_no_server(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    get(server, tmp_path / "file.bin", "/good")
    assert server.asked == []
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"something else", CONTENT + b"too long", CONTENT[::-1]])
def test_a_bad_part_is_thrown_away_and_fetched_again(server, tmp_path, part):
    (tmp_path / "file.bin.part").write_bytes(part)
    get(server, tmp_path / "file.bin", "/good")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_server_without_range_starts_again(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:300_000])
    get(server, tmp_path / "file.bin", "/deaf")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_the_next_address_goes_on_from_what_the_last_one_gave(server, tmp_path):
    get(server, tmp_path / "file.bin", "/nothing", "/deaf-breaks", "/good")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked[0] == ("/nothing", None)
    assert server.asked[-1] == ("/good", "bytes=200000-")


def test_another_file_is_deleted_and_told(server, tmp_path):
    with pytest.raises(ConnectionError, match=rf"md5 \w+ instead of {MD5}; it was deleted.* Copy it by hand\.$"):
        get(server, tmp_path / "file.bin", "/wrong")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_mirror_doesn_t_stop_the_next(server, tmp_path):
    get(server, tmp_path / "file.bin", "/wrong", "/good")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_damaged_file_of_the_name_is_replaced(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1])
    get(server, tmp_path / "file.bin", "/good")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_failure_is_one_sentence_with_every_reason_and_the_way_out(server, tmp_path):
    with pytest.raises(ConnectionError) as error:
        get(server, tmp_path / "file.bin", "/nothing", "/silent", "/deaf-breaks", timeout=0.3)
    message = str(error.value)
    assert (
        "127.0.0.1: 404 Not Found; 127.0.0.1: no answer in time; 127.0.0.1: broke off after 0.2 MB of 0.5 MB" in message
    )
    assert "What came so far is kept; fetching again goes on from 0.2 MB." in message
    assert message.endswith(OTHERWISE)
    assert "\n" not in message


def test_no_network_at_all(tmp_path):
    with pytest.raises(ConnectionError, match=r"'file\.bin' could not be fetched \(127\.0\.0\.1: Connection refused\)"):
        fetch(["http://127.0.0.1:9/"], tmp_path / "file.bin", MD5, otherwise=OTHERWISE)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_part(server, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() >= 100_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r": Full(self, mode) if mode in ("wb", "ab") else real(self, mode)
    )
    with pytest.raises(OSError, match=r"^the disk is full: '.*file\.bin\.part' has 0\.1 MB so far; make room"):
        get(server, tmp_path / "file.bin", "/good", "/good")
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin.part"]
    monkeypatch.undo()
    get(server, tmp_path / "file.bin", "/good")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_folder_that_can_t_be_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"can't be written; choose another, or set VITCOURSE_DATA"):
        get(server, tmp_path / "file.bin", "/good")
    assert server.asked == []


# ---- archives


def tar(path, names, mode="w:gz", change=None):
    with tarfile.open(path, mode) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 70_000
            if change:
                change(member)
            archive.addfile(member, io.BytesIO(os.urandom(member.size)) if member.isfile() else None)
    return path


def test_unpacking(tmp_path):
    archive = tar(tmp_path / "a.tar.gz", ["set/one", "set/two"])
    assert archives.unpack(archive, tmp_path / "here") == [tmp_path / "here" / "set"]
    assert sorted(path.name for path in (tmp_path / "here" / "set").iterdir()) == ["one", "two"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["set"]


@contextmanager
def refused(folder, error, match):
    """Raises, and leaves the folder empty."""
    with pytest.raises(error, match=match):
        yield
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.01])
def test_a_truncated_archive_leaves_nothing(tmp_path, mode, kept):
    archive = tar(tmp_path / "a.tar", ["set/one", "set/two", "set/three"], mode)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(kept * len(whole))])
    with refused(tmp_path / "here", ValueError, "is damaged .*; fetch it again"):
        archives.unpack(archive, tmp_path / "here")


def test_what_is_no_archive(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"<html>")
    with refused(tmp_path / "here", ValueError, r"a\.tar\.gz' is damaged"):
        archives.unpack(tmp_path / "a.tar.gz", tmp_path / "here")


def link(member):
    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0


@pytest.mark.parametrize(("name", "change"), [("../escaped", None), ("set/link", link)])
def test_an_unsafe_archive_leaves_nothing(tmp_path, name, change):
    archive = tar(tmp_path / "a.tar.gz", ["set/one", name], change=change)
    with refused(tmp_path / "here", ValueError, "is unsafe, and nothing of it was kept"):
        archives.unpack(archive, tmp_path / "here")
    assert not (tmp_path / "escaped").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="already holds set; move that away"):
        archives.unpack(tar(tmp_path / "a.tar.gz", ["set/one"]), tmp_path)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["mine"]


def test_a_full_disk_while_unpacking(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = tar(tmp_path / "a.tar.gz", ["set/one"])
    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with refused(tmp_path / "here", OSError, "^the disk is full: .* could not be unpacked; make room first"):
        archives.unpack(archive, tmp_path / "here")


def test_md5():
    assert download.file_md5(__file__) == hashlib.md5(Path(__file__).read_bytes()).hexdigest()
