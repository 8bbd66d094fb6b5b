"""The closed forms of LoRA, held against autograd through real PEFT layers in float64, and against algebra."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bridge_core import lora
from bridge_core.errors import InvalidInput, NotApplicable

ALPHA, RANK = 6.0, 3


class Alone(nn.Module):
    """A model of one layer that PEFT can adapt."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@dataclass(frozen=True)
class Case:
    layer: nn.Module
    inputs: Tensor
    transposed: bool = False


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


CASES = {
    "linear": lambda: Case(nn.Linear(7, 5), normal(4, 7)),
    "linear over tokens": lambda: Case(nn.Linear(7, 5, bias=False), normal(2, 6, 7)),
    "convolution": lambda: Case(nn.Conv2d(2, 5, 3), normal(2, 2, 6, 6)),
    "strided convolution": lambda: Case(nn.Conv2d(2, 5, 5, stride=2, padding=2), normal(2, 2, 7, 7)),
    "oblong convolution": lambda: Case(nn.Conv2d(3, 5, (1, 4), stride=(2, 1), padding=(0, 2)), normal(1, 3, 5, 9)),
    "GPT-2's Conv1D": lambda: Case(Conv1D(5, 7), normal(2, 6, 7), transposed=True),
}


@dataclass(frozen=True)
class Adapted:
    """A PEFT layer after one backward pass; all matrices oriented as in `bridge_core.lora`."""

    model: Any
    base: nn.Parameter
    first: nn.Parameter
    second: nn.Parameter
    scale: float
    transposed: bool

    @property
    def gradient(self) -> Tensor:
        assert self.base.grad is not None
        return lora.as_matrix(self.base.grad, transposed=self.transposed)

    @property
    def a(self) -> Tensor:
        return self.first.detach().flatten(1)

    @property
    def b(self) -> Tensor:
        return self.second.detach().flatten(1)


def adapted(case: Case, *, zero_b: bool, use_rslora: bool = False) -> Adapted:
    torch.manual_seed(0)
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,  # pyright: ignore[reportArgumentType]
        use_rslora=use_rslora,
        target_modules=["layer"],
        fan_in_fan_out=case.transposed,
    )
    model: Any = get_peft_model(Alone(case.layer), config).double()  # pyright: ignore[reportArgumentType]
    layer = model.base_model.model.layer
    base, first, second = (p.weight for p in (layer.base_layer, layer.lora_A["default"], layer.lora_B["default"]))
    if not zero_b:
        second.data = normal(*second.shape, seed=1)
    base.requires_grad_(True)
    torch.sin(model(case.inputs)).mul(normal(*model(case.inputs).shape, seed=2)).sum().backward()
    return Adapted(model, base, first, second, layer.scaling["default"], case.transposed)


def assert_same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("zero_b", [True, False], ids=["B = 0", "B trained"])
def test_factor_gradients_are_those_of_autograd(name: str, zero_b: bool) -> None:
    one = adapted(CASES[name](), zero_b=zero_b)
    found = lora.factor_gradients(one.gradient, one.a, one.b, one.scale)
    assert one.gradient.norm() > 0.1
    assert one.first.grad is not None and one.second.grad is not None
    assert_same(lora.as_weight(found.a, one.first.shape), one.first.grad)
    assert_same(lora.as_weight(found.b, one.second.shape), one.second.grad)
    assert bool(found.a.any()) is not zero_b


@pytest.mark.parametrize("name", CASES)
def test_weight_change_is_what_peft_merges(name: str) -> None:
    one = adapted(CASES[name](), zero_b=False)
    before = one.base.detach().clone()
    merged = one.model.merge_and_unload().layer.weight.detach()
    change = lora.as_weight(lora.weight_change(one.a, one.b, one.scale), before.shape, transposed=one.transposed)
    assert_same(merged, before + change)


@pytest.mark.parametrize("name", CASES)
def test_first_sgd_step_leaves_a_and_releases_the_measurement(name: str) -> None:
    one = adapted(CASES[name](), zero_b=True)
    initial, wanted = one.a.clone(), lora.measure(one.gradient, one.a)
    torch.optim.SGD([one.first, one.second], lr=0.3).step()
    assert torch.equal(one.a, initial)
    assert_same(lora.measurement_of_step(one.b, 0.3, one.scale), wanted)


def test_second_step_moves_a() -> None:
    one = adapted(CASES["linear"](), zero_b=True)
    optimiser = torch.optim.SGD([one.first, one.second], lr=0.3)
    optimiser.step()
    initial = one.a.clone()
    optimiser.zero_grad()
    one.model(normal(4, 7)).square().sum().backward()
    optimiser.step()
    assert (one.a - initial).norm() > 1e-3


