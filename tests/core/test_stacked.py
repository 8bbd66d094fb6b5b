"""Ridge on components of all modules: against scikit-learn on all pairs at once, and against a full decomposition."""

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from bridge_core import spec as s
from bridge_core.decoders.linear import unit
from bridge_core.decoders.stacked import StackedRidgeSum, components, decode, inputs, stack, stacked_bytes
from bridge_core.errors import InvalidInput
from bridge_core.gradients import Tap
from bridge_core.seeding import generator
from bridge_core.simulate import Batch

RANK, WIDTHS, OUT = 2, {"b": 5, "a": 7}, 3
A = {name: torch.randn(RANK, width, generator=generator(0, "a", name)) for name, width in WIDTHS.items()}


def batch(count: int, seed: int) -> Batch:
    """Pairs whose modules share their tokens, so that one tells of the other."""
    rng = generator(seed, "pairs")
    tokens, deltas = (torch.randn(count, 4, size, generator=rng) for size in (7, OUT))
    taps = {name: Tap(tokens[..., :width], deltas) for name, width in WIDTHS.items()}
    return Batch(torch.zeros(count, 1, 1, 1), torch.zeros(count, dtype=torch.long), taps)


def measured(one: Batch) -> dict[str, Tensor]:
    return {name: one.taps[name].measurement(a) for name, a in A.items()}


def fitted(bridge: s.Ridge, batches: list[Batch]) -> dict[str, Tensor]:
    total = StackedRidgeSum(A, bridge, generator(0, "components"))
    for one in batches:
        total.add(one)
    return total.tensors()


@pytest.mark.parametrize("kept", [4, 6])
def test_streamed_regression_is_scikit_learns_on_all_pairs_at_once(kept: int) -> None:
    bridge = s.Ridge(num_pairs=400, inputs="all", components=kept, ridge=0.0)
    batches = [batch(50, seed) for seed in range(8)]
    found = fitted(bridge, batches)
    for name in A:
        shared = [stack(measured(one)) @ found["basis"] for one in batches]
        x = torch.cat([inputs(measured(one)[name], c) for one, c in zip(batches, shared, strict=True)])
        g = torch.cat([unit(one.taps[name].gradient()).flatten(1) for one in batches])
        fit = Ridge(alpha=1e-9, fit_intercept=False).fit(x.double().numpy(), g.double().numpy())
        wanted = x.double() @ torch.from_numpy(fit.coef_.T)
        torch.testing.assert_close((x @ found[f"{name}/weight"]).double(), wanted, rtol=1e-3, atol=1e-3)


def test_a_singular_regression_is_refused_with_a_remedy() -> None:
    with pytest.raises(InvalidInput, match="raise `ridge`"):
        fitted(s.Ridge(num_pairs=200, inputs="all", components=12, ridge=0.0), [batch(100, 0), batch(100, 1)])


def test_the_first_eighth_tells_the_components_and_its_last_batch_is_regressed_on_too() -> None:
    bridge, batches = s.Ridge(num_pairs=480, inputs="all", components=4), [batch(30, seed) for seed in range(16)]
    found = fitted(bridge, batches)
    wanted = components(torch.cat([stack(measured(one)) for one in batches[:2]]), 4, generator(0, "components"))
    assert torch.equal(found["basis"], wanted)
    other = fitted(bridge, [batches[0], *batches[1:-1]])
    assert torch.equal(other["basis"], wanted) and not torch.equal(other["a/weight"], found["a/weight"])


@pytest.mark.parametrize("count", [16, 60])
def test_few_pairs_in_one_batch_are_enough(count: int) -> None:
    found = fitted(s.Ridge(num_pairs=count, inputs="all", components=2048, ridge=1e-2), [batch(count, 0)])
    decoded = decode(measured(batch(5, 1)), found)
    assert {name: one.shape for name, one in decoded.items()} == {"b": (5, OUT * 5), "a": (5, OUT * 7)}


@pytest.mark.parametrize("shape", [(200, 90), (60, 90)])
def test_components_are_the_leading_singular_vectors(shape: tuple[int, int]) -> None:
    count, width = shape
    values = 0.8 ** torch.arange(width)
    x = torch.randn(count, width, generator=generator(0, "x"), dtype=torch.float64) * values
    found, wanted = components(x, 5, generator(0, "c")), torch.linalg.svd(x).Vh[:5].T
    torch.testing.assert_close((found.T @ wanted).abs(), torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-6)
    assert components(x, 500, generator(0, "c")).shape == (width, min(shape))


def test_the_order_in_which_modules_come_is_nothing() -> None:
    found, m = fitted(s.Ridge(num_pairs=60, inputs="all", components=4), [batch(60, 0)]), measured(batch(5, 1))
    turned = decode(dict(reversed(m.items())), found)
    assert all(torch.equal(one, turned[name]) for name, one in decode(m, found).items())


def test_a_measurement_longer_than_the_components_stays_out() -> None:
    m, shared = torch.randn(5, 3, 2), torch.randn(5, 6)
    assert inputs(m, shared).shape == (5, 12)
    assert torch.equal(inputs(m, shared[:, :5]), shared[:, :5])


def test_memory_of_a_stacked_fit_is_that_of_its_matrices() -> None:
    shapes = {name: (64, 128) for name in "abcd"}
    wanted, rank = 256, 4
    own = 64 * rank + wanted
    stored = 4 * 4 * own * (own + 64 * 128)
    assert stored <= stacked_bytes(shapes, rank, wanted, 4000) < 3 * stored
