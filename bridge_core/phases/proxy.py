"""Phase `proxy`: the public part of a source, as tensors."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.data import is_heldout, load_images, proxy_part, save_images
from bridge_core.facts import Fact, write_facts

FILE = "proxy.safetensors"


def run(spec: s.ProxyPhase, out: Path) -> None:
    """Write the proxy images; a share of them, told by their digests, is kept from every training."""
    part = proxy_part(load_images(spec.source, spec.image_size, spec.channels))
    save_images(part, out / FILE)
    heldout = int(is_heldout(part).sum())
    write_facts([Fact("num_images", len(part)), Fact("num_heldout", heldout)], out)
