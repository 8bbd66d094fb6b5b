import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge_core.text.order import Queries, order_of

HEADS, WIDTH, PLACES = 3, 32, 24


def queries_for(sentence: list[int], noise: float, seed: int) -> Queries:
    """Random keys, and the gradients that random attention makes of them in this sentence."""
    rng = torch.Generator().manual_seed(seed)
    num_tokens = max(sentence) + 1
    keys = torch.randn(num_tokens, HEADS, WIDTH, generator=rng, dtype=torch.float64)
    angles = torch.arange(PLACES)[:, None] * 10 ** (-torch.arange(WIDTH // 2) / (WIDTH // 2))
    angles = -torch.cat([angles, angles], 1).double()
    gradients = torch.zeros(num_tokens, HEADS, WIDTH, dtype=torch.float64)
    errors = 0.5 + torch.rand(HEADS, WIDTH, generator=rng, dtype=torch.float64)
    queries = Queries(torch.arange(num_tokens), gradients, keys, errors, angles.cos(), angles.sin())
    for place, token in enumerate(sentence):
        if place:
            weights = torch.randn(place, HEADS, generator=rng, dtype=torch.float64)
            seen = queries._differences(tuple(sentence[:place]), token)
            gradients[token] += torch.einsum("sh,she->he", weights, seen)
    gradients += noise * torch.randn(gradients.shape, generator=rng, dtype=torch.float64)
    return queries


@settings(max_examples=25)
@given(st.integers(3, 10), st.integers(0, 10_000))
def test_gradients_tell_the_order(length: int, seed: int) -> None:
    sentence = torch.randperm(length, generator=torch.Generator().manual_seed(seed)).tolist()
    found = order_of(queries_for(sentence, 1e-7, seed))
    assert found is not None
    assert list(found.ids) == sentence
    assert found.sure


@pytest.mark.parametrize(
    "sentence", [[0, 1, 2, 0, 3, 4], [1, 0, 0, 2, 3, 4], [0, 1, 2, 3, 1, 4, 1, 5], [2, 0, 1, 3, 3]]
)
@pytest.mark.parametrize("noise", [1e-7, 1e-3])
def test_a_token_may_stand_at_several_places(sentence: list[int], noise: float) -> None:
    found = order_of(queries_for(sentence, noise, 0))
    assert found is not None
    assert list(found.ids) == sentence


@settings(max_examples=3)
@given(st.integers(0, 10_000))
def test_random_gradients_have_no_sure_order(seed: int) -> None:
    plain = queries_for(list(range(8)), 1e-7, seed)
    rng = torch.Generator().manual_seed(seed)
    random = torch.randn(plain.gradients.shape, generator=rng, dtype=torch.float64)
    found = order_of(Queries(plain.ids, random, plain.keys, plain.errors, plain.cosine, plain.sine))
    assert found is None or not found.sure


def test_nothing_is_told_where_the_keys_span_everything() -> None:
    queries = queries_for(list(range(PLACES - 1)), 1e-7, 0)
    narrow = Queries(
        queries.ids,
        queries.gradients[..., :4],
        queries.keys[..., :4],
        queries.errors[..., :4],
        queries.cosine[..., :4],
        queries.sine[..., :4],
    )
    assert torch.tensor(narrow.left(tuple(range(10)), 10)).isnan()
