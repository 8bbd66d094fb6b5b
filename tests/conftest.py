"""What all tests share: shapes checked at run time, and properties without a deadline."""

import os

from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

from tests import checked_types

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

install_import_hook("bridge_core", f"{checked_types.__name__}.checked")

# Two cores are shared with workers that tests start: a slow example says nothing about the claim.
settings.register_profile("bridge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bridge")
