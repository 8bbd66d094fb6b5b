"""The bridge and Haim et al. (2022) side by side over training steps: `python -m benchmarks.haim`."""
