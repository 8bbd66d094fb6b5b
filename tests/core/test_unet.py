"""The U-Net starts from the row-wise estimate and ends above it; learning rates follow the pairs that were seen."""

import pytest
import torch

from bridge_core import spec as s
from bridge_core.decoders.linear import row_mmse, unit
from bridge_core.decoders.training import Training, errors, one_cycle
from bridge_core.decoders.unet import ROW_RIDGE, GradientUnet, UnetFit, unet_decoder
from bridge_core.gradients import Tap
from bridge_core.metrics import cosines
from bridge_core.seeding import generator
from bridge_core.simulate import Batch

SHAPES = {"q": (9, 13), "v": (9, 13), "head": (5, 6)}
RANK, OUTS = 2, {name: out for name, (out, _) in SHAPES.items()}
A = {n: torch.randn(RANK, width, generator=generator(0, "a", n)) for n, (_, width) in SHAPES.items()}
MOMENTS = {name: torch.eye(width) for name, (_, width) in SHAPES.items()}


def batch(count: int, seed: int) -> Batch:
    """Gradients that are one pattern each, stretched from row to row: far from what any row tells alone."""
    rng = generator(seed, "pairs")
    taps = {}
    for name, (out, width) in SHAPES.items():
        rows = torch.linspace(0.5, 1.5, out) * torch.rand(count, 1, generator=rng)
        taps[name] = Tap(torch.linspace(-1, 1, width).sin().expand(count, 1, width), rows[:, None])
    return Batch(torch.zeros(count, 1, 1, 1), torch.zeros(count, dtype=torch.long), taps)


def measured(one: Batch) -> dict[str, torch.Tensor]:
    return {name: one.taps[name].measurement(a) for name, a in A.items()}


def test_a_fresh_network_gives_the_row_wise_estimate() -> None:
    m = measured(batch(4, 0))
    found = unet_decoder(s.Unet(width=4), A, MOMENTS, OUTS, 0)(m)
    assert list(found) == list(m)
    for name, one in found.items():
        wanted = unit(row_mmse(m[name], A[name], MOMENTS[name], ROW_RIDGE))
        torch.testing.assert_close(one, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_it_learns_more_than_its_start(loss: str) -> None:
    bridge = s.Unet.model_validate({"width": 4, "num_pairs": 640, "learning_rate": 1e-2, "batch_size": 8, "loss": loss})
    fit = UnetFit(bridge, A, MOMENTS, OUTS, 0)
    held, start = batch(50, 99), unet_decoder(bridge, A, MOMENTS, OUTS, 0)
    for number in range(5):
        fit.add(batch(128, number))
    with torch.no_grad():
        before, after = start(measured(held)), fit.decoder(measured(held))
    for name in SHAPES:
        truth = held.taps[name].gradient()
        assert float(cosines(truth, after[name]).mean()) > float(cosines(truth, before[name]).mean()) + 0.1


def test_modules_of_one_shape_are_channels_of_one_picture() -> None:
    net = unet_decoder(s.Unet(width=4), A, MOMENTS, OUTS, 0)
    assert [one.last.out_channels for one in net.nets if isinstance(one, GradientUnet)] == [1, 2]


def test_the_learning_rate_rises_and_ends_near_nothing() -> None:
    rates = [one_cycle(step / 100) for step in range(101)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(1) and top == 30
    assert rates[:31] == sorted(rates[:31]) and rates[30:] == sorted(rates[30:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("count", "batch_size"), [(128, 100), (128, 500), (25, 64)])
def test_batches_need_not_be_multiples_of_the_optimisers(count: int, batch_size: int) -> None:
    weight = torch.nn.Parameter(torch.ones(()))
    bridge, parts = s.Unet(num_pairs=250, batch_size=batch_size), []
    training = Training([weight], bridge)
    for _ in range(-(-250 // count)):
        training.over(count, lambda part: (parts.append(part), weight.square())[1])
    assert sum(part.stop - part.start for part in parts) == count * -(-250 // count)
    assert float(weight.detach()) < 1


def test_errors_are_those_of_unit_gradients() -> None:
    guess, truth = (torch.randn(3, 2, 4, generator=generator(0, name)) for name in ("guess", "truth"))
    direction = truth / truth.flatten(1).norm(dim=1)[:, None, None]
    assert float(errors(guess, truth, "cosine")) == pytest.approx(float((1 - cosines(truth, guess)).mean()), abs=1e-5)
    wanted = float((guess - direction).square().flatten(1).sum(1).mean())
    assert float(errors(guess, truth, "mse")) == pytest.approx(wanted, rel=1e-5)
