"""What the driver asks of an engine that runs orders, and the engine that runs them in the driver's own process."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from benchmark.events import WorkerLoad
from benchmark.worker import Failure, Order, Outcome, perform


@dataclass(frozen=True)
class Started:
    """A worker has taken the order up."""

    key: str
    attempt: int
    worker: str
    time: float


@dataclass(frozen=True)
class Progressed:
    """How far a running order is."""

    key: str
    attempt: int
    step: int
    total: int
    metrics: dict[str, float]
    time: float


@dataclass(frozen=True)
class Ended:
    """The order has come to an end on its worker."""

    key: str
    attempt: int
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """The worker died, or was killed, with the order in its hands."""

    key: str
    attempt: int
    failure: Failure
    started: bool = True
    """False where the order was still waiting behind another one at that worker."""


Message = Started | Progressed | Ended | Lost
Deliver = Callable[[Message], None]


class Engine(Protocol):
    """Runs orders, and tells what becomes of each: `Started`, some `Progressed`, then `Ended` or `Lost`."""

    def free_slots(self) -> int:
        """How many more orders it takes now."""
        ...

    def submit(self, order: Order) -> None:
        """Take an order."""
        ...

    def pump(self, deliver: Deliver, timeout_seconds: float) -> None:
        """Deliver the messages that are there; wait for the first, up to `timeout_seconds`."""
        ...

    def loads(self) -> dict[str, WorkerLoad]:
        """What each worker uses at the moment; empty where nobody knows."""
        ...

    def close(self, kill: bool) -> None:
        """Release everything; with `kill`, without waiting for running orders."""
        ...


@dataclass
class InProcess:
    """Runs orders one after the other in the driver's process: for a debugger. No time limit is kept."""

    waiting: deque[Order] = field(default_factory=deque[Order])

    def free_slots(self) -> int:
        """One, as long as none is waiting."""
        return 1 - len(self.waiting)

    def submit(self, order: Order) -> None:
        """Keep the order for the next `pump`."""
        self.waiting.append(order)

    def pump(self, deliver: Deliver, timeout_seconds: float) -> None:
        """Run the waiting order to its end."""
        while self.waiting:
            order = self.waiting.popleft()
            key, attempt = order.task.key, order.attempt

            def tell(step: int, total: int, metrics: dict[str, float], key: str = key, attempt: int = attempt) -> None:
                deliver(Progressed(key, attempt, step, total, metrics, time.time()))

            deliver(Started(key, attempt, "driver", time.time()))
            deliver(Ended(key, attempt, perform(order, "driver", tell)))

    def loads(self) -> dict[str, WorkerLoad]:
        """Nothing is known between tasks."""
        return {}

    def close(self, kill: bool) -> None:
        """Nothing to release."""
