"""Inversions: from gradients or measurements back to images."""
