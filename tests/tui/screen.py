"""What a person sees of an app under test."""

import asyncio
import re
from collections import defaultdict
from html import unescape
from time import monotonic

from textual.app import App
from textual.pilot import Pilot

TEXT = re.compile(r'<text class="[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')


def text_of(app: App[int]) -> str:
    """The screen as lines of text."""
    lines: defaultdict[float, list[tuple[float, str]]] = defaultdict(list)
    for x, y, text in TEXT.findall(app.export_screenshot()):
        lines[float(y)].append((float(x), unescape(text).replace("\xa0", " ")))
    return "\n".join("".join(part for _, part in sorted(lines[y])) for y in sorted(lines))


async def until(pilot: Pilot[int], text: str, seconds: float = 5.0) -> str:
    """Wait until `text` is on the screen, and give the whole screen."""
    deadline = monotonic() + seconds
    while text not in (seen := text_of(pilot.app)):
        if monotonic() > deadline:
            raise AssertionError(f"no {text!r} on the screen:\n{seen}")
        await asyncio.sleep(0.02)
        await pilot.pause()
    return seen


async def all_pages(pilot: Pilot[int], most: int = 12) -> str:
    """Everything that a screen shows from its top to its end, by scrolling through it."""
    await pilot.press("home")
    seen: list[str] = []
    for _ in range(most):
        await pilot.pause()
        seen.append(text_of(pilot.app))
        if len(seen) > 1 and seen[-1] == seen[-2]:
            break
        await pilot.press("pagedown")
    return "\n".join(seen)
