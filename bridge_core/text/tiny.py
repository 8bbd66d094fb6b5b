"""Small language models with random weights: a family's real classes with a vocabulary of the proxy's own."""

from collections.abc import Iterable
from typing import Any, assert_never

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from bridge_core.errors import InvalidInput
from bridge_core.spec import text as t

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[EOS]")
MOST_POSITIONS = 512


def build_tiny(knobs: t.TinyText, texts: Iterable[str], num_classes: int) -> tuple[nn.Module, PreTrainedTokenizerFast]:
    """A model of the family with random weights, and a byte-pair tokenizer of `texts`.

    The weights' deviation is width^-1/2: the families' own 0.02 is meant for widths near 768, and leaves a narrow
    model's attention blind to the context.
    Raises `InvalidInput` where its knobs contradict each other.
    """
    if knobs.width % knobs.heads:
        found = f"width {knobs.width} with {knobs.heads} heads"
        raise InvalidInput(found, "heads that divide the width", "change one of them")
    tokenizer = _byte_pairs(knobs, texts)
    common: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    common["initializer_range"] = knobs.width**-0.5
    ends: dict[str, Any] = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.eos_token_id}
    labels: dict[str, Any] = {} if knobs.task == "causal" else {"num_labels": num_classes}
    size: dict[str, Any] = {
        "hidden_size": knobs.width,
        "num_hidden_layers": knobs.depth,
        "num_attention_heads": knobs.heads,
    }
    eager: dict[str, Any] = {"attn_implementation": "eager"}
    wide: dict[str, Any] = {"intermediate_size": 2 * knobs.width}
    match knobs.family:
        case "bert":
            if knobs.task == "causal":
                raise InvalidInput("a causal task for the BERT family", "`classification`", "use gpt2 or llama")
            config: Any = BertConfig(**common, **size, **labels, **eager, **wide)
            model: nn.Module = BertForSequenceClassification(config)
        case "gpt2":
            config = GPT2Config(
                **common, **ends, **labels, **eager, n_embd=knobs.width, n_layer=knobs.depth, n_head=knobs.heads
            )
            model = (GPT2LMHeadModel if knobs.task == "causal" else GPT2ForSequenceClassification)(config)
        case "llama":
            config = LlamaConfig(**common, **ends, **size, **labels, **eager, **wide, max_position_embeddings=512)
            model = (LlamaForCausalLM if knobs.task == "causal" else LlamaForSequenceClassification)(config)
        case _:
            assert_never(knobs.family)
    return model, tokenizer


def _byte_pairs(knobs: t.TinyText, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-pair encoding of lower-case text: the trainer of word pieces gives another vocabulary each time."""
    raw = Tokenizer(models.BPE(unk_token="[UNK]"))
    words = [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    raw.normalizer = normalizers.BertNormalizer()  # pyright: ignore[reportAttributeAccessIssue]
    raw.pre_tokenizer = pre_tokenizers.Sequence(words)  # pyright: ignore[reportAttributeAccessIssue]
    raw.decoder = decoders.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(vocab_size=knobs.vocabulary, special_tokens=list(SPECIALS), show_progress=False)
    raw.train_from_iterator(texts, trainer)
    if knobs.family == "bert":
        ends = [("[CLS]", raw.token_to_id("[CLS]")), ("[SEP]", raw.token_to_id("[SEP]"))]
        raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[EOS]",
        model_max_length=MOST_POSITIONS,
    )
