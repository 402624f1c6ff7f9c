"""Fetch a dataset's raw files: from the local mirror, an earlier fetch, a URL, or a wheel of a package index."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from recgraph.data.download import download, unpack, unpack_gzip, verify
from recgraph.errors import DataError
from recgraph.files import digest, in_turn

MAX_BYTES = 2 * 2**30
"""Default limit of a download, and of what is unpacked from it: MovieLens-32M unpacks to about 1 GB."""

_WHEEL_SECONDS = 300  # pip gives up on a dead index within seconds; this limit ends a very slow download

_logger = logging.getLogger(__name__)


def _inside(name: str) -> str:
    if PurePosixPath(name).is_absolute() or not name or {"..", "."} & set(name.split("/")) or "\\" in name:
        raise ValueError("expected a path inside the dataset's folder")
    return name


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Url = Annotated[str, Field(pattern="^https?://")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Digests = Annotated[tuple[Digest, ...], BeforeValidator(_listed)]
"""Accepted SHA-256 digests of a file: one, several (a mirror's file may differ from the public one), or none if
unknown."""


class Remote(BaseModel):
    """A file to download.

    Attributes:
        url: http or https.
        sha256: accepted digests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url
    sha256: Digests = ()


class SourceFile(BaseModel):
    """The source and digests of one file of a form; without url and member, it comes from a mirror or by hand.

    Attributes:
        url: of the file itself; a `.gz` is unpacked unless the file's own name also ends in `.gz`.
        member: path inside the form's archive or wheel.
        sha256: accepted digests of the unpacked file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url | None = None
    member: str | None = None
    sha256: Digests = ()


class Form(BaseModel):
    """One form in which a dataset is published: files that belong together.

    Attributes:
        files: path under the dataset's folder -> source; all are required.
        archive: zip or tar that contains the files with a `member`.
        wheel: pinned package, such as "recbole==1.2.1", whose wheel contains them.
        max_bytes: limit on the size of each download, and on the total size unpacked from it.
        mirror: folder of the files in the local mirror; None for the dataset's name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[Annotated[str, AfterValidator(_inside)], SourceFile] = Field(min_length=1)
    archive: Remote | None = None
    wheel: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.]+$")
    max_bytes: int = Field(default=MAX_BYTES, gt=0)
    mirror: Annotated[str, AfterValidator(_inside)] | None = None

    @model_validator(mode="after")
    def _members_have_a_home(self) -> Form:
        if self.archive and self.wheel:
            raise ValueError("a form has an archive or a wheel, not both")
        for name, file in self.files.items():
            if file.url and file.member:
                raise ValueError(f"files.{name}: a url or a member, not both")
            if file.member and not (self.archive or self.wheel):
                raise ValueError(f"files.{name}: a member needs the form's archive or wheel")
        return self


@dataclass(frozen=True)
class Fetched:
    """What `fetch` found.

    Attributes:
        folder: holds every file of the form.
        form: name of the form.
    """

    folder: Path
    form: str


def fetch(folder: str, forms: Mapping[str, Form], root: Path) -> Fetched:
    """Find or download the files of one form.

    Sources are tried in this order, each for all forms in order: `<RECGRAPH_MIRROR>/<folder>/`, or the form's own
    `mirror` folder there, used in place; `<root>/raw/<folder>/`; the URLs; the wheels.

    Raises:
        DataError: all sources failed; lists each with the reason, and says how to supply the files by hand.
    """
    raw = root / "raw" / folder
    mirror = os.environ.get("RECGRAPH_MIRROR")
    failures = [] if mirror else ["the local mirror: RECGRAPH_MIRROR is not set"]
    for top in [Path(mirror).expanduser(), None] if mirror else [None]:
        for name, form in forms.items():
            place = top / (form.mirror or folder) if top else raw
            faults = _faults(place, form)
            if not faults:
                return Fetched(place, name)
            failures.append(f"{place} (form {name}): {'; '.join(faults.values())}")
            if wrong := [fault for file, fault in faults.items() if (place / file).exists()]:
                _logger.warning("%s is not used: %s", place, "; ".join(wrong))
    for name, form in sorted(forms.items(), key=lambda entry: entry[1].wheel is not None):
        try:
            with in_turn(raw):  # another process may be fetching the same files
                _get(form, raw)
        except (DataError, OSError) as error:
            failures.append(f"download (form {name}): {error}")
        else:
            return Fetched(raw, name)
    tried = "\n".join(f"- {failure}" for failure in failures)
    wanted = "\n".join(f"- {name}: {', '.join(form.files)}" for name, form in forms.items())
    raise DataError(
        f"{folder}: no source gave its files. Tried:\n{tried}\n"
        f"To supply them by hand, put all files of one form into {raw.absolute()}:\n{wanted}"
    )


def _faults(place: Path, form: Form) -> dict[str, str]:
    """File -> what is wrong with it in this folder, for the files of a form."""
    faults = {}
    for name, file in form.files.items():
        if not (place / name).is_file():
            faults[name] = f"{name} is missing"
            continue
        try:
            verify(place / name, file.sha256, name)
        except DataError as error:
            faults[name] = str(error)
    return faults


def _get(form: Form, raw: Path) -> None:
    """Download the files of a form that a folder lacks; each gets its name only once it is complete and verified."""
    lacking = {name: form.files[name] for name in _faults(raw, form)}
    if nowhere := [name for name, file in lacking.items() if not file.url and not file.member]:
        raise DataError(f"no address is known for {', '.join(nowhere)}")
    for name, file in lacking.items():
        if file.url and file.url.endswith(".gz") and not name.endswith(".gz"):
            with _downloaded(Remote(url=file.url), raw, form.max_bytes, resume=bool(file.sha256)) as packed:
                unpack_gzip(packed, raw / name, max_bytes=form.max_bytes, digests=file.sha256)
        elif file.url:
            download(file.url, raw / name, max_bytes=form.max_bytes, digests=file.sha256, resume=bool(file.sha256))
    members = {raw / name: (file.member, file.sha256) for name, file in lacking.items() if file.member}
    if not members:
        return
    if form.wheel:
        with tempfile.TemporaryDirectory() as scratch:
            unpack(_wheel(form.wheel, Path(scratch)), members, max_bytes=form.max_bytes)
    elif form.archive:
        checked = all(digests for _, digests in members.values())
        with _downloaded(form.archive, raw, form.max_bytes, resume=checked) as archive:
            unpack(archive, members, max_bytes=form.max_bytes)


@contextmanager
def _downloaded(remote: Remote, raw: Path, max_bytes: int, *, resume: bool) -> Iterator[Path]:
    """A temporary download; set `resume` if all that is unpacked from it has digests."""
    path = raw / f".{digest(remote.url)}"
    resume = resume or bool(remote.sha256)
    try:
        download(remote.url, path, max_bytes=max_bytes, digests=remote.sha256, resume=resume)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _wheel(requirement: str, scratch: Path) -> Path:
    """Download a wheel with pip, from the indexes that it is configured for; nothing is installed."""
    options = "--no-deps --only-binary=:all: --no-input --quiet --disable-pip-version-check --timeout=5 --retries=1"
    command = [sys.executable, "-m", "pip", "download", *options.split(), f"--dest={scratch}", requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WHEEL_SECONDS)
    except subprocess.TimeoutExpired:
        raise DataError(f"pip download {requirement}: not done after {_WHEEL_SECONDS} seconds") from None
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = [line for line in done.stderr.splitlines() if line.strip()] or [f"{len(wheels)} wheels came"]
        raise DataError(f"pip download {requirement}: {reason[-1]}")
    return wheels[0]
