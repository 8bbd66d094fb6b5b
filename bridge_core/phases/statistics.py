"""Phase `statistics`: mean image, mean gradient and second moment of gradient rows over proxy images."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.data import is_heldout, read_images
from bridge_core.facts import Fact, write_facts
from bridge_core.models import adapted_modules, load_base
from bridge_core.phases import Progress, proxy
from bridge_core.seeding import generator
from bridge_core.simulate import stream
from bridge_core.statistics import StatisticsSum, save_statistics

FILE = "statistics.safetensors"
MOST_SAMPLES = 4096


def run(spec: s.StatisticsPhase, base: Path, proxy_folder: Path, out: Path, progress: Progress) -> None:
    """One forward and backward pass over at most 4,096 proxy images, each once."""
    model, _ = load_base(spec.model, base)
    images = read_images(proxy_folder / proxy.FILE)
    images = images[~is_heldout(images)]
    modules = adapted_modules(model, spec.lora.target_modules or spec.model.target_modules)
    samples, total = min(len(images), MOST_SAMPLES), StatisticsSum()
    seen = 0
    for batch in stream(model, images, modules, samples, generator(0, "statistics"), augment="none"):
        total.add(batch)
        seen += len(batch)
        progress(seen, samples)
    save_statistics(total.mean(), out / FILE)
    write_facts([Fact("num_pairs", samples)], out)
