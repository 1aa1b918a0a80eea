"""The size of a run, from the environment: `make chaos USERS=1000 ORDERS=500 SEED=7 DURATION=60`."""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


class BadPlan(ValueError):
    """A variable is not a number, or out of range."""


@dataclass(frozen=True)
class Plan:
    """The number of users and orders, the duration in seconds, and the seed of all randomness."""

    users: int = 10_000
    orders: int = 5_000
    duration: float = 240.0
    seed: int = 0

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read USERS, ORDERS, DURATION and SEED; the default of SEED is random. Raises BadPlan."""
        return cls(
            users=_number(environment, "USERS", cls.users, least=1),
            orders=_number(environment, "ORDERS", cls.orders, least=0),
            duration=_number(environment, "DURATION", int(cls.duration), least=5),
            seed=_number(environment, "SEED", random.randrange(1, 100_000), least=0),  # noqa: S311
        )

    def __str__(self) -> str:
        return f"USERS={self.users} ORDERS={self.orders} DURATION={self.duration:g} SEED={self.seed}"


def _number(environment: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdigit() or int(text) < least:
        raise BadPlan(f"{name} must be a whole number, {least} or more")
    return int(text)