@pytest.mark.parametrize("use_rslora", [False, True])
def test_scale_is_pefts(use_rslora: bool) -> None:
    one = adapted(CASES["linear"](), zero_b=True, use_rslora=use_rslora)
    assert lora.lora_scale(ALPHA, RANK, use_rslora=use_rslora) == pytest.approx(one.scale, rel=1e-15)


def test_scale_refuses_rank_zero() -> None:
    with pytest.raises(InvalidInput, match="rank 0; wanted at least 1"):
        lora.lora_scale(16.0, 0)


# --- the projection ---------------------------------------------------------------------------------------------------

shapes = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(0, 6), st.integers(0, 2**31))


def drawn(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """A gradient and a measurement matrix of full row rank."""
    out, rank, more, seed = shape
    return normal(out, rank + more, seed=seed), normal(rank, rank + more, seed=seed + 1) + torch.eye(rank, rank + more)


@given(shapes)
def test_projection_has_the_same_measurement_and_is_no_longer(shape: tuple[int, int, int, int]) -> None:
    g, a = drawn(shape)
    projected = lora.project(lora.measure(g, a), a)
    torch.testing.assert_close(lora.measure(projected, a), lora.measure(g, a), rtol=1e-8, atol=1e-8)
    assert projected.norm() <= g.norm() * (1 + 1e-8)


@given(shapes)
def test_projection_twice_is_projection(shape: tuple[int, int, int, int]) -> None:
    g, a = drawn(shape)
    once = lora.project(lora.measure(g, a), a)
    torch.testing.assert_close(lora.project(lora.measure(once, a), a), once, rtol=1e-6, atol=1e-7)


@given(shapes)
def test_projection_is_least_squares(shape: tuple[int, int, int, int]) -> None:
    g, a = drawn(shape)
    m = lora.measure(g, a)
    torch.testing.assert_close(lora.project(m, a), m @ torch.linalg.pinv(a).mT, rtol=1e-6, atol=1e-7)


@given(shapes, st.floats(0.01, 100.0))
def test_projection_sees_the_row_space_of_a_alone(shape: tuple[int, int, int, int], factor: float) -> None:
    g, a = drawn(shape)
    mixed = (
        factor * (torch.eye(len(a), dtype=torch.float64) + torch.ones_like(a[:, :1]) @ torch.ones_like(a[:, :1]).mT) @ a
    )
    one, other = lora.project(lora.measure(g, a), a), lora.project(lora.measure(g, mixed), mixed)
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_projection_of_a_square_a_is_the_gradient() -> None:
    g, a = normal(5, 4), normal(4, 4, seed=1)
    assert_same(lora.project(lora.measure(g, a), a), g)


def test_projection_keeps_batches_and_number_format() -> None:
    g, a = normal(3, 2, 5, 9).float(), normal(4, 9, seed=1).float()
    batched = lora.project(lora.measure(g, a), a)
    assert batched.dtype == torch.float32
    torch.testing.assert_close(batched[1, 0], lora.project(lora.measure(g[1, 0], a), a))


def test_projection_survives_an_ill_conditioned_a() -> None:
    a = normal(4, 9)
    a[3] = a[2] + 1e-7 * a[3]
    g = normal(5, 4, seed=1) @ a
    torch.testing.assert_close(lora.project(lora.measure(g, a), a), g, rtol=1e-6, atol=1e-6)


def test_projection_refuses_dependent_rows() -> None:
    a = normal(4, 9)
    a[3] = a[2]
    with pytest.raises(NotApplicable, match="linearly dependent"):
        lora.project(normal(5, 4), a)


def test_projection_refuses_more_rows_than_columns() -> None:
    with pytest.raises(NotApplicable, match="linearly dependent"):
        lora.project(normal(5, 4), normal(4, 3))


@pytest.mark.parametrize("rank", [2, 8, 16])
def test_cosine_floor_is_what_a_random_a_keeps(rank: int) -> None:
    g = normal(200, 96, 96)
    a = normal(rank, 96, seed=1)
    projected = lora.project(lora.measure(g, a), a)
    cosine = torch.nn.functional.cosine_similarity(projected.flatten(1), g.flatten(1)).mean()
    assert float(cosine) == pytest.approx(lora.cosine_floor(rank, 96), rel=0.02)
    assert lora.cosine_floor(96, 96) == 1.0
    assert lora.cosine_floor(8, 96) == pytest.approx(math.sqrt(1 / 12))


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_a_matrix_goes_back_to_its_weight(out: int, channels: int, height: int, width: int, transposed: bool) -> None:
    weight = normal(out, channels) if transposed else normal(out, channels, height, width)
    matrix = lora.as_matrix(weight, transposed=transposed)
    assert torch.equal(lora.as_weight(matrix, weight.shape, transposed=transposed), weight)
