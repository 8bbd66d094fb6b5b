"""What deeper blocks say of whole sentences: their inputs under the public base model, held against their own spans."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from bridge_core.errors import NotApplicable
from bridge_core.text.batches import padded
from bridge_core.text.models import Language
from bridge_core.text.span import Probe, Spectrum, annihilators, excess, residual

BATCH_TOKENS = 8192
"""Of a forward pass."""


class _Reached(Exception):
    """No error: the forward pass has gone far enough."""


@dataclass(frozen=True)
class Span:
    """What one block's release leaves free."""

    matrices: Sequence[Float64[Tensor, "k in"]]
    spectra: Sequence[Spectrum]
    probes: Sequence[Probe]

    @property
    def rank(self) -> int:
        """Number of independent inputs."""
        return self.spectra[0].rank

    def square(self, inputs: Float64[Tensor, "n d"]) -> Float64[Tensor, "n"]:
        """(|C x| / |A x|)²."""
        return residual(self.matrices, self.probes, inputs).square()

    def excess(self, inputs: Float64[Tensor, "n d"]) -> Float64[Tensor, "n"]:
        """|C x|² over what noise in the rows explains."""
        return excess(self.matrices, self.spectra, self.probes, inputs)


Measure = Callable[[Span, Float64[Tensor, "n d"]], Float64[Tensor, "n"]]


@dataclass(frozen=True)
class Deeper:
    """The spans of the blocks behind the first one, as far as they are not full."""

    language: Language
    spans: Mapping[int, Span]

    def residuals(self, sentences: Sequence[Sequence[int]]) -> Float64[Tensor, "n t"]:
        """|C x| / |A x| of every token, root mean square over the blocks; NaN behind a sentence's end."""
        return self._over(sentences, Span.square).sqrt()

    def unexplained(self, sentences: Sequence[Sequence[int]]) -> Float64[Tensor, "n t"]:
        """|C x|² over what noise in the rows explains of a member, mean over the blocks; NaN behind the end."""
        return self._over(sentences, Span.excess)

    def _over(self, sentences: Sequence[Sequence[int]], measure: Measure) -> Float64[Tensor, "n t"]:
        longest = max(map(len, sentences))
        rows = max(1, BATCH_TOKENS // longest)
        return torch.cat(
            [self._some(sentences[i : i + rows], measure, longest) for i in range(0, len(sentences), rows)]
        )

    def _some(self, sentences: Sequence[Sequence[int]], measure: Measure, longest: int) -> Float64[Tensor, "n t"]:
        batch = padded([list(one) for one in sentences], torch.zeros(len(sentences)).long(), self.language.pad)
        seen = block_inputs(self.language, batch.ids, batch.mask, tuple(self.spans))
        found = torch.stack([measure(span, seen[block][batch.mask].double()) for block, span in self.spans.items()])
        short = torch.full(batch.ids.shape, torch.nan, dtype=torch.float64)
        short[batch.mask] = found.mean(0)
        rest = torch.full((len(sentences), longest - short.shape[1]), torch.nan, dtype=torch.float64)
        return torch.cat([short, rest], 1)


def deeper(language: Language, probes: Mapping[int, Sequence[Probe]], at_least: int) -> Deeper:
    """The usable spans of the blocks of `probes` behind the first, which has rank `at_least`."""
    spans: dict[int, Span] = {}
    for block, found in sorted(probes.items()):
        if block and found:
            try:
                spans[block] = Span(*annihilators(found, at_least=at_least))
            except NotApplicable:
                continue
    return Deeper(language, spans)


def block_inputs(
    language: Language, ids: Int64[Tensor, "n t"], mask: Bool[Tensor, "n t"], blocks: Sequence[int]
) -> dict[int, Float[Tensor, "n t d"]]:
    """What the query, key and value of each of `blocks` read; the forward pass ends at the last of them."""
    seen: dict[int, Tensor] = {}
    last = max(blocks)

    def listen(block: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[block] = inputs[0]
            if block == last:
                raise _Reached

        return hook

    modules = {block: language.model.get_submodule(language.readers(block)[0]) for block in blocks}
    handles = [module.register_forward_pre_hook(listen(block)) for block, module in modules.items()]
    try:
        with torch.no_grad():
            language.base(input_ids=ids, attention_mask=mask.long())
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return seen
