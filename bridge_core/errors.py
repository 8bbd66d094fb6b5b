"""Everything a user can cause, as one tree; each leaf knows its exit code.

    BridgeError                 exit 1
    ├── InvalidInput            exit 2   the request itself is wrong: nothing was written
    │   ├── InvalidSuite                 unknown key, wrong type, empty axis, rank larger than a layer
    │   ├── UnknownName                  a model, data set, module or file that is not there
    │   └── UnsafeAdapter                a release that must not be read: a pickle, a link out of the folder
    ├── StoreLocked             exit 3   another driver holds the store
    ├── StoreFault              exit 1   the store can not be read or written
    ├── CorruptArtefact         exit 1   a checksum does not hold: quarantined, made again by the next run
    ├── NotApplicable           exit 1   the attack's conditions do not hold for this release
    └── Diverged                exit 1   a loss became NaN or infinite

A message has three parts: what was found, what was wanted, what to do.
"""

from typing import ClassVar


class BridgeError(Exception):
    """Found, wanted, remedy: one line for a person, and an exit code for a script."""

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, wanted: str = "", remedy: str = "") -> None:
        self.found, self.wanted, self.remedy = found, wanted, remedy
        super().__init__(found, wanted, remedy)

    def __str__(self) -> str:
        wanted = f"; wanted {self.wanted}" if self.wanted else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return " ".join(f"{self.found}{wanted}{remedy}".split())


class InvalidInput(BridgeError):
    """The request is wrong; nothing was written."""

    exit_code = 2


class InvalidSuite(InvalidInput):
    """A suite file that can not be turned into cells."""


class UnknownName(InvalidInput):
    """A model, data set, module or file that is not there."""


class UnsafeAdapter(InvalidInput):
    """A release that must not be read."""


class StoreLocked(BridgeError):
    """Another driver holds the store."""

    exit_code = 3


class StoreFault(BridgeError):
    """The store can not be read or written."""


class CorruptArtefact(BridgeError):
    """An artefact whose checksums do not hold."""


class NotApplicable(BridgeError):
    """The attack's conditions do not hold for this release."""


class Diverged(BridgeError):
    """A loss became NaN or infinite."""
