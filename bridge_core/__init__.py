"""The LoRA-Gradient Bridge: what a released LoRA adapter reveals of the data it was trained on."""

__version__ = "0.1.0"
