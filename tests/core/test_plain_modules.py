"""Modules whose gradient is not the matrix we take it for are refused."""

import pytest
from torch import nn

from bridge_core.errors import InvalidInput
from bridge_core.gradients import weight_matrix


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(4, 4, 3),
    ],
)
def test_other_convolutions_are_refused_in_one_line(module: nn.Module) -> None:
    with pytest.raises(InvalidInput, match="can not be adapted here; wanted Linear, Conv1D, or plain Conv2d"):
        weight_matrix(module)


def test_sides_of_plain_modules() -> None:
    assert weight_matrix(nn.Linear(5, 7)) == (7, 5)
    assert weight_matrix(nn.Conv2d(3, 8, (2, 5), padding=1, stride=2)) == (8, 30)
