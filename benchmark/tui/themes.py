"""Two calm themes, dark and light, with the ends of the heat map's scale."""

from textual.theme import Theme

DARK = Theme(
    name="bridge-dark",
    primary="#7aa2c9",
    secondary="#8d94a8",
    accent="#86b8d6",
    warning="#d8b26a",
    error="#e0808a",
    success="#8fbf8f",
    foreground="#d5d9e0",
    background="#14181d",
    surface="#171c22",
    panel="#242b34",
    variables={
        "heat-cold": "#1f2a38",
        "heat-hot": "#9fd8c4",
        "rule": "#343e4a",
        "footer-background": "#171c22",
        "footer-key-foreground": "#86b8d6",
        "footer-description-foreground": "#8d94a8",
    },
)

LIGHT = Theme(
    name="bridge-light",
    primary="#2f5f8a",
    secondary="#5d6675",
    accent="#1f6a94",
    warning="#8a5a00",
    error="#a8303c",
    success="#2f6f3a",
    foreground="#22272e",
    background="#fafaf8",
    surface="#f3f3ef",
    panel="#e4e4de",
    dark=False,
    variables={
        "heat-cold": "#e3e9ee",
        "heat-hot": "#1f7f68",
        "rule": "#cfd2cc",
        "footer-background": "#f3f3ef",
        "footer-key-foreground": "#1f6a94",
        "footer-description-foreground": "#5d6675",
    },
)
