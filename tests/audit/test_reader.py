"""The folder is hostile: one clear line each, no crash, no hang, memory bounded."""

import json
import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from audit.folder import MOST_FILES, shown
from audit.run import audit_adapter
from audit.subject import rank_of_gram, read_subject
from audit.tensors import read_tensor_file
from bridge_core.errors import InvalidInput, UnsafeAdapter
from bridge_core.guess import numerical_rank
from tests.audit.hostile import A, B, entry, plain_data, plain_header, safetensors, write

ROOT = Path(__file__).parents[2]


def complaint(folder: Path) -> str:
    """The one line that the folder is refused with."""
    with pytest.raises(InvalidInput) as caught:
        audit_adapter(folder)
    text = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in text and len(text) < 600 and text.isprintable()
    return text


def changed(**parts: Any) -> dict[str, Any]:
    header = plain_header()
    header[A] = header[A] | parts
    return header


def test_a_plain_folder_is_read(tmp_path: Path) -> None:
    subject = read_subject(write(tmp_path))
    assert [(row.name, row.rank, row.width, row.height) for row in subject.modules] == [("q_proj", 2, 8, 6)]
    torch.testing.assert_close(subject.layout.factors("q_proj").a.flatten()[0], torch.tensor(-0.029))
    assert subject.layout.factors("q_proj").scale == 2.0


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "has 0 bytes"),
    "header of 5 GB": (safetensors(b"{}", b"", claim=5 << 30), "claims a header of 5368709120 bytes"),
    "header of 2^64 - 1": (safetensors(b"{}", b"", claim=(1 << 64) - 1), "claims a header of 18446744073709551615"),
    "header cut": (safetensors(plain_header(), b"")[:60], "claims a header"),
    "no JSON": (safetensors(b"{nonsense", plain_data()), "no JSON"),
    "no UTF-8": (safetensors(b"\xff\xfe{}", plain_data()), "no JSON"),
    "a list": (safetensors([1], plain_data()), "no JSON object"),
    "nested": (safetensors(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b""), "nested too deeply"),
    "a huge number": (safetensors(b'{"a":' + b"9" * 100_000 + b"}", b""), "no JSON"),
    "NaN in the header": (safetensors(b'{"a":NaN}', b""), "NaN is no JSON number"),
    "data cut": (safetensors(plain_header(), plain_data()[:-4]), "two offsets within"),
    "data beyond": (safetensors(plain_header(), plain_data() + b"hidden"), "6 bytes behind its last tensor"),
    "negative size": (safetensors(changed(shape=[-2, 8]), plain_data()), "of shape"),
    "size of a truth": (safetensors(changed(shape=[True, 8]), plain_data()), "of shape"),
    "overflowing sizes": (safetensors(changed(shape=[1 << 40, 1 << 40]), plain_data()), "bytes"),
    "nine dimensions": (safetensors(changed(shape=[1] * 9), plain_data()), "of shape"),
    "shape of another size": (safetensors(changed(shape=[3, 8]), plain_data()), "gives"),
    "unknown dtype": (safetensors(changed(dtype="F4"), plain_data()), "of dtype F4"),
    "dtype no word": (safetensors(changed(dtype=[1]), plain_data()), "of dtype"),
    "offsets backwards": (safetensors(changed(data_offsets=[64, 0]), plain_data()), "places"),
    "an overlap": (safetensors({A: entry([2, 8], 0), B: entry([6, 2], 60)}, plain_data()[:-4]), "overlap"),
    "metadata no words": (safetensors(plain_header() | {"__metadata__": {"a": 1}}, plain_data()), "metadata"),
    "one factor": (safetensors({A: entry([2, 8], 0)}, plain_data()[:64]), "stands with one factor"),
    "ranks apart": (safetensors({A: entry([2, 8], 0), B: entry([4, 3], 64)}, plain_data()), "of one rank"),
    "no number": (safetensors(plain_header(), struct.pack("<28f", *[float("nan")] * 28)), "not finite"),
    "infinite": (safetensors(plain_header(), plain_data()[:-4] + struct.pack("<f", float("-inf"))), "not finite"),
    "a pickle": (b"PK\x03\x04" + b"\0" * 100, "claims a header"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_weights_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    weights, told = HOSTILE[name]
    assert told in complaint(write(tmp_path, weights))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (b"{", "no JSON"),
        (b"[]", "JSON list"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"lora_alpha": NaN}', "NaN"),
        (b'{"lora_alpha": 1e999}', "positive finite"),
        (b'{"lora_alpha": "many"}', "positive finite"),
        (b'{"lora_alpha": -1}', "positive finite"),
        (b" " * (5 << 20), "at most"),
    ],
    ids=lambda value: str(value[:24]),
)
def test_hostile_configurations_are_refused_in_one_line(config: bytes, told: str, tmp_path: Path) -> None:
    assert told in complaint(write(tmp_path, config=config))


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_links_out_of_the_folder_pipes_and_folders_are_not_opened(name: str, tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere") / name
    linked, piped, nested = (write(tmp_path / each) for each in ("linked", "piped", "nested"))
    for folder in (linked, piped, nested):
        (folder / name).unlink()
    (linked / name).symlink_to(elsewhere)
    os.mkfifo(piped / name)
    (nested / name).mkdir()
    assert "leads out of linked" in complaint(linked)
    assert "no regular file" in complaint(piped)
    if name.endswith("safetensors"):
        assert "no adapter_model.safetensors" in complaint(nested)


def test_a_link_inside_the_folder_is_read_and_others_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "blob")
    (folder / "adapter_model.safetensors").symlink_to("blob")
    (folder / "loop").symlink_to("loop")
    (folder / "notes.txt").symlink_to("/etc/hostname")
    (folder / "up").symlink_to("..")
    found = {one.rule: one for one in audit_adapter(folder).findings}
    assert found["outward-links"].where == ("loop", "notes.txt", "up")


