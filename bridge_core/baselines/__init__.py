"""Attacks of others, to stand beside the bridge."""
