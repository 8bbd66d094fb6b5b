"""A decoded gradient made consistent with the measurements it was decoded from.

    target = G Q^T,   Q = [rows of A, orthonormal; the complement, orthonormal]

In the first r columns G Q^T follows from the measurements M = G A^T alone, as exact as they are; in the others it is
the decoder's guess, with the decoder's error. A decoded gradient alone treats both alike, and its guess, small in
cosine, hides what the measurements say to seven digits.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """Of one module."""

    matrix: Float[Tensor, "in in"]
    """Q, orthonormal."""
    target: Float[Tensor, "out in"]
    """G Q^T, in units of M's gradient."""
    error: Float[Tensor, "out in"]
    """Standard error of each entry."""


def consistent(
    decoded: Float[Tensor, "out in"],
    m: Float[Tensor, "out rank"],
    error: Float[Tensor, "out rank"],
    a: Float[Tensor, "rank in"],
    share: float,
) -> Target:
    """The target of one module from a decoded direction, its measurement with standard errors, and A.

    `share` is the squared distance that is expected between decoded and true direction at norm 1; the direction's scale
    is the one that fits the measurement best. The decoder's error is taken to lie in the complement alone.
    """
    rank = len(a)
    wide, triangle = torch.linalg.qr(a.double().T, mode="complete")
    upper = triangle[:rank]
    seen = torch.linalg.solve_triangular(upper.T, m.double().T, upper=False).T
    inverse = torch.linalg.inv(upper.T).T
    seen_error = (error.double().square() @ inverse.square()).sqrt()
    told = decoded.double() @ wide
    aligned, length = (told[:, :rank] * seen).sum(), told[:, :rank].square().sum()
    scale = aligned / length.clamp_min(1e-60)
    guess = scale * told[:, rank:]
    spread = (share / max(1, guess.numel())) ** 0.5 * scale.abs() * decoded.double().norm()
    target = torch.cat([seen, guess], 1)
    errors = torch.cat([seen_error, spread.expand_as(guess)], 1)
    return Target(wide.T.to(decoded), target.to(decoded), errors.clamp_min(1e-30).to(decoded))
