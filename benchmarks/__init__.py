"""Speed and scale, as figures that a command prints; no part of what is installed."""
