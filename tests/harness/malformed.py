"""More than 500 malformed suites, made from a good one; each must be refused with exit code 2 and no traceback."""

import random
from collections.abc import Iterator

HOSTILE_TEXTS = (
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "..",
    "$(touch owned)",
    "`touch owned`",
    "; rm -rf ~",
    "| cat",
    "\\\\input{/etc/passwd}",
    "\\\\write18{ls}",
    "$x^2$",
    "50% & _more_",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\\e[2J\\e[31mred",
    "\\e]0;title\\a",
    "\\0",
    "\\r\\nX: y",
    "\\u202Eevil",
    "[link=file:///etc]x[/link]",
    "a" * 300,
    " ",
    "",
    "{{ 7 * 7 }}",
    "%s%n",
    "con\\tnul",
)
"""As they stand between double quotes in YAML."""
WRONG_VALUES = (
    "null",
    "-1",
    "1e400",
    ".nan",
    "9" * 400,
    "!!python/object/apply:os.system [ls]",
    "!!binary aGk=",
    "[[[[]]]]",
    "{a: {b: {c: d}}}",
    '"\\e[2J"',
    "*nowhere",
    "&a [*a]",
    "0x" + "f" * 400,
    "2026-01-01",
    "[" * 100 + "]" * 100,
    "{? [a] : b}",
)
KEYS = (
    "name",
    "seeds",
    "num_secrets",
    "models",
    "ranks",
    "datasets",
    "priors",
    "recipes",
    "bridges",
    "inversions",
    "exclude",
    "include",
)
GOOD = {
    "name": "good",
    "models": "[vit]",
    "ranks": "[2, 4]",
    "datasets": "[{proxy: digits, private: mnist}]",
    "bridges": "[oracle]",
    "inversions": "[dlg]",
}
OPTIONAL = {"priors", "recipes", "seeds", "num_secrets", "exclude", "include"}
NESTED = (
    ("models", "[{{kind: vit, {key}: {value}}}]", ("depth", "width", "heads", "patch", "label", "pretraining", "kind")),
    ("bridges", "[{{kind: ridge, {key}: {value}}}]", ("num_pairs", "label", "kind")),
    ("recipes", "[{{{key}: {value}}}]", ("steps", "batch_size", "num_samples", "optimiser", "save_dtype", "lora")),
    ("datasets", "[{{proxy: {{kind: parquet, {key}: {value}}}, private: mnist}}]", ("path", "label", "kind")),
)


def written(**changed: str) -> str:
    """The good suite with some keys changed."""
    return "".join(f"{key}: {value}\n" for key, value in (GOOD | changed).items())


def malformed() -> Iterator[tuple[str, bytes]]:
    """Name and content of every suite."""
    yield from ((f"whole-{i}", content) for i, content in enumerate(_wholes()))
    for key in KEYS:
        for i, value in enumerate(WRONG_VALUES):
            if not (value == "null" and key in OPTIONAL):
                yield f"{key}-{i}", written(**{key: value}).encode()
    for i, text in enumerate(HOSTILE_TEXTS):
        yield f"name-{i}", written(name=f'"{text}"').encode()
        yield f"label-{i}", written(models=f'[{{kind: vit, label: "{text}!"}}]').encode()
        yield f"kind-{i}", written(bridges=f'["{text}"]').encode()
        yield (
            f"path-{i}",
            written(datasets=f'[{{proxy: {{kind: parquet, path: "no{text}"}}, private: mnist}}]').encode(),
        )
        yield f"key-{i}", (written() + f'"{text}": 1\n').encode()
    for axis, form, keys in NESTED:
        for key in keys:
            for i, value in enumerate(WRONG_VALUES[1:]):
                if key == "label" and value == "2026-01-01":
                    continue  # a label that is as good as any
                yield f"{axis}-{key}-{i}", written(**{axis: form.format(key=key, value=value)}).encode()
    yield from ((f"torn-{i}", content) for i, content in enumerate(_torn()))


def _wholes() -> Iterator[bytes]:
    """Files that are no suite at all."""
    layers = ["a0: &a0 [lol, lol]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    yield "\n".join(layers).encode()  # a billion laughs
    yield from (
        b"",
        b"\n\n",
        b"#only\n",
        b"---\n",
        b"---\n---\n",
        b"42",
        b"[]",
        b"text",
        b"{}",
        b"\xff\xfe\x00",
        b"\x00" * 64,
    )
    yield b"[" * 10_000_000
    yield b"{a: " * 200_000
    yield b"name: " + b"x" * 10_000_000
    yield b"- " * 50_000
    yield b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "name: good\n".encode("utf-16")
    yield b"%YAML 9.9\n---\nname: good\n"
    yield b"<<: *x\nname: good\n"
    yield b"name: good\t\n\tranks: [2]\n"


def _torn() -> Iterator[bytes]:
    """The good suite cut off, or with bytes that do not belong there."""
    good, draw = written().encode(), random.Random(0)
    for end in range(3, len(good) - 18, 3):
        yield good[:end]
    for _ in range(40):
        place = draw.randrange(len(good))
        yield good[:place] + draw.choice((b"\x00", b"\x07", b"\xc3", b"\x1b")) + good[place:]
