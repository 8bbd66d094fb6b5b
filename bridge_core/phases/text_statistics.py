"""Phase `text_statistics`: mean gradient and second moment of gradient rows over proxy sentences."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.errors import InvalidInput
from bridge_core.facts import Fact, write_facts
from bridge_core.models import adapted_modules
from bridge_core.phases import Progress, text_proxy
from bridge_core.seeding import generator
from bridge_core.statistics import StatisticsSum, save_statistics
from bridge_core.text.batches import encode
from bridge_core.text.corpus import is_heldout, read_sentences
from bridge_core.text.decoding import decoded_modules
from bridge_core.text.models import read_language, target_endings
from bridge_core.text.stream import stream

FILE = "statistics.safetensors"
MOST_SAMPLES = 4096


def run(spec: s.TextStatisticsPhase, base: Path, proxy: Path, out: Path, progress: Progress) -> None:
    """One forward and backward pass over at most 4,096 proxy sentences, each once."""
    language, sentences = read_language(base), read_sentences(proxy / text_proxy.FILE)
    endings = target_endings(language, spec.lora.target_modules or spec.model.target_modules)
    modules = decoded_modules(language, adapted_modules(language.model, endings))
    batch = encode(language, sentences[~is_heldout(sentences)], spec.dataset)
    if not modules:
        found = f"LoRA on {', '.join(endings)}, of which the first blocks have none"
        raise InvalidInput(found, "modules of the first blocks", "adapt them, or use the bridge `direct`")
    samples, total, seen = min(len(batch), MOST_SAMPLES), StatisticsSum(), 0
    for pairs in stream(language, batch, modules, samples, generator(0, "statistics")):
        total.add(pairs)
        seen += len(pairs)
        progress(seen, samples)
    save_statistics(total.mean(), out / FILE)
    write_facts([Fact("num_pairs", samples)], out)
