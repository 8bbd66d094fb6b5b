"""Phase `attack`: from what was published to a reconstruction. The secret is not among its inputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.evidence import measurement_of, stacked
from bridge_core.facts import Fact, write_facts
from bridge_core.inversion.gauss_newton import gauss_newton
from bridge_core.inversion.matching import Report, dlg, inverting_gradients
from bridge_core.inversion.problem import Inverted, Problem
from bridge_core.models import load_base
from bridge_core.phases import Progress, decoder, publish, start
from bridge_core.release import Release
from bridge_core.seeding import generator

FILE, GRADIENT_FILE = "recovered.safetensors", "decoded.safetensors"


def run(spec: s.AttackPhase, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Undo the optimiser, cross the bridge, invert; write images, their matching loss, and the decoded gradients."""
    model, shape = load_base(spec.model, inputs["base"])
    told, releases = publish.read_told(inputs["publish"]), publish.read_releases(inputs["publish"])
    matrices: dict[str, Tensor] | None = None
    if isinstance(spec.bridge, s.Oracle):
        targets = publish.read_exact_gradient(inputs["publish"])
    else:
        measured = [measurement_of(release, told.recipe) for release in releases]
        if isinstance(spec.bridge, s.Direct):
            targets, matrices = stacked(measured), stacked([one.measurement_matrices() for one in releases])
        else:
            targets = decode(spec.bridge, inputs["decoder"], releases, measured)
    problem = Problem(model, told.labels, (shape.channels, shape.image_size, shape.image_size), targets, matrices)
    curve: list[Fact] = []
    inverted = invert(problem, spec, inputs, releases, reporter(progress, curve))
    tensors = {"images": inverted.images.contiguous(), "loss": inverted.loss}
    if inverted.start is not None:
        tensors["start"] = inverted.start.contiguous()
    save_file(tensors, out / FILE)
    if matrices is None:
        save_file({name: t.contiguous() for name, t in targets.items()}, out / GRADIENT_FILE)
    final = [Fact("final_matching_loss", float(x), secret=i) for i, x in enumerate(inverted.loss)]
    write_facts([*curve, *final], out)


def decode(
    bridge: s.Bridge, folder: Path, releases: list[Release], measured: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Directions of every secret's gradient (secrets x out x in), each by the decoder of its release's A."""
    decoders, decoded = decoder.read_decoders(bridge, folder), []
    for release, m in zip(releases, measured, strict=True):
        mine = next((one for one in decoders if one.serves(release.measurement_matrices())), None)
        if mine is None:
            raise NotApplicable("a release's A is no decoder's", "the A it was fitted for", "fit it on this release")
        decoded.append({name: one[0] for name, one in mine.decode({n: x[None] for n, x in m.items()}).items()})
    return stacked(decoded)


def invert(
    problem: Problem, spec: s.AttackPhase, inputs: Mapping[str, Path], releases: list[Release], report: Report
) -> Inverted:
    """Run the spec's inversion."""
    rng = generator(spec.seed, "attack")
    match spec.inversion:
        case s.Dlg():
            return dlg(problem, spec.inversion, spec.prior, rng, report)
        case s.InvertingGradients():
            return inverting_gradients(problem, spec.inversion, spec.prior, rng, report)
        case s.GaussNewton():
            priors = [start.serving(inputs["start"], release) for release in releases]
            measured = (measurement_of(one, publish.read_told(inputs["publish"]).recipe) for one in releases)
            estimates = [p.estimate({n: x[None] for n, x in m.items()}) for p, m in zip(priors, measured, strict=True)]
            noise = decoder.expected_error(inputs["decoder"]) if "decoder" in inputs else 0.0
            return gauss_newton(problem, spec.inversion, estimates, priors, noise, report)
        case _:
            assert_never(spec.inversion)


def reporter(progress: Progress, curve: list[Fact]) -> Report:
    """A report that tells `progress` and keeps the mean loss as a curve."""

    def report(iteration: int, iterations: int, loss: Tensor) -> None:
        mean = float(loss.mean())
        curve.append(Fact("matching_loss", mean, step=iteration))
        progress(iteration, iterations, matching_loss=mean)

    return report


def read_recovered(folder: Path) -> dict[str, Tensor]:
    """`images`, and `start` where the inversion had one (secrets x num_samples x channels x height x width)."""
    tensors = load_file(folder / FILE)
    return {name: tensors[name] for name in ("images", "start") if name in tensors}


def read_decoded(folder: Path) -> dict[str, Tensor] | None:
    """Decoded gradients by module, or None where the attack matched measurements."""
    return load_file(folder / GRADIENT_FILE) if (folder / GRADIENT_FILE).is_file() else None
