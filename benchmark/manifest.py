"""What an artefact says of itself: how it was made, and the checksum of every file."""

import hashlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

MANIFEST_FILE = "manifest.json"
CHUNK_BYTES = 1 << 20


class FileRecord(BaseModel):
    """A file of an artefact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int
    """Bytes."""


class Manifest(BaseModel):
    """How an artefact was made, and what it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    key: str
    phase: str
    spec: dict[str, Any]
    inputs: dict[str, str]
    """Role -> key."""
    code_version: str
    seconds: float
    created: datetime
    """When the task ended, UTC."""
    attempt: int
    worker: str
    versions: dict[str, str] = {}
    """Python and the libraries that decide numbers."""
    warnings: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    """Means of the facts that are not curves; NaN is written as the string "NaN"."""
    files: dict[str, FileRecord] = {}
    """Path inside the artefact -> its record; filled by the store."""
    digest: str = ""
    """SHA-256 of the manifest file without these digits; filled by the store. Empty in stores of format 1."""


def seal(folder: Path) -> dict[str, FileRecord]:
    """The records of all files in `folder`, each of them flushed to the disk."""
    return {path.relative_to(folder).as_posix(): _record(path, sync=True) for path in payload(folder)}


def signed_text(manifest: Manifest) -> str:
    """The manifest file, with the digest of all the rest of it."""
    bare = manifest.model_copy(update={"digest": ""}).model_dump_json(indent=1) + "\n"
    before, empty, after = bare.rpartition('"digest": ""')
    assert empty, "the digest is the last field"
    return f'{before}"digest": "{hashlib.sha256(bare.encode()).hexdigest()}"{after}'


def is_genuine(raw: bytes, manifest: Manifest) -> bool:
    """Whether the manifest file `raw` is as it was written; one of format 1 can not tell."""
    bare = raw.replace(manifest.digest.encode(), b"") if manifest.digest else b""
    return not manifest.digest or hashlib.sha256(bare).hexdigest() == manifest.digest


def payload(folder: Path) -> Iterator[Path]:
    """The files of an artefact but its manifest, at any depth, sorted."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST_FILE)


def first_problem(folder: Path, manifest: Manifest, small_bytes: float) -> str | None:
    """What does not hold in `folder`: sizes always, checksums up to files of `small_bytes`. None where all holds."""
    for name, wanted in manifest.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            return f"{name} is missing"
        if size != wanted.size:
            return f"{name} has {size} bytes, not {wanted.size}"
        if size <= small_bytes and _record(path).sha256 != wanted.sha256:
            return f"{name} does not match its checksum"
    return None


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, text: str) -> None:
    """Write a small file so that it is either whole on the disk or not there."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def _record(path: Path, sync: bool = False) -> FileRecord:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        if sync:
            os.fsync(file.fileno())
    return FileRecord(sha256=digest.hexdigest(), size=size)
