"""Fetching over a loopback server, unpacking friendly and hostile archives, and the steps by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.datasets import DATASETS, archives, load_dataset
from tgfbench.datasets import download as module
from tgfbench.datasets.archives import unpack
from tgfbench.datasets.download import download, fetch
from tgfbench.datasets.sources import SOURCES, Source

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
    with pytest.raises(DataError, match="of 300000 bytes") as caught:
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


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/f", "data:,x", "/etc/passwd"])
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another kind"):
        fetch(url, tmp_path / "f", HASH)


def test_a_dataset_is_fetched_unpacked_and_opens(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, splits = miniature("tno")
    archive = tmp_path / "tno.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((root / "TNO").rglob("*")):
            file.write(path, path.relative_to(root / "TNO"))
    digest = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
    monkeypatch.setitem(SOURCES, "tno", Source(url=archive.as_uri(), file="tno.zip", hash=digest))
    outcome = download("TNO", tmp_path / "new")
    assert outcome.steps == ()
    assert outcome.files == sum(path.is_file() for path in root.rglob("*"))
    assert load_dataset("tno", tmp_path / "new").keys == splits["test"]
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["TNO_Image_Fusion_Dataset"]


def test_an_archive_at_hand_is_unpacked_where_the_loader_looks(miniature: Miniature, tmp_path: Path) -> None:
    root, splits = miniature("llvip")
    archive = tmp_path / "LLVIP.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(root / "LLVIP/LLVIP", "LLVIP")
    assert download("llvip", tmp_path / "new", archive=archive).files == 6
    assert load_dataset("llvip", tmp_path / "new").keys == splits["test"]


@pytest.mark.parametrize("name", [n for n in DATASETS.names() if DATASETS.entry(n).target.startswith("tgfbench.")])
def test_what_cannot_be_fetched_has_steps(name: str, tmp_path: Path) -> None:
    source = SOURCES.get(name)
    if source is not None and source.url is not None:
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", source.hash)
        return
    outcome = download(name, tmp_path)
    assert outcome.files == 0
    assert outcome.steps
    if name not in ("sample", "folder"):
        text = "\n".join(outcome.steps)
        info = DATASETS.load(name).info
        assert all(word in text for word in (info.licence, info.layout, str(tmp_path), f"verify {name}"))
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
