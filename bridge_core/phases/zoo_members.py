"""Phase `zoo_members`: adapters trained on micro-datasets of the proxy's held-out part, which no training has seen."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bridge_core import spec as s
from bridge_core.data import is_heldout, read_images
from bridge_core.estimate.members import Member, micro_datasets, train_members
from bridge_core.facts import Fact, write_facts
from bridge_core.models import load_base
from bridge_core.phases import Progress, proxy

INDEX_FILE, ADAPTERS = "members.json", "adapters"


def run(spec: s.ZooMembersPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Write PEFT folders and a list of them with micro-dataset and size."""
    model, _ = load_base(spec.model, inputs["base"])
    images = read_images(inputs["proxy"] / proxy.FILE)
    every = micro_datasets(images[is_heldout(images)], spec.micro_datasets, max(spec.sizes), spec.seed)
    groups = [*enumerate(every)][spec.first : spec.last]
    made = train_members(model, spec, groups, out / ADAPTERS, progress)
    (out / INDEX_FILE).write_text(json.dumps([asdict(one) for one in made], indent=1))
    write_facts([Fact("num_adapters", len(made))], out)


def read_members(folder: Path) -> list[tuple[Path, Member]]:
    """The PEFT folders of an artefact."""
    listed = json.loads((folder / INDEX_FILE).read_text())
    return [(folder / ADAPTERS / one["folder"], Member(**one)) for one in listed]
