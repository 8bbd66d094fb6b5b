"""What labels stand for: the knobs of the first one in full, of the others what differs."""

from collections.abc import Iterator, Mapping

Knobs = Mapping[str, str]
"""Name, with its parts joined by dots -> value."""


def legend_notes(header: str, labels: Mapping[str, Knobs]) -> Iterator[str]:
    """One note a label; one of another kind than the first is told in full as well."""
    first: tuple[str, Knobs] | None = None
    for label, knobs in labels.items():
        changed = None if first is None else _changed(first[1], knobs)
        if first is None or changed is None:
            yield f"{header} {label}: {_joined(knobs) or 'no knobs'}."
            first = first or (label, knobs)
        else:
            yield f"{header} {label}: as {first[0]}{f', but {_joined(changed)}' if changed else ''}."


def _changed(first: Knobs, knobs: Knobs) -> Knobs | None:
    """What `knobs` has that `first` has not; None where they are better told in full.

    A knob that only `first` has needs no word where the part that it belongs to is of another kind.
    """
    changed = {name: value for name, value in knobs.items() if first.get(name) != value}
    kinds = tuple(name.removesuffix("kind") for name in changed if name.rpartition(".")[2] == "kind")
    gone = [name for name in first if name not in knobs and not name.startswith(kinds or ("\0",))]
    return None if gone or "" in kinds else changed


def _joined(knobs: Knobs) -> str:
    return ", ".join(f"{name}={value}" for name, value in knobs.items())
