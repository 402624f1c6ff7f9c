"""Download files and unpack archives; a file gets its final name only once it is complete and verified."""

from __future__ import annotations

import difflib
import functools
import hashlib
import http.client
import lzma
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Collection, Mapping
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from recgraph.errors import DataError
from recgraph.files import replacing

CONNECT_SECONDS = 5.0
"""Timeout of connecting: a live host answers in well under a second, and a dead one may have several addresses."""

STALL_SECONDS = 20.0
"""Timeout of waiting for the next bytes: slow storage behind a live server can take several seconds to start."""

_ATTEMPTS = 3  # if the connection is cut, and only while each attempt brings bytes
_CHUNK = 1 << 16


def verify(path: Path, digests: Collection[str], name: str = "") -> None:
    """Check that the SHA-256 of a file is one of `digests`; if these are empty, any file passes.

    Raises:
        DataError: it is not; gives the digest found, and calls the file `name`, if given.
    """
    if digests:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found not in digests:
            raise DataError(f"{name or path.name}: its sha256 is {found}, expected {' or '.join(digests)}")


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int,
    digests: Collection[str] = (),
    resume: bool = True,
    connect: float = CONNECT_SECONDS,
    stall: float = STALL_SECONDS,
) -> None:
    """Download `url` to `target` via `<target>.part`, with a progress bar on a terminal.

    Args:
        url: http or https.
        max_bytes: larger files are refused.
        digests: accepted SHA-256 digests of the file.
        resume: continue the `.part` of an earlier run. Only for files whose digest is checked, here or after unpacking:
            otherwise halves of two versions of a file could be joined unnoticed.
        connect: seconds to wait for the host.
        stall: seconds to wait for the next bytes.

    Raises:
        DataError: the host or the connection failed (the `.part` is kept), the file is too large or has another
            digest, or the URL is not http.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: only http and https are fetched")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    if not resume:
        part.unlink(missing_ok=True)
    opener = _opener(stall)
    for attempt in range(1, _ATTEMPTS + 1):
        before = _size(part)
        try:
            _transfer(opener, url, part, max_bytes, connect)
            break
        except (OSError, http.client.HTTPException) as error:
            if attempt == _ATTEMPTS or _size(part) <= before:
                reason = str(error).removeprefix("<urlopen error ").removesuffix(">") or type(error).__name__
                raise DataError(f"{url}: {reason}") from error
        except DataError:
            part.unlink(missing_ok=True)
            raise
    try:
        verify(part, digests, url)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def unpack(archive: Path, members: Mapping[Path, tuple[str, Collection[str]]], *, max_bytes: int) -> None:
    """Copy members of a zip or tar archive to files; nothing else is written, whatever the archive contains.

    Args:
        members: file to write -> (path inside the archive, accepted SHA-256 digests).
        max_bytes: limit on the total size of the files written.

    Raises:
        DataError: the archive is damaged, or a member is missing, not a regular file, too large, or has another digest.
    """
    try:
        with _opened(archive) as opened:
            for target, (member, digests) in members.items():
                with _member(opened, member) as source, replacing(target) as temporary:
                    max_bytes -= _copy(source, temporary, max_bytes, member)
                    verify(temporary, digests, member)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise DataError(f"{archive.name}: damaged archive: {error}") from None


def unpack_gzip(archive: Path, target: Path, *, max_bytes: int, digests: Collection[str] = ()) -> None:
    """Write the content of a gzipped file to `target`; arguments and errors as in `unpack`."""
    try:
        with GzipFile(archive) as source, replacing(target) as temporary:
            _copy(source, temporary, max_bytes, target.name)
            verify(temporary, digests, target.name)
    except (BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive.name}: damaged gzip: {error}") from None


def _opened(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    if zipfile.is_zipfile(archive):
        return zipfile.ZipFile(archive)
    if tarfile.is_tarfile(archive):
        return tarfile.open(archive)
    raise DataError(f"{archive.name}: neither a zip nor a tar archive")


def _member(archive: zipfile.ZipFile | tarfile.TarFile, name: str) -> IO[bytes]:
    """Open a regular file in an archive; folders, links and devices are refused."""
    names = archive.namelist() if isinstance(archive, zipfile.ZipFile) else archive.getnames()
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        raise DataError(f"the archive holds no {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
    source: IO[bytes] | None = None
    if isinstance(archive, tarfile.TarFile):
        source = archive.extractfile(name) if archive.getmember(name).isreg() else None
    elif not archive.getinfo(name).is_dir() and not stat.S_ISLNK(archive.getinfo(name).external_attr >> 16):
        source = archive.open(name)
    if source is None:
        raise DataError(f"{name!r} is not a regular file in the archive")
    return source


def _copy(source: IO[bytes] | GzipFile, target: Path, limit: int, name: str) -> int:
    """Copy a stream to a file and return its size; refuse more than `limit` bytes, whatever a header states."""
    size = 0
    with target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise DataError(f"{name}: unpacks to more than the limit `max_bytes` allows")
            file.write(chunk)
    return size


def _transfer(opener: urllib.request.OpenerDirector, url: str, part: Path, max_bytes: int, connect: float) -> None:
    """Download the bytes that `part` lacks; start over if the server does not support ranges."""
    start = _size(part)
    headers = {"User-Agent": "recgraph", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=connect)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        part.unlink()  # it is as long as the file or longer, so not the beginning of it
        _transfer(opener, url, part, max_bytes, connect)
        return
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise DataError(f"{url}: asked for bytes from {start}, got {response.headers['Content-Range']}")
        total = None if response.length is None else start + response.length
        with part.open("ab" if start else "wb") as file, _progress() as progress:
            bar = progress.add_task(url.rpartition("/")[2], total=total, completed=start)
            size = start
            # read1 returns what has arrived; read would wait for a full chunk and lose it if the server stalls
            while max(size, total or 0) <= max_bytes and size != total and (chunk := response.read1(_CHUNK)):
                size += len(chunk)
                file.write(chunk)
                progress.update(bar, completed=size)
    if max(size, total or 0) > max_bytes:
        raise DataError(f"{url}: larger than {max_bytes:,} bytes, the limit `max_bytes`")
    if total is not None and size < total:
        raise ConnectionError(f"the connection was cut after {size:,} of {total:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class _Connection(http.client.HTTPConnection):
    """A connection with a separate timeout for data, longer than that of connecting."""

    def __init__(self, host: str, *, stall: float, **options: Any) -> None:
        super().__init__(host, **options)
        self.stall = stall

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self.stall)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same over TLS."""


def _opener(stall: float) -> urllib.request.OpenerDirector:
    """An opener of http and https only, also in redirects: urllib's own opener also reads files and ftp."""

    class Http(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(_Connection, stall=stall), request)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(_SecureConnection, stall=stall), request)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        Http(),
        Https(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
