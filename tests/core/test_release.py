"""A strange folder is refused in one line, and nothing in it is ever unpickled."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bridge_core import spec as s
from bridge_core.errors import InvalidInput, UnknownName, UnsafeAdapter
from bridge_core.release import CONFIG_FILE, WEIGHTS_FILE, read_release
from tests.core.examples import is_one_line, victim

FIRST = "base_model.model.conv1.lora_A.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real adapter folder."""
    folder = tmp_path_factory.mktemp("good")
    victim("convnet", folder, s.Recipe())
    return folder / "release"


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(good, tmp_path / "adapter"))


class Trap:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def refusal(folder: Path, kind: type[InvalidInput] = UnsafeAdapter) -> InvalidInput:
    with pytest.raises(kind) as caught:
        read_release(folder)
    assert is_one_line(caught.value) and len(str(caught.value)) < 600
    assert caught.value.exit_code == 2
    return caught.value


def change_config(folder: Path, **values: object) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)


def test_a_real_folder_is_read_by_module(folder: Path) -> None:
    release, tensors = read_release(folder), load_file(folder / WEIGHTS_FILE)
    assert set(release.modules) == {"conv1", "conv2", "conv3", "head"}
    assert torch.equal(release.factors["conv1"].a, tensors[FIRST].flatten(1))
    assert release.factors["conv1"].scale == pytest.approx(16 / 3)


@pytest.mark.parametrize("ending", ["bin", "pt", "pkl"])
def test_a_pickle_is_refused_and_stays_shut(ending: str, folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    (folder / f"adapter_model.{ending}").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert is_one_line(refusal(folder), "pickle", f"adapter_model.{ending}", "never opened")
    assert not (tmp_path / "sprung").exists()
    pickle.loads((folder / f"adapter_model.{ending}").read_bytes())
    assert (tmp_path / "sprung").exists(), "the trap itself is broken"


def test_a_pickle_under_the_name_of_safetensors_stays_shut(folder: Path, tmp_path: Path) -> None:
    for write in (pickle.dumps(Trap(tmp_path / "sprung")), None):
        if write is None:
            torch.save({"x": Trap(tmp_path / "sprung")}, folder / WEIGHTS_FILE)
        else:
            (folder / WEIGHTS_FILE).write_bytes(write)
        assert is_one_line(refusal(folder), "not safetensors")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", [WEIGHTS_FILE, CONFIG_FILE])
def test_a_link_out_of_the_folder_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / name, tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    assert is_one_line(refusal(folder), name, "leads out")


def test_a_link_within_the_folder_is_read(folder: Path) -> None:
    (folder / WEIGHTS_FILE).rename(folder / "blob")
    (folder / WEIGHTS_FILE).symlink_to("blob")
    assert read_release(folder).modules


@pytest.mark.parametrize("name", [WEIGHTS_FILE, CONFIG_FILE])
def test_what_is_missing_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert is_one_line(refusal(folder, UnknownName), name)


def test_no_folder_and_a_folder_in_place_of_a_file_are_refused(folder: Path, tmp_path: Path) -> None:
    refusal(tmp_path / "none", UnknownName)
    (folder / WEIGHTS_FILE).unlink()
    (folder / WEIGHTS_FILE).mkdir()
    refusal(folder)


@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_half_a_module_is_refused(factor: str, folder: Path) -> None:
    change_weights(folder, lambda t: t.__delitem__(f"base_model.model.conv2.{factor}.weight"))
    assert is_one_line(refusal(folder), "conv2")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, folder: Path) -> None:
    change_weights(folder, lambda t: t[FIRST].view(-1).__setitem__(0, value))
    assert is_one_line(refusal(folder), "lora_A", "finite")


def test_whole_numbers_are_refused(folder: Path) -> None:
    change_weights(folder, lambda t: t.update({FIRST: t[FIRST].to(torch.int32)}))
    assert is_one_line(refusal(folder), "lora_A", "finite")


def test_factors_that_do_not_fit_are_refused(folder: Path) -> None:
    change_weights(folder, lambda t: t.update({FIRST: t[FIRST][:2].contiguous()}))
    assert is_one_line(refusal(folder), "conv1", "one rank")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "3", "\x00\xff", '{"peft_type": "LORA"'])
def test_malformed_json_is_refused(text: str, folder: Path) -> None:
    (folder / CONFIG_FILE).write_bytes(text.encode("latin-1"))
    assert is_one_line(refusal(folder), CONFIG_FILE)


def test_a_huge_configuration_is_refused(folder: Path) -> None:
    change_config(folder, padding="x" * (1 << 20))
    assert is_one_line(refusal(folder), CONFIG_FILE, "bytes")


@pytest.mark.parametrize("kind", ["LOHA", "IA3", "", None, 3, "LORA\n[red]x"])
def test_other_kinds_of_adapter_are_refused(kind: object, folder: Path) -> None:
    change_config(folder, peft_type=kind)
    assert is_one_line(refusal(folder), "peft_type LORA")


@pytest.mark.parametrize("alpha", ["sixteen", None, [16], float("nan"), float("inf"), True])
def test_an_alpha_that_is_no_number_is_refused(alpha: object, folder: Path) -> None:
    change_config(folder, lora_alpha=alpha)
    assert is_one_line(refusal(folder), "lora_alpha")


@pytest.mark.parametrize("keep", [0, 4, 8, 60, 0.5, 0.99])
def test_a_truncated_file_is_refused(keep: float, folder: Path) -> None:
    whole = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    assert is_one_line(refusal(folder), "not safetensors")


def test_a_header_that_claims_five_gigabytes_is_refused(folder: Path) -> None:
    (folder / WEIGHTS_FILE).write_bytes((5 << 30).to_bytes(8, "little") + b"{}" * 20)
    assert is_one_line(refusal(folder), "not safetensors")


def test_a_tensor_that_claims_five_gigabytes_is_refused(folder: Path) -> None:
    size = 5 << 30
    header = json.dumps({FIRST: {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    (folder / WEIGHTS_FILE).write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 64)
    assert is_one_line(refusal(folder), "not safetensors")


def test_a_file_without_any_lora_is_refused(folder: Path) -> None:
    save_file({"something.weight": torch.ones(2, 2)}, folder / WEIGHTS_FILE)
    assert is_one_line(refusal(folder), "no lora_A")
    save_file({}, folder / WEIGHTS_FILE)
    assert is_one_line(refusal(folder), "no lora_A")
