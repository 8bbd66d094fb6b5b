"""Pictures drawn with half-block characters: truth, reconstruction and mean image side by side."""

from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from benchmark.tui import wording
from benchmark.tui.pictures import Gallery, half_blocks, resize

if TYPE_CHECKING:
    from benchmark.tui.pictures import Image

GAP = 3
"""Columns between two pictures."""
MAX_LINES = 20


class Picture(Widget):
    """The pictures of one secret under their captions; `turn` goes to the next secret."""

    def __init__(self) -> None:
        super().__init__(id="picture")
        self.gallery: Gallery | str = "no pictures yet"
        self.secret = 0
        self._strips: list[Strip] = []

    def show(self, gallery: Gallery | str) -> None:
        """Draw `gallery`, or the line that says why there is none."""
        self.gallery = gallery
        self._draw()

    def turn(self, by: int) -> None:
        """Show another secret."""
        if isinstance(self.gallery, Gallery):
            self.secret = (self.secret + by) % self.gallery.num_secrets
            self._draw()

    def on_resize(self) -> None:
        """Fit the pictures to the new width."""
        self._draw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the pictures need."""
        del container, viewport, width
        return max(1, len(self._strips))

    def render_line(self, y: int) -> Strip:
        """A line of the pictures."""
        width = self.size.width
        strip = self._strips[y] if y < len(self._strips) else Strip.blank(width)
        return strip.apply_style(self.rich_style).crop_extend(0, width, self.rich_style)

    def _draw(self) -> None:
        lines = (
            self._lines(self.gallery) if isinstance(self.gallery, Gallery) else [[Segment(wording.plain(self.gallery))]]
        )
        self._strips = [Strip(line) for line in lines]
        self.refresh(layout=True)

    def _lines(self, gallery: Gallery) -> list[list[Segment]]:
        chosen = {caption: secrets[self.secret][:4] for caption, secrets in gallery.images.items()}
        room = self._room(len(chosen))
        if room < max(images[0].shape[1] for images in chosen.values()):
            chosen = {caption: images for caption, images in chosen.items() if caption != "mean image"} or chosen
            room = self._room(len(chosen))
        if self.size.width < 8 or room < 4:
            return [[Segment("too narrow for pictures")]]
        lines = [[Segment(self._title(gallery))]]
        for sample in range(len(next(iter(chosen.values())))):
            lines += _beside({caption: images[sample] for caption, images in chosen.items()}, room)
        return lines

    def _room(self, count: int) -> int:
        """Columns of each of `count` pictures."""
        return (self.size.width - GAP * (count - 1)) // count

    def _title(self, gallery: Gallery) -> str:
        score = gallery.scores.get(self.secret)
        told = "" if score is None else f", PSNR {wording.metric('psnr', score)} dB"
        turn = "   (← → for others)" if gallery.num_secrets > 1 else ""
        return f"secret {self.secret + 1} of {gallery.num_secrets}{told}{turn}"


def _beside(images: "dict[str, Image]", room: int) -> list[list[Segment]]:
    """Captions, then the pictures in columns of equal width."""
    drawn = {caption: resize(image, room, MAX_LINES) for caption, image in images.items()}
    width = max(max(image.shape[1], len(caption)) for caption, image in drawn.items())
    lines = [[Segment((" " * GAP).join(wording.fit(caption, width) for caption in drawn))]]
    blocks = [half_blocks(image) for image in drawn.values()]
    for line in zip(*blocks, strict=True):
        segments: list[Segment] = []
        for pixels in line:
            segments += [*pixels, Segment(" " * (width - len(pixels) + GAP))]
        lines.append(segments)
    return lines
