"""Phase `text_base`: the public language model that the victim adapts, with its tokenizer."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import text_proxy
from bridge_core.text.corpus import read_sentences
from bridge_core.text.models import build_language, save_language


def run(spec: s.TextBasePhase, proxy: Path, out: Path) -> None:
    """Build a small model whose vocabulary is the proxy's, or load a pretrained one; write it as a plain folder."""
    language = build_language(spec.model, read_sentences(proxy / text_proxy.FILE).texts, spec.num_classes)
    save_language(language, out)
    parameters = sum(p.numel() for p in language.model.parameters())
    write_facts([Fact("num_parameters", parameters), Fact("vocabulary", len(language.tokenizer))], out)
