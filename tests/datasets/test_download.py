"""Fetching over a loopback server, unpacking friendly and hostile archives, and the steps by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import stat
import subprocess
import sys
import tarfile
import threading
import types
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.datasets import DATASETS, archives, load_dataset
from tgfbench.datasets import transfer as module
from tgfbench.datasets.archives import unpack
from tgfbench.datasets.download import download, manual_steps
from tgfbench.datasets.sources import SOURCES, Repository, Shared, Source
from tgfbench.datasets.transfer import check_out, fetch

Miniature = Callable[[str], tuple[Path, dict[str, tuple[str, ...]]]]
CONTENT = np.random.default_rng(0).bytes(300_000)
HASH = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves one content; ``breaks`` counts the answers that end early, ``ranges`` says whether parts are served."""

    content = CONTENT
    breaks = 0
    ranges = True
    status = 200
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        content = self.server.content
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        breaks = self.server.breaks > 0
        self.server.breaks -= breaks
        self.wfile.write(content[start : start + 100_000 if breaks else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "_pause", lambda attempt: 0.0)
    monkeypatch.setattr(module, "CHUNK", 10_000)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/file.zip"


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "in/file.zip"
    seen: list[tuple[int, int]] = []
    assert fetch(address(server), path, HASH, progress=lambda *at: seen.append(at)) == path
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    fetch(address(server), path, HASH)
    assert server.asked == [None]
    assert [entry.name for entry in path.parent.iterdir()] == ["file.zip"]


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connections_are_continued(ranges: bool, server: Server, tmp_path: Path) -> None:
    server.breaks, server.ranges = 2, ranges
    fetch(address(server), tmp_path / "f", HASH)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.asked[0] is None
    assert server.asked[1] == "bytes=100000-"
    assert len(server.asked) == 3


def test_an_interrupted_call_is_continued_by_the_next(server: Server, tmp_path: Path) -> None:
    server.breaks = module.ATTEMPTS
    server.ranges = False
    with pytest.raises(DataError, match="200000 more expected") as caught:
        fetch(address(server), tmp_path / "f", HASH)
    assert "goes on" in caught.value.hint
    server.ranges, server.asked = True, []
    fetch(address(server), tmp_path / "f", HASH)
    assert server.asked == ["bytes=100000-"]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_whole_part_needs_no_more_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    fetch(address(server), tmp_path / "f", HASH)
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"", b"x" * 1000, b"x" * 400_000])
def test_another_hash_is_refused_and_the_next_call_starts_anew(left: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(left)
    if not left:
        server.content = CONTENT + b"more"
    with pytest.raises(DataError, match=HASH):
        fetch(address(server), tmp_path / "f", HASH)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    fetch(address(server), tmp_path / "f", HASH)


@pytest.mark.parametrize(("status", "calls"), [(404, 1), (403, 1), (503, module.ATTEMPTS)])
def test_a_refusal_is_final_and_a_server_error_is_not(status: int, calls: int, server: Server, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(DataError, match=str(status)):
        fetch(address(server), tmp_path / "f", HASH)
    assert len(server.asked) == calls


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/f", "data:,x", "/etc/passwd", "file:///etc/passwd"])
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another kind"):
        fetch(url, tmp_path / "f", HASH)


def zip_of(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive


def test_a_dataset_is_fetched_once_unpacked_and_opens(
    server: Server, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, splits = miniature("msrs")
    server.content = zip_of(root / "MSRS", tmp_path / "msrs.zip").read_bytes()
    digest = f"md5:{hashlib.md5(server.content).hexdigest()}"
    monkeypatch.setitem(SOURCES, "msrs", Source(url=address(server), file="msrs.zip", hash=digest))
    outcome = download("MSRS", tmp_path / "new")
    assert outcome.steps == ()
    assert outcome.files == sum(path.is_file() for path in root.rglob("*"))
    assert load_dataset("msrs", tmp_path / "new", "all").keys == splits["all"]
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["detection", "detection_lele3", "test", "train"]
    # A part of the dataset is fetched anew, the whole of it is left alone.
    assert download("msrs", tmp_path / "new").files == outcome.files
    monkeypatch.setattr(type(load_dataset("msrs", root)), "complete_count", lambda self: 3)
    again = download("msrs", tmp_path / "new")
    assert (again.files, again.held, again.steps) == (0, 3, ())


def repository(folder: Path) -> str:
    """Make what lies in a folder a repository, and return its address."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "a"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    return folder.as_uri()


def test_repositories_are_checked_out_and_again(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, splits = miniature("msrs")
    images, boxes = root / "MSRS", tmp_path / "boxes"
    (images / "detection_lele3").rename(boxes)
    (images / "link").symlink_to("/etc")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as inside a hook
    with monkeypatch.context() as outside:
        outside.delenv("GIT_DIR")
        urls = (repository(images), repository(boxes))
    parts = (Repository(url=urls[0], what="images"), Repository(url=urls[1], into="detection_lele3", what="boxes"))
    monkeypatch.setitem(SOURCES, "msrs", Source(repositories=parts, unpacks=False))
    for _ in range(2):  # the second time nothing is new
        outcome = download("msrs", tmp_path / "new")
        assert outcome.files == 19
    dataset = load_dataset("msrs", tmp_path / "new")
    assert dataset.keys == splits["test"]
    assert dataset.files(dataset.keys[0])["boxes"].is_file()
    assert not (outcome.folder / "link").is_symlink()
    with pytest.raises(DataError, match="nosuch"):
        check_out((tmp_path / "nosuch").as_uri(), tmp_path / "other")


class SharedDrive:
    """Stands for gdown: puts archives where it is told."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.asked = archive, []
        self.exceptions = types.SimpleNamespace(DownloadError=RuntimeError)

    def download(self, *, id: str, output: str, resume: bool, retries: int) -> None:
        assert resume
        assert output.endswith("/")
        self.asked.append(id)
        if id == "refused":
            raise self.exceptions.DownloadError("too many\nusers")
        (Path(output) / f"{id}.zip").write_bytes(self.archive.read_bytes())

    def download_folder(self, *, id: str, output: str, resume: bool, retries: int) -> None:
        self.download(id=id, output=output, resume=resume, retries=retries)
        (Path(output) / "notes").mkdir()
        (Path(output) / "notes/read.txt").write_text("x")


def test_a_shared_drive_is_asked_only_when_the_terms_are_accepted(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, splits = miniature("m3fd")
    drive = SharedDrive(zip_of(root / "M3FD", tmp_path / "m3fd.zip"))
    monkeypatch.setitem(sys.modules, "gdown", drive)
    source = Source(shared=(Shared(identifier="refused", what="it"),))
    monkeypatch.setitem(SOURCES, "m3fd", source)
    told = download("m3fd", tmp_path / "new")
    assert (told.files, drive.asked) == (0, [])
    assert any("--accept-terms" in step for step in told.steps)
    with pytest.raises(DataError, match="too many users") as caught:
        download("m3fd", tmp_path / "new", accept_terms=True)
    assert "--archive" in caught.value.hint
    monkeypatch.setitem(SOURCES, "m3fd", Source(shared=(Shared(identifier="good", what="it", is_folder=True),)))
    outcome = download("m3fd", tmp_path / "new", accept_terms=True)
    digest = hashlib.sha256(drive.archive.read_bytes()).hexdigest()
    assert outcome.hashes == (("good.zip", digest),)
    assert load_dataset("m3fd", tmp_path / "new").keys == splits["test"]
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["M3FD_Detection", "M3FD_Fusion", "notes"]


@pytest.mark.parametrize(("package", "call"), [
    ("pooch.hashes", lambda folder: fetch("https://localhost/x", folder / "x", HASH)),
    ("gdown", lambda folder: download("llvip", folder, accept_terms=True)),
])  # fmt: skip
def test_without_the_extra_the_user_is_told_what_to_install(
    package: str, call: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match="not installed") as caught:
        call(tmp_path)
    assert "tgfbench[download]" in caught.value.hint


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for call in (lambda root: fetch("https://localhost/x", root / "x", HASH), lambda root: unpack(root, root)):
        with pytest.raises(DataError, match="a place to write to"):
            call(tmp_path / "file/data")


def test_an_archive_at_hand_is_unpacked_where_the_loader_looks(miniature: Miniature, tmp_path: Path) -> None:
    root, splits = miniature("llvip")
    archive = tmp_path / "LLVIP.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(root / "LLVIP/LLVIP", "LLVIP")
    assert download("llvip", tmp_path / "new", archive=archive).files == 6
    assert load_dataset("llvip", tmp_path / "new").keys == splits["test"]


@pytest.mark.parametrize("name", [n for n in DATASETS.names() if DATASETS.entry(n).target.startswith("tgfbench.")])
def test_steps_are_complete(name: str, tmp_path: Path) -> None:
    source, info = SOURCES.get(name, Source()), DATASETS.load(name).info
    assert source.url is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", source.hash)
    steps = manual_steps(info, source, tmp_path / name)
    text = "\n".join(steps)
    if name in ("sample", "folder"):
        assert "nothing to download" in text
        return
    assert all(word in text for word in (info.licence, info.layout, str(tmp_path), f"verify {name}"))
    places = [source.url, *(r.url for r in source.repositories), *(s.identifier for s in source.shared)]
    assert all(place in text for place in filter(None, places))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nosuch"):
        download("nosuch", tmp_path)


def zipped(path: Path, *names: str, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def tarred(path: Path, *members: tuple[str, bytes, str]) -> Path:
    """Write members (name, tar type, link target)."""
    with tarfile.open(path, "w") as file:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            file.addfile(info, io.BytesIO(b""))
    return path


REGULAR = tarfile.REGTYPE
HOSTILE: dict[str, Callable[[Path], Path]] = {
    "zip parent": lambda d: zipped(d / "a.zip", "ok.txt", "../evil.txt"),
    "zip nested parent": lambda d: zipped(d / "a.zip", "sub/../../evil.txt"),
    "zip absolute": lambda d: zipped(d / "a.zip", "/tmp/evil.txt"),
    "zip drive": lambda d: zipped(d / "a.zip", "C:\\evil.txt"),
    "zip backslash": lambda d: zipped(d / "a.zip", "sub\\..\\..\\evil.txt"),
    "zip stream": lambda d: zipped(d / "a.zip", "a.txt:evil"),
    "zip control": lambda d: zipped(d / "a.zip", "a\nb.txt"),
    "zip long": lambda d: zipped(d / "a.zip", "x" * 5000),
    "zip twice": lambda d: zipped(d / "a.zip", "a.txt", "A.TXT"),
    "zip file and folder": lambda d: zipped(d / "a.zip", "a", "a/b"),
    "zip empty": lambda d: zipped(d / "a.zip"),
    "zip bomb": lambda d: zipped(d / "a.zip", "zeros", content=bytes(3 << 20)),
    "tar parent": lambda d: tarred(d / "a.tar", ("../evil.txt", REGULAR, "")),
    "tar absolute": lambda d: tarred(d / "a.tar", ("/tmp/evil.txt", REGULAR, "")),
    "tar symlink": lambda d: tarred(d / "a.tar", ("link", tarfile.SYMTYPE, ".."), ("link/evil.txt", REGULAR, "")),
    "tar hard link": lambda d: tarred(d / "a.tar", ("link", tarfile.LNKTYPE, "/etc/passwd")),
    "tar device": lambda d: tarred(d / "a.tar", ("null", tarfile.CHRTYPE, "")),
    "tar pipe": lambda d: tarred(d / "a.tar", ("pipe", tarfile.FIFOTYPE, "")),
    "tar folder outside": lambda d: tarred(d / "a.tar", ("../out", tarfile.DIRTYPE, "")),
}


def zip_with_link(folder: Path) -> Path:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.writestr(info, "/etc")
        file.writestr("link/evil.txt", "x")
    return folder / "a.zip"


def zip_that_lies(folder: Path) -> Path:
    """A member that says one byte and holds more."""
    path = zipped(folder / "a.zip", "zeros", content=bytes(100_000))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = (1).to_bytes(4, "little")
    path.write_bytes(data)
    return path


def tar_gz_bomb(folder: Path) -> Path:
    """A first member of 3 MB, all zeros."""
    with tarfile.open(folder / "a.tar.gz", "w:gz", compresslevel=1) as file:
        info = tarfile.TarInfo("zeros")
        info.size = 3 << 20
        file.addfile(info, io.BytesIO(bytes(info.size)))
    return folder / "a.tar.gz"


def tar_with_huge_header(folder: Path) -> Path:
    """A pax header that asks to be read in one piece of 2 GB."""
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 1 << 31
    with gzip.open(folder / "a.tgz", "wb") as file:
        file.write(info.tobuf())
        file.write(bytes(1 << 20))
    return folder / "a.tgz"


def cut_zip(folder: Path) -> Path:
    path = zipped(folder / "a.zip", "a", "b", content=CONTENT)
    data = bytearray(path.read_bytes())
    data[5000:9000] = bytes(4000)
    path.write_bytes(data)
    return path


def no_archive(folder: Path) -> Path:
    (folder / "a.zip").write_bytes(CONTENT)
    return folder / "a.zip"


HOSTILE |= {
    "zip symlink": zip_with_link,
    "zip that lies": zip_that_lies,
    "tar bomb": tar_gz_bomb,
    "tar huge header": tar_with_huge_header,
    "damaged zip": cut_zip,
    "no archive": no_archive,
    "absent": lambda d: d / "absent.zip",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_writes_nothing(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_ALLOWANCE", 1 << 20)
    (tmp_path / "made").mkdir()
    archive = HOSTILE[what](tmp_path / "made")
    folder = tmp_path / "outer/data"
    with pytest.raises(DataError, match=re.escape(str(archive))):
        unpack(archive, folder)
    assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "outer"]
    assert [path.name for path in (tmp_path / "outer").iterdir()] == ["data"]


def test_nothing_is_written_through_a_link_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a link"):
        unpack(zipped(tmp_path / "a.zip", "sub/x.txt"), tmp_path / "data")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_unpacking_again_replaces_and_keeps_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert unpack(zipped(tmp_path / "a.zip", "./a.txt", "sub/b.txt", content=b"old"), folder) == 2
    (folder / "mine.txt").write_text("mine")
    unpack(zipped(tmp_path / "a.zip", "a.txt", content=b"new"), folder)
    contents = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.txt")}
    assert contents == {"a.txt": "new", "sub/b.txt": "old", "mine.txt": "mine"}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_damaged_archives_never_raise_anything_else(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(archive, "a/x.txt", "b.txt", content=CONTENT[:600])
    else:
        with tarfile.open(archive, f"w:{kind[4:]}") as file:
            for name in ("a/x.txt", "b.txt"):
                info = tarfile.TarInfo(name)
                info.size = 600
                file.addfile(info, io.BytesIO(CONTENT[:600]))
    whole, rng = archive.read_bytes(), np.random.default_rng(1)
    refused = 0
    for number in range(120):
        data = bytearray(whole)
        if number % 3 == 0:
            del data[rng.integers(len(data)) :]
        else:
            for at in rng.integers(0, len(data), 1 + number % 7):
                data[at] = rng.integers(256)
        archive.write_bytes(data)
        try:
            unpack(archive, tmp_path / "data")
        except DataError:
            refused += 1
        outside = {path.name for path in tmp_path.iterdir()} - {"data", archive.name}
        assert not outside
    assert refused > 20
