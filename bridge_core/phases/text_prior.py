"""Phase `text_prior`: what the proxy's sentences say of tokens and of their order. The controls, and a prior."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.errors import InvalidInput
from bridge_core.facts import Fact, write_facts
from bridge_core.phases import text_proxy
from bridge_core.text.batches import encode
from bridge_core.text.controls import Controls, fit_controls, read_controls, save_controls
from bridge_core.text.corpus import is_heldout, read_sentences
from bridge_core.text.models import read_language


def run(spec: s.TextPriorPhase, base: Path, proxy: Path, out: Path) -> None:
    """Count tokens and pairs of tokens over the proxy, but for its held-out part."""
    language, sentences = read_language(base), read_sentences(proxy / text_proxy.FILE)
    kept = encode(language, sentences[~is_heldout(sentences)], spec.dataset).sentences()
    if not kept:
        found = f"no proxy sentence of {spec.dataset.min_tokens} to {spec.dataset.max_tokens} tokens"
        raise InvalidInput(found, "one at least", "widen min_tokens to max_tokens, or name a larger proxy")
    save_controls(fit_controls(kept, language.vocabulary), out)
    write_facts([Fact("num_sentences", len(kept)), Fact("num_tokens", sum(map(len, kept)))], out)


def read(folder: Path) -> Controls:
    """Read what the phase wrote."""
    return read_controls(folder)
