"""What every spec is: frozen, strict, without unknown keys."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

LABEL_PATTERN = r"^([A-Za-z0-9][A-Za-z0-9 ._+=-]{0,47})?$"

Json = dict[str, Any]


class Spec(BaseModel):
    """A frozen, strict set of knobs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Axis(Spec):
    """A value of a suite's axis."""

    label: str = Field(default="", pattern=LABEL_PATTERN, exclude=True)
    """Name in tables, `exclude` and `include`; the kind where it is not given. Not part of the content."""


def content(spec: Spec) -> Json:
    """All knobs of `spec` as plain JSON values, labels left out: what a key hashes."""
    return spec.model_dump(mode="json")


def kind_alone(value: object) -> object:
    """A bare word where a spec of a union stands is its kind."""
    return {"kind": value} if isinstance(value, str) else value


def kind_of(spec: Spec) -> str:
    """The `kind` of a spec of a union; for others the class's name in lower case."""
    return str(getattr(spec, "kind", type(spec).__name__.lower()))
