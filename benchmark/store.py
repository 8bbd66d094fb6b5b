"""Artefacts on disk: whole or absent, checksummed, found by key. The truth of a run.

A task writes into a folder under `temp/`, and `commit` moves it under its key in one step. What does not match its
checksums is moved to `quarantine/` and made again.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path

from pydantic import ValidationError

from benchmark.lock import Owner, hold, owner_of
from benchmark.manifest import (
    MANIFEST_FILE,
    FileRecord,
    Manifest,
    first_problem,
    is_genuine,
    payload,
    seal,
    signed_text,
    sync_folder,
    write_durably,
)
from bridge_core.errors import CorruptArtefact, StoreFault, UnknownName

__all__ = ["FORMAT", "FileRecord", "Manifest", "Owner", "Store"]

FORMAT = 2
"""1: manifests without a digest of their own, which are read as they are. 2: with one."""
SMALL_BYTES = 1 << 16
"""Files up to this size are checked by checksum at every look, larger ones by size."""


@contextmanager
def _faults(root: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreFault(f"{error.filename or root}: {reason}", "a store that can be read and written") from error


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


@dataclass(frozen=True)
class Store:
    """A store's folder."""

    root: Path

    @classmethod
    def open(cls, path: Path, create: bool = True) -> "Store":
        """Open the store in `path`; with `create`, make it where the folder is absent or empty.

        Raises `UnknownName` where there is none and none is to be made, `StoreFault` where the folder is something
        else, is of a newer format, or can not be read or written.
        """
        store = cls(path.absolute())
        with _faults(path):
            if not (store.root / "format.json").exists():
                store._make(create)
            store._check_format()
        return store

    def _make(self, create: bool) -> None:
        if not create:
            raise UnknownName(f"no store in {self.root}", "a store's folder", "`bridge bench run` makes one")
        self.root.mkdir(parents=True, exist_ok=True)
        stranger = next((entry.name for entry in self.root.iterdir() if not entry.name.startswith(".format")), None)
        if stranger is not None and stranger != "format.json":
            found = f"{self.root} holds {stranger!r} and is no store"
            raise StoreFault(found, "an empty folder or a store", "give another --store")
        write_durably(self.root / "format.json", json.dumps({"format": FORMAT}) + "\n")

    def _check_format(self) -> None:
        path = self.root / "format.json"
        try:
            found = int(json.loads(path.read_bytes())["format"])
        except (ValueError, TypeError, KeyError) as error:
            raise StoreFault(
                f"{path} is damaged", f'{{"format": {FORMAT}}}', "mend it or give another --store"
            ) from error
        if found < 1:
            raise StoreFault(f"{self.root} has store format {found}", f"1 to {FORMAT}", "give another --store")
        if found > FORMAT:
            remedy = "use the newer program that made it, or give another --store"
            raise StoreFault(f"{self.root} has store format {found}", f"format {FORMAT} or older", remedy)

    # --- reading ------------------------------------------------------------------------------------------------------

    def path(self, key: str) -> Path:
        """Folder of the artefact `key`, there or not."""
        return self.root / "artefacts" / key[:2] / key

    def has(self, key: str) -> bool:
        """Whether the artefact is there. A commit is one step, so it is whole unless the disk has failed it."""
        return (self.path(key) / MANIFEST_FILE).is_file()

    def keys(self) -> Iterator[str]:
        """Keys of all artefacts, sorted."""
        for shelf in sorted(_names(self.root / "artefacts")):
            for key in sorted(_names(self.root / "artefacts" / shelf)):
                if os.path.exists(f"{self.root}/artefacts/{shelf}/{key}/{MANIFEST_FILE}"):
                    yield key

    def manifest(self, key: str) -> Manifest:
        """The artefact's manifest.

        Raises `CorruptArtefact` where it is damaged or of another artefact, `UnknownName` where it is not there.
        """
        path = self.path(key) / MANIFEST_FILE
        try:
            with _faults(self.root):
                raw = path.read_bytes()
            manifest = Manifest.model_validate_json(raw)
        except ValidationError as error:
            raise CorruptArtefact(f"{path} is damaged", remedy="run the suite again") from error
        except StoreFault:
            if path.exists():
                raise
            raise UnknownName(f"no artefact {key} in {self.root}") from None
        if not is_genuine(raw, manifest):
            raise CorruptArtefact(f"{path} does not match its own digest", remedy="run the suite again")
        if manifest.key != key:
            raise CorruptArtefact(f"{path} is of {manifest.key}", remedy="run the suite again")
        return manifest

    def problem(self, key: str, full: bool = False) -> str | None:
        """What is wrong with an artefact that is there: sizes, and checksums of small files, or of all with `full`."""
        try:
            manifest = self.manifest(key)
            with _faults(self.root):
                return first_problem(self.path(key), manifest, inf if full else SMALL_BYTES)
        except UnknownName:
            return f"{MANIFEST_FILE} is missing"
        except (CorruptArtefact, StoreFault) as error:
            return str(error)

    # --- writing ------------------------------------------------------------------------------------------------------

    def begin(self, key: str) -> Path:
        """A fresh temporary folder for the artefact `key`, on the store's file system."""
        with _faults(self.root):
            (self.root / "temp").mkdir(exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"{key}-", dir=self.root / "temp"))

    def commit(self, temporary: Path, manifest: Manifest) -> bool:
        """Seal `temporary` with its manifest and move it under the manifest's key, all or nothing.

        False where the artefact was there already: the first one stays. Raises `StoreFault`.
        """
        final = self.path(manifest.key)
        with _faults(self.root):
            sealed = manifest.model_copy(update={"files": seal(temporary)})
            write_durably(temporary / MANIFEST_FILE, signed_text(sealed))
            for folder in {path.parent for path in payload(temporary)} - {temporary}:
                sync_folder(folder)
            os.chmod(temporary, 0o755)
            if not final.parent.is_dir():
                final.parent.mkdir(parents=True, exist_ok=True)
                sync_folder(final.parent.parent)
            try:
                temporary.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                shutil.rmtree(temporary)
                return False
            sync_folder(final.parent)
            return True

    def discard(self, temporary: Path) -> None:
        """Remove a temporary folder that was not committed."""
        shutil.rmtree(temporary, ignore_errors=True)

    def sweep(self, key: str = "") -> None:
        """Remove temporary folders that a dead process has left: of `key`, or all. Only for the holder of the lock."""
        for path in self.root.glob(f"temp/{key}*"):
            self.discard(path)

    # --- keeping ------------------------------------------------------------------------------------------------------

    def verify(self, key: str, full: bool = True) -> str | None:
        """Check an artefact and quarantine it where it is corrupt; what was wrong, or None."""
        problem = self.problem(key, full)
        if problem is not None:
            self._quarantine(key, problem)
        return problem

    def verify_all(self) -> dict[str, str]:
        """Check all artefacts by checksum; key -> what was wrong, of those that are in quarantine now."""
        folders = sorted(path.name for path in self.root.glob("artefacts/??/*"))
        problems = {key: self.verify(key) for key in folders}
        return {key: problem for key, problem in problems.items() if problem is not None}

    def _quarantine(self, key: str, problem: str) -> None:
        with _faults(self.root):
            cells = self.root / "quarantine"
            cells.mkdir(exist_ok=True)
            number = 1
            while (cells / f"{key}-{number}").exists():
                number += 1
            place = cells / f"{key}-{number}"
            self.path(key).rename(place)
            write_durably(place / "problem.txt", problem + "\n")

    def size(self, key: str) -> int:
        """Bytes of the artefact's files, by its manifest."""
        return sum(file.size for file in self.manifest(key).files.values())

    def gc(self, keep: AbstractSet[str]) -> tuple[str, ...]:
        """Remove all artefacts but those in `keep`, and the quarantine; the keys of what went."""
        removed = tuple(key for key in self.keys() if key not in keep)
        with _faults(self.root):
            for key in removed:
                # Out of sight in one step, so that a reader never meets half of an artefact.
                self.path(key).rename(self.begin(key) / key)
            shutil.rmtree(self.root / "quarantine", ignore_errors=True)
        self.sweep()
        return removed

    @contextmanager
    def lock(self, suite: str) -> Generator[Owner, None, None]:
        """Hold the store for one driver; what dead drivers left half done is swept.

        Raises `StoreLocked` naming host, process and since when.
        """
        with hold(self.root / "lock", suite) as owner:
            self.sweep()
            self._migrate()
            yield owner

    def _migrate(self) -> None:
        """Tell older programs to keep out, before the first artefact that they could not read."""
        with _faults(self.root):
            if json.loads((self.root / "format.json").read_bytes())["format"] != FORMAT:
                write_durably(self.root / "format.json", json.dumps({"format": FORMAT}) + "\n")

    def owner(self) -> Owner | None:
        """Who holds the store now; None where nobody does."""
        return owner_of(self.root / "lock")
