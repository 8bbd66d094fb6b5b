"""Gauss-Newton inversion from an amortised start, iteratively regularised (Bakushinsky, 1992).

Unknown u: image = start + T u, T a square root of the start's error covariance, so that steps go where errors lie and
small u are likely. Each step minimises |e + J du|^2 + tau |u + du|^2; tau cools from step to step down to the noise of
the target. Images are not clamped on the way, which would stall it; a soft residual may hold them near [0, 1] instead.
"""

from dataclasses import dataclass, replace
from math import nan

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from bridge_core import spec as s
from bridge_core.inversion.cleaning import Cleaner
from bridge_core.inversion.matching import Report
from bridge_core.inversion.normal_equations import Conjugate, Dense, Penalty, Steps
from bridge_core.inversion.problem import Problem
from bridge_core.inversion.spread import Spread
from bridge_core.inversion.variable_projection import Matching, Point
from bridge_core.inversion.verdict import Verdict, judge, predicted_psnr

SOLVED = 1e-11
"""Sum over the modules of squared distance of unit vectors: float32's own error."""
SETTLED = 1e-3
"""Relative gain of a step, at the target's own noise, that is not worth another Jacobian."""
GROWTH, TRIES, STALLS = 8.0, 5, 2
FAST = 2
"""Powers of the cooling factor in the first attempt: three times fewer Jacobians where the start is good."""
EASY = 2
"""Powers of the cooling factor after a full step: the linear model was good enough for a larger one."""
OVERCOOLED, CLEANABLE = 1e-2, 0.2
"""Share of the misfit at which tau times the unknowns tells that cooling left the misfit behind: a local minimum. Every
second attempt between cleanings ends early, at the larger one: a colder end fits the misfit with noise."""
MOST_CHORDS, WORTHWHILE = 3, 0.4
"""Steps that may reuse a Jacobian, and the share of the misfit that one may leave."""
FIRST_COLUMNS, FLAT = 128, 0.02
"""Directions of the first Jacobian, and the share of tau below which the misfit's curvature along one is left out."""
MOST_DENSE = 4096
"""Unknowns up to which `auto` forms the normal matrix."""
TYPICAL_EXCESS = 0.1
"""How far all pixels may leave [0, 1] before the box counts as much as the misfit, at `box` = 1."""


@dataclass(frozen=True)
class State:
    """Where one attempt stands."""

    u: Float[Tensor, "num k"]
    point: Point
    tau: float


@dataclass(frozen=True)
class Solution:
    """The end of the best attempt at one secret."""

    images: Float[Tensor, "num c h w"]
    delta: Float[Tensor, "num classes"]
    cost: float
    verdict: Verdict

    @property
    def labels(self) -> Int64[Tensor, "num"]:
        """The classes that the gradient at the logits points away from."""
        return self.delta.argmin(1)


@dataclass(frozen=True)
class Begin:
    """Where the search for one secret begins."""

    estimate: Float[Tensor, "num c h w"]
    spread: Spread
    """Metric of the estimate's errors."""
    cleaner: Cleaner | None = None


def gauss_newton(problem: Problem, knobs: s.GaussNewton, begins: list[Begin], report: Report) -> list[Solution]:
    """Invert every secret of `problem`, from `begins[i]`.

    A secret whose target is not met as closely as its errors allow is tried again, at most `knobs.restarts` times: from
    what the cleaner makes of the attempt before, or without one from the same start cooled slowly, then from random
    errors of the start. The lowest cost is kept.
    """
    solutions: list[Solution] = []
    for secret in range(problem.num_secrets):
        matching, begin = Matching(problem.only(torch.tensor([secret]))), begins[secret]
        if begin.cleaner is None:
            solutions.append(Search(matching, knobs, begin.estimate, begin.spread).best(secret))
        else:
            solutions.append(_cleaned(matching, knobs, begin, begin.cleaner))
        report(secret + 1, problem.num_secrets, torch.tensor([solutions[-1].cost]))
    return solutions


