"""Randomness by name: one independent generator for each (seed, purpose)."""

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator that depends on `seed` and the words of `purpose` alone, not on what was drawn elsewhere."""
    words = "\x1f".join([str(seed), *map(str, purpose)])
    digest = hashlib.sha256(words.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
