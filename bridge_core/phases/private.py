"""Phase `private`: the part of a source that no proxy image stands in, as tensors."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.data import load_images, overlap, private_part, read_images, save_images
from bridge_core.errors import InvalidInput
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import proxy as proxy_phase

FILE = "private.safetensors"


def run(spec: s.PrivatePhase, proxy: Path, out: Path) -> None:
    """Write the private images, and as a fact how many of them the proxy holds: always 0."""
    public = read_images(proxy / proxy_phase.FILE)
    part = private_part(load_images(spec.source, spec.image_size, spec.channels), public)
    if not len(part):
        raise InvalidInput(
            f"every image of {spec.source.kind} stands in the proxy", "private images", "name another source"
        )
    save_images(part, out / FILE)
    write_facts([Fact("num_images", len(part)), Fact("overlap", overlap(part, public))], out)