def _cleaned(matching: Matching, knobs: s.GaussNewton, begin: Begin, cleaner: Cleaner) -> Solution:
    search = Search(matching, knobs, begin.estimate, begin.spread)
    state = search.descend(begin.estimate, knobs.cooling**FAST)
    best = search, state
    for attempt in range(1, knobs.restarts):
        if search.solved(best[1].point):
            break
        centre = cleaner.clean(state.point.images, begin.estimate)
        search = Search(matching, knobs, centre, cleaner.spread)
        state = search.descend(centre, knobs.cooling, CLEANABLE if attempt % 2 else OVERCOOLED)
        best = min(best, (search, state), key=lambda one: one[1].point.cost())
    return best[0].solution(best[1])


class Search:
    """The search for one secret."""

    def __init__(
        self, matching: Matching, knobs: s.GaussNewton, start: Tensor, spread: Spread, *, whole: bool = False
    ) -> None:
        """`whole`: no direction is left out of the first Jacobians, for a spread whose columns are in no order."""
        self.matching, self.knobs, self.start, self.spread, self._whole = matching, knobs, start, spread, whole
        self.unknowns = len(start) * spread.width
        self.dense = knobs.solver == "dense" or (knobs.solver == "auto" and self.unknowns <= MOST_DENSE)
        self.transform = spread.matrix() if self.dense else None
        self.floor = max(matching.noise**2, 1e-16)
        self._sensitivity = 0.0

    def best(self, seed: int) -> Solution:
        """The attempt with the lowest cost; the first one that meets the target ends the search."""
        rng = torch.Generator().manual_seed(seed)
        kept: State | None = None
        for attempt in range(self.knobs.restarts):
            offset = torch.randn(len(self.start), self.spread.width, generator=rng, dtype=torch.float64)
            cooling = self.knobs.cooling ** (FAST if attempt == 0 else 1)
            reached = self.descend(self._moved(self.start, offset * (attempt > 1)), cooling)
            if kept is None or reached.point.cost() < kept.point.cost():
                kept = reached
            if self.solved(kept.point):
                break
        assert kept is not None
        return self.solution(kept)

    def solution(self, state: State) -> Solution:
        """What `state` is worth."""
        return Solution(state.point.images, state.point.delta, state.point.cost(), self._judged(state))

    def solved(self, point: Point) -> bool:
        """True where the misfit is what the target's errors, or float32's, explain."""
        return point.cost() <= SOLVED or self.matching.explained(point)

    def descend(self, centre: Float[Tensor, "num c h w"], cooling: float, enough: float = OVERCOOLED) -> State:
        """One attempt; it ends where tau times the unknowns is less than `enough` of the misfit."""
        point, stalls = self.matching.at(centre), 0
        u = torch.zeros(len(centre), self.spread.width, dtype=torch.float64)
        state = State(u, point, 4 * point.cost() / self.unknowns)
        for _ in range(self.knobs.iterations):
            weights = self.matching.weights(state.point)
            moved, easy = self._step(centre, state, weights, cooling)
            stalls = 0 if moved else stalls + 1
            gain = 1 - moved.point.cost(weights) / state.point.cost(weights) if moved else 0.0
            settled = state.tau <= self.floor and gain < SETTLED
            overcooled = state.tau * self.unknowns < enough * state.point.cost(weights) and state.tau > self.floor
            state = moved or state
            state = replace(state, tau=max(state.tau * cooling ** (EASY if easy else 1), self.floor))
            if settled or overcooled or stalls == STALLS or state.point.cost() < SOLVED:
                break
        return state

    def step(self, centre: Float[Tensor, "num c h w"], state: State) -> State | None:
        """One step at the regularisation of `state`; None where no step lowers the regularised cost."""
        return self._step(centre, state, self.matching.weights(state.point), 1.0)[0]

    def steps(self, state: State, weights: Tensor) -> Steps:
        """The linear problem at `state`."""
        penalty = Penalty(state.tau, state.u, *self._box(state.point))
        if self.transform is not None:
            dense = Dense(self.matching, state.point, weights, self._leading(self.transform, state.tau), penalty)
            self._learn(dense.normal, self.transform)
            return dense
        return Conjugate(self.matching, state.point, weights, self.spread, penalty)

    def _leading(self, transform: Tensor, tau: float) -> Tensor:
        """The columns that can matter: along the others the misfit is flat against tau."""
        if self._whole:
            return transform
        if not self._sensitivity:
            return transform[:, :FIRST_COLUMNS]
        felt = transform.square().sum(0) * self._sensitivity > FLAT * tau
        return transform[:, : max(FIRST_COLUMNS, int(felt.nonzero().max()) + 1 if felt.any() else 0)]

    def _learn(self, normal: Tensor, transform: Tensor) -> None:
        curvature = normal.diagonal().reshape(len(self.start), -1)
        lengths = transform[:, : curvature.shape[1]].square().sum(0)
        self._sensitivity = float((curvature / lengths).quantile(0.9))

    def _step(self, centre: Tensor, state: State, weights: Tensor, cooling: float) -> tuple[State | None, bool]:
        """The first of a few ever shorter steps that lowers the regularised cost, and whether it was the full one."""
        steps, damping = self.steps(state, weights), 0.0
        strength, _ = self._box(state.point)
        goal = self._objective(state, weights, strength)
        for _ in range(TRIES):
            u = state.u + steps.solve(damping)
            moved = State(u, self.matching.at(self._moved(centre, u), weights), state.tau)
            if self._objective(moved, weights, strength) < goal:
                if damping == 0 and isinstance(steps, Dense):
                    moved = self._chords(centre, moved, steps, weights, cooling)
                return moved, damping == 0
            damping = max(damping * GROWTH, 4 * state.tau)
        return None, False

    def _chords(self, centre: Tensor, state: State, steps: Dense, weights: Tensor, cooling: float) -> State:
        """Go on with the same Jacobian, ever cooler, for as long as each step takes most of the misfit away."""
        for _ in range(MOST_CHORDS):
            tau = max(state.tau * cooling**EASY, self.floor)
            box = self._box(state.point)
            u = state.u + steps.chord(state.point, Penalty(tau, state.u, *box))
            moved = State(u, self.matching.at(self._moved(centre, u), weights), tau)
            if moved.point.cost(weights) > WORTHWHILE * state.point.cost(weights):
                break
            state = moved
        return state

    def _objective(self, state: State, weights: Tensor, strength: float) -> float:
        outside = float(excess(state.point.images).square().sum()) if strength else 0.0
        return state.point.cost(weights) + state.tau * float(state.u.square().sum()) + strength * outside

    def _box(self, point: Point) -> tuple[float, Tensor]:
        strength = self.knobs.box * point.cost() / (point.images.numel() * TYPICAL_EXCESS**2)
        return strength, excess(point.images)

    def _moved(self, centre: Tensor, u: Tensor) -> Tensor:
        return centre + self.spread.apply(u).to(centre.dtype).reshape(centre.shape)

    def predicted_psnr(self, state: State) -> float:
        """DB that the measurements' errors and the spread leave at `state`; NaN without a matrix."""
        normal = self._normal(state)
        return predicted_psnr(self.matching.variance(state.point), normal, self.spread) if normal is not None else nan

    def _judged(self, state: State) -> Verdict:
        return judge(self.matching, state.point, self._normal(state), self.spread)

    def _normal(self, state: State) -> Float[Tensor, "k k"] | None:
        if self.transform is None:
            return None
        nothing = Penalty(0.0, state.u * 0, 0.0, torch.zeros_like(excess(state.point.images)))
        return Dense(self.matching, state.point, self.matching.weights(state.point), self.transform, nothing).normal


def excess(images: Float[Tensor, "num c h w"]) -> Float[Tensor, "num pixels"]:
    """How far each pixel lies outside [0, 1], float64."""
    return (images - images.clamp(0, 1)).flatten(1).double()
