"""Phase `text_proxy`: the public part of a source of sentences."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.facts import Fact, write_facts
from bridge_core.text.corpus import is_heldout, load_sentences, proxy_part, save_sentences

FILE = "proxy.parquet"


def run(spec: s.TextProxyPhase, out: Path) -> None:
    """Write the proxy sentences; a share of them, told by their digests, is kept from every training."""
    part = proxy_part(load_sentences(spec.source, spec.num_classes))
    save_sentences(part, out / FILE)
    write_facts([Fact("num_sentences", len(part)), Fact("num_heldout", int(is_heldout(part).sum()))], out)
