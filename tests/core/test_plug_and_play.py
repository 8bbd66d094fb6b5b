"""Priors beside measurements: they fill what the measurements leave open, and bend nothing that these say."""

import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.inversion.consistent import consistent
from bridge_core.inversion.gauss_newton import Solution
from bridge_core.inversion.plug_and_play import restored
from bridge_core.inversion.variable_projection import Matching
from bridge_core.inversion.verdict import Label, Verdict
from bridge_core.priors.restoration import LEVELS, Restorer
from bridge_core.seeding import generator
from tests.core.test_engine import near_start, problem

KNOBS = s.GaussNewton(restarts=1)
