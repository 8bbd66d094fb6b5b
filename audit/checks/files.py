"""Files that a training run leaves beside the adapter. None of them is unpickled."""

from collections.abc import Iterator, Sequence
from typing import Any

from audit.folder import File, read_object, shown
from audit.report import Finding, Severity
from audit.subject import Subject
from bridge_core.errors import UnsafeAdapter
from bridge_core.release import CONFIG_FILE

MOST_SHOWN = 20
DATA = (".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".ndjson", ".npz", ".npy", ".h5", ".sqlite", ".db")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tiff", ".mp4", ".wav", ".flac", ".mp3")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
NAMED_OF_OLD = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "training_args.bin")
STRIP = "`bridge protect` copies the weights and the configuration alone"


def findings(subject: Subject) -> Iterator[Finding]:
    """Optimiser states, training states and arguments, logs, data, pickles, and links."""
    folder = subject.folder
    files = [one for one in folder.files if one.name not in (subject.weights.name, CONFIG_FILE)]
    named = [(_base(one), one) for one in files]
    yield from _optimiser([one for name, one in named if name in ("optimizer.pt", "optimizer.bin") or _shard(name)])
    yield from _state([one for name, one in named if name == "trainer_state.json"])
    yield from _arguments([one for name, one in named if name == "training_args.bin"])
    yield from _resumption([one for name, one in named if _resumes(name)])
    yield from _logs([one for name, one in named if "tfevents" in name or "wandb" in one.name or "mlruns" in one.name])
    yield from _data([one for name, one in named if name.endswith(DATA) or name in ("train.txt", "data.txt")])
    yield from _pictures([one for name, one in named if name.endswith(PICTURES)])
    other = [one for name, one in named if name.endswith(PICKLED) and name not in NAMED_OF_OLD and not _resumes(name)]
    yield from _pickles([one for one in other if not _shard(_base(one))])
    yield from _links(folder.outward + folder.special)


def _base(file: File) -> str:
    return file.name.rpartition("/")[2].lower()


def _shard(name: str) -> bool:
    """A DeepSpeed or FSDP shard of the optimiser's state."""
    return "optim_states" in name or "optimizer_state" in name


def _resumes(name: str) -> bool:
    return name.startswith(("rng_state", "scheduler.", "scaler.", "random_states"))


def finding_of_files(files: Sequence[File], **parts: Any) -> Finding:
    """A finding of the named files."""
    places = tuple(shown(one.name) for one in files[:MOST_SHOWN])
    return Finding(where=places, num_places=len(files), remedy=parts.pop("remedy", STRIP), **parts)


def _optimiser(files: Sequence[File]) -> Iterator[Finding]:
    if files:
        yield finding_of_files(
            files,
            rule="optimiser-state",
            title="The optimiser's state lies beside the adapter",
            severity=Severity.HIGH,
            reveals="running means of the training gradients and of their squares: what reconstruction starts from, "
            "without the optimiser in between",
            evidence=(f"{sum(one.size for one in files)} bytes, not opened: it is a pickle",),
        )


def _state(files: Sequence[File]) -> Iterator[Finding]:
    if files:
        yield finding_of_files(
            files,
            rule="trainer-state",
            title="The Trainer's state lies beside the adapter",
            severity=Severity.MEDIUM,
            reveals="steps, epochs, batch size and the loss at each log, from which the number of samples follows",
            evidence=_told(files[0]),
        )


def _told(file: File) -> tuple[str, ...]:
    """What a trainer_state.json says, as far as it can be read."""
    try:
        state = read_object(file)
    except UnsafeAdapter as error:
        return (str(error),)
    keys = ("max_steps", "global_step", "num_train_epochs", "epoch", "train_batch_size", "total_flos")
    told = [f"{key} is {shown(str(state[key]), 40)}" for key in keys if _is_number(state.get(key))]
    if isinstance(path := state.get("best_model_checkpoint"), str):
        told.append(f"best_model_checkpoint is {shown(path)}")
    steps, epochs = state.get("max_steps"), state.get("num_train_epochs")
    if isinstance(steps, int | float) and isinstance(epochs, int | float) and _is_number(steps) and _is_number(epochs):
        told += _samples(float(steps), float(epochs), state.get("train_batch_size"))
    log = state.get("log_history")
    return (*told, *([f"losses at {len(log)} steps"] if isinstance(log, list) else []))


def _samples(steps: float, epochs: float, batch: Any) -> list[str]:
    if not _is_number(batch) or not 0 < epochs < 1e9 or not 0 < steps < 1e12 or not 0 < batch < 1e9:
        return []
    most = steps / epochs * batch
    return [
        f"so about {max(1, round(most - batch + 1))} to {round(most)} samples (on one device, without accumulation)"
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _arguments(files: Sequence[File]) -> Iterator[Finding]:
    if files:
        yield finding_of_files(
            files,
            rule="training-arguments",
            title="The Trainer's arguments lie beside the adapter",
            severity=Severity.MEDIUM,
            reveals="optimiser, learning rate, batch size, seed and local paths: the recipe that an attack must undo",
            evidence=("not opened: it is a pickle",),
        )


def _resumption(files: Sequence[File]) -> Iterator[Finding]:
    if files:
        yield finding_of_files(
            files,
            rule="resume-state",
            title="States of generators and schedules lie beside the adapter",
            severity=Severity.LOW,
            reveals="the random state, hence the order of batches and dropout's masks; the learning rate's schedule",
            evidence=("not opened",),
        )


def _logs(files: Sequence[File]) -> Iterator[Finding]:
    if files:
        yield finding_of_files(
            files,
            rule="training-logs",
            title="Logs of the training run lie beside the adapter",
            severity=Severity.MEDIUM,
            reveals="losses at every step, the recipe, at times samples of the data and the user's name",
            evidence=("not opened",),
        )


def _data(files: Sequence[File]) -> Iterator[Finding]:
    if files:
        yield finding_of_files(
            files,
            rule="data-files",
            title="Files that look like data lie beside the adapter",
            severity=Severity.HIGH,
            reveals="possibly the training data themselves",
            evidence=("not opened: look at them before publishing",),
        )


def _pictures(files: Sequence[File]) -> Iterator[Finding]:
    if files:
        yield finding_of_files(
            files,
            rule="media-files",
            title="Pictures or recordings lie beside the adapter",
            severity=Severity.MEDIUM,
            reveals="samples made during training, or training data",
            evidence=("not opened: look at them before publishing",),
        )


def _pickles(files: Sequence[File]) -> Iterator[Finding]:
    if files:
        yield finding_of_files(
            files,
            rule="pickles",
            title="Pickles lie beside the adapter",
            severity=Severity.LOW,
            reveals="unknown: opening a pickle runs its code, so they were not opened",
            evidence=(f"{sum(one.size for one in files)} bytes",),
        )


def _links(names: Sequence[str]) -> Iterator[Finding]:
    if names:
        yield Finding(
            rule="outward-links",
            title="Links that lead out of the folder, or files that are none",
            severity=Severity.LOW,
            reveals="nothing by themselves: they were not followed, and what they lead to was not audited",
            where=tuple(shown(one) for one in names[:MOST_SHOWN]),
            num_places=len(names),
            remedy=STRIP,
        )
