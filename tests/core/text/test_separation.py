import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float64
from torch import Tensor

from bridge_core.spec import text as t
from bridge_core.text.contexts import NONE, Contexts, contexts_of
from bridge_core.text.corpus import load_sentences
from bridge_core.text.deeper import block_inputs
from bridge_core.text.flow import least_flow
from bridge_core.text.models import Language, build_language, first_inputs
from bridge_core.text.separation import onto_simplex, regress, replaced

PLACES, CHOICES = 6, 3


@pytest.fixture(scope="module")
def language() -> Language:
    knobs = t.TinyText(family="bert", width=32, depth=2, vocabulary=400)
    found = build_language(knobs, load_sentences(t.Canaries(), 2).texts, 2)
    for parameter in found.model.parameters():
        parameter.data *= 5.0 if parameter.ndim == 2 else 1.0
    return found


@pytest.fixture(scope="module")
def annihilator() -> Float64[Tensor, "k d"]:
    return torch.randn(12, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def contexts(language: Language, annihilator: Float64[Tensor, "k d"]) -> Contexts:
    """Three tokens at each of six places."""
    ids = torch.randperm(300, generator=torch.Generator().manual_seed(0))[: PLACES * CHOICES]
    positions = torch.arange(PLACES).repeat_interleave(CHOICES)
    return contexts_of(language, first_inputs(language, PLACES), ids, positions, [annihilator])


def test_a_context_gives_what_the_model_gives(
    language: Language, contexts: Contexts, annihilator: Float64[Tensor, "k d"]
) -> None:
    pairs = torch.tensor([[0, 4, 8, 10, 14, 17], [2, 3, 7, 9, NONE, NONE]])
    mask = pairs != NONE
    inputs = block_inputs(language, contexts.ids[pairs.clamp_min(0)], mask, (1,))[1].double()
    slow = (inputs @ annihilator.T).square().sum(2).float()
    found = contexts.sentences(pairs)
    torch.testing.assert_close(found[mask], slow[mask], rtol=1e-3, atol=1e-5)
    assert found[~mask].isnan().all()


def test_the_derivative_by_the_weights_is_that_of_finite_differences(contexts: Contexts) -> None:
    pairs = torch.arange(len(contexts))
    weights = torch.full((len(contexts),), 1 / CHOICES, dtype=torch.float64)
    left, slopes = contexts.linear(5, pairs, weights)
    for pair in (0, 5, 13):
        moved = weights.clone()
        moved[pair] += 1e-2
        upper, _ = contexts.linear(5, pairs, moved)
        moved[pair] -= 2e-2
        lower, _ = contexts.linear(5, pairs, moved)
        torch.testing.assert_close(slopes[pair], (upper - lower) / 2e-2, rtol=2e-2, atol=2e-2 * float(left.norm()))


def test_one_token_tells_its_whole_context(contexts: Contexts) -> None:
    true = torch.tensor([0, 4, 8, 10, 14, 17])
    anchor = 8
    whole = contexts._left(torch.tensor([anchor]), contexts._attended(torch.tensor([anchor]), true[None]))[0]
    basis = torch.linalg.svd(whole[None], full_matrices=True).Vh[1:]
    blind = Contexts(
        contexts.ids,
        contexts.positions,
        contexts.inputs,
        contexts.logits,
        contexts.values,
        contexts.block,
        basis @ contexts.annihilator,
    )
    slots = torch.arange(len(contexts)).reshape(PLACES, CHOICES)
    slots[2] = torch.tensor([anchor, NONE, NONE])
    there = (slots != NONE).double()
    weights = there / there.sum(1, keepdim=True)
    for _ in range(4):
        weights = regress(blind, [anchor], weights, slots)
    assert (slots.gather(1, weights.argmax(1, keepdim=True)).flatten() == true).sum() >= PLACES - 1


@given(st.integers(1, 6), st.integers(0, 10_000))
def test_a_projection_onto_the_simplex_is_the_nearest_point_of_it(width: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    values = torch.randn(3, width, generator=rng, dtype=torch.float64)
    there = torch.rand(3, width, generator=rng) < 0.7
    there[:, 0] = True
    found = onto_simplex(values, there)
    assert (found >= 0).all() and not found[~there].any()
    torch.testing.assert_close(found.sum(1), torch.ones(3, dtype=torch.float64))
    others = torch.rand(200, 3, width, generator=rng, dtype=torch.float64) * there
    others = others / others.sum(2, keepdim=True)
    assert ((others - values).square().sum(2) >= (found - values).square().sum(1) - 1e-12).all()


def test_every_single_replacement_is_listed_once() -> None:
    slots = torch.tensor([[0, NONE, NONE], [1, 2, 3], [4, 5, NONE]])
    others, sentences = replaced([0, 2, 4], slots)
    assert others.tolist() == [1, 3, 5]
    assert sentences.tolist() == [[0, 1, 4], [0, 3, 4], [0, 2, 5]]


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_shortest_flow_finds_a_sparse_one(seed: int) -> None:
    """Twelve tokens, each at one of four places: the marginals tell where."""
    rng = torch.Generator().manual_seed(seed)
    place = torch.randint(4, (12,), generator=rng)
    flow = torch.zeros(12, 4, 24, dtype=torch.float64)
    flow[torch.arange(12), place] = torch.randn(12, 24, generator=rng, dtype=torch.float64)
    sources, sinks = flow.sum(1), flow.sum(0)
    plain, last = least_flow(sources, sinks, torch.ones(12, 4, dtype=torch.bool))
    assert (plain.argmax(1) == place).all()
    true = torch.zeros(12, 4, dtype=torch.bool)
    true[torch.arange(12), place] = True
    assert last[true].min() > 10 * last[~true].max()