def test_no_path_of_a_configuration_is_followed(tmp_path: Path) -> None:
    """A pipe that is opened would hang; a folder of code that is named would be imported."""
    os.mkfifo(tmp_path / "pipe")
    config = {
        "peft_type": "LORA",
        "lora_alpha": 4,
        "base_model_name_or_path": str(tmp_path / "pipe"),
        "auto_mapping": {"base_model_class": "os.system", "parent_library": str(tmp_path)},
        "corda_config": {"cache_file": str(tmp_path / "pipe")},
        "alpha_pattern": {"(q+)+proj$": 3, "q_proj": 8},
    }
    start = time.perf_counter()
    report = audit_adapter(write(tmp_path / "a", config=config))
    assert time.perf_counter() - start < 5
    assert report.adapter.base_model == str(tmp_path / "pipe")


def test_pickles_alone_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickles are never opened" in complaint(folder)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    for number in range(MOST_FILES):
        (folder / str(number)).touch()
    assert f"more than {MOST_FILES} files" in complaint(folder)


def test_nothing_there_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("/dev/null"), Path("/dev/zero")):
        assert complaint(path)


def test_names_are_printed_on_one_line() -> None:
    assert shown("a\x1b[31m\nb\u202ec") == "a�[31m b�c"


def test_ten_thousand_tensors_are_read_in_a_few_seconds(tmp_path: Path) -> None:
    folder = write(tmp_path)
    rng = torch.Generator().manual_seed(0)
    tensors = {}
    for number in range(5000):
        tensors[f"base_model.model.layers.{number}.q_proj.lora_A.weight"] = torch.randn(2, 4, generator=rng)
        tensors[f"base_model.model.layers.{number}.q_proj.lora_B.weight"] = torch.randn(4, 2, generator=rng)
    save_file(tensors, folder / "adapter_model.safetensors")
    start = time.perf_counter()
    report = audit_adapter(folder)
    assert report.adapter.num_modules == 5000
    assert time.perf_counter() - start < 20


def test_a_sparse_file_of_gigabytes_costs_no_memory(tmp_path: Path) -> None:
    """12 GB of zeros on the disc's account: one tensor of a size that must not be held, read in pieces at most."""
    folder = write(tmp_path)
    header = plain_header() | {"base_model.model.big.weight": entry([3 << 20, 1024], 112)}
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(safetensors(header | {"huge": entry([1 << 36], 112 + (12 << 30))}, plain_data()))
    os.truncate(weights, 17 << 30)
    assert "at most" in complaint(folder)
    header = plain_header() | {"base_model.model.q.lora_A.weight": entry([2, 1 << 27], 112)}
    header["base_model.model.q.lora_B.weight"] = entry([2, 2], 112 + (1 << 30))
    weights.write_bytes(safetensors(header, plain_data()))
    os.truncate(weights, weights.stat().st_size + (1 << 30) + 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "at most" in complaint(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    subject = read_subject(write(tmp_path))
    with (tmp_path / "adapter_model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UnsafeAdapter, match="changed while it was read"):
        subject.layout.factors("q_proj")


def test_reading_imports_no_peft_and_no_transformers(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from audit.run import audit_adapter
audit_adapter(Path({str(write(tmp_path))!r}))
assert not {{"peft", "transformers", "diffusers"}} & set(sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_the_safetensors_library_reads_the_same(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5).to(torch.bfloat16),
        "b": torch.arange(6),
        "c": torch.randn(2, 2, dtype=torch.float64),
        "d": torch.zeros(0, 4),
        "e": torch.tensor(2.0),
    }
    save_file(tensors, tmp_path / "w.safetensors", metadata={"format": "pt", "x": json.dumps([1])})
    from audit.folder import read_folder

    (file,) = read_folder(tmp_path).files
    found = read_tensor_file(file)
    assert found.metadata == {"format": "pt", "x": "[1]"}
    for name, tensor in tensors.items():
        assert torch.equal(found.read(name), tensor) and found.read(name).dtype == tensor.dtype
        assert torch.equal(torch.cat([*found.pieces(name), tensor.new_zeros(0)]), tensor.flatten())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_rank_by_gram_matrices_is_that_by_singular_values(rank: int, dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(rank)
    b = (torch.randn(200, rank, generator=rng) @ torch.randn(rank, 8, generator=rng) * 1e-3).to(dtype).float()
    gram = b.double().T @ b.double()
    assert rank_of_gram(gram, dtype) == numerical_rank(b, dtype).rank
