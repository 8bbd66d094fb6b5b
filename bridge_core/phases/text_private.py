"""Phase `text_private`: the part of a source of sentences that stands in no proxy."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.errors import InvalidInput
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import text_proxy
from bridge_core.text.corpus import load_sentences, overlap, private_part, read_sentences, save_sentences

FILE = "private.parquet"


def run(spec: s.TextPrivatePhase, proxy: Path, out: Path) -> None:
    """Write the private sentences, and as a fact how many of them the proxy holds: always 0."""
    public = read_sentences(proxy / text_proxy.FILE)
    part = private_part(load_sentences(spec.source, spec.num_classes), public)
    if not len(part):
        found = f"every sentence of {spec.source.kind} stands in the proxy"
        raise InvalidInput(found, "private sentences", "name another source")
    save_sentences(part, out / FILE)
    write_facts([Fact("num_sentences", len(part)), Fact("overlap", overlap(part, public))], out)
