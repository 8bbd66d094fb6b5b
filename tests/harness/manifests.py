"""Manifests for tests that put artefacts into a store by hand."""

from datetime import UTC, datetime

from benchmark.graph import Task
from benchmark.manifest import Manifest
from bridge_core import spec as s


def manifest_of(task: Task) -> Manifest:
    """A manifest as a worker would write it."""
    return Manifest(
        key=task.key,
        phase=task.phase,
        spec=s.content(task.spec),
        inputs=task.inputs,
        code_version=task.code_version,
        seconds=0.5,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        attempt=1,
        worker="0",
        metrics={"loss": float("nan")},
    )
