"""The budget of an output: what its runs have spent, and the end of a run that has spent it all.

Devices are paid for from the moment when a run reserves them to its end, whatever they do, so that
is what counts. A run that is stopped takes no new records and finishes those that the small model
has answered: what it spends beyond the budget is the large model's time for these.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.balance.record import BalanceRecord
from pipeline.budget_config import BudgetConfig, WhenSpent
from pipeline.run_record import RunRecord
from sgl.errors import BudgetError, ConfigurationError

_HOUR_S = 3600.0
_FOLLOWS = {
    WhenSpent.STOP: "no new records are taken; the same command with a larger budget goes on",
    WhenSpent.SMALL: "from now on the small model's answers stand",
}


@dataclass(frozen=True)
class Spent:
    """By some runs.

    Attributes:
        usd: 0 for runs without prices.
        gpu_hours: of devices.
    """

    usd: float
    gpu_hours: float

    def plus(self, other: "Spent") -> "Spent":
        """Both."""
        return Spent(self.usd + other.usd, self.gpu_hours + other.gpu_hours)


class Purse:
    """Asked again and again while a run goes on; closes it once.

    Args:
        config: the budget.
        run: as it begins.
        before: spent by earlier runs.
        close: tells the stages; called again and again from then on.
        say: shows a line to the user.
        clock: time.time().

    Raises:
        ConfigurationError: dollars are limited, and a pool has no price.
        BudgetError: the earlier runs have spent it.
    """

    def __init__(
        self,
        config: BudgetConfig,
        run: RunRecord,
        before: Spent,
        close: Callable[[], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        if config.usd is not None and None in [one.usd_per_hour for one in run.pools.values()]:
            raise ConfigurationError(
                "budget.usd: no prices are known; write pools.*.usd_per_hour, or gpu_hours"
            )
        self._config = config
        self._run = run
        self._before = before
        self._close = close
        self._say = say
        self._clock = clock
        self.closed = False
        refuse_spent(config, before)

    @property
    def stopped(self) -> bool:
        """Whether records may be missing because the budget was spent."""
        return self.closed and self._config.then is WhenSpent.STOP

    def __call__(self, balance: BalanceRecord | None = None) -> None:
        """Close the run if it is time.

        Args:
            balance: of the run until now; None where the pools are of a fixed size.
        """
        if self.closed:
            self._close()  # again: whoever is told may have missed it
            return
        run = self._run.model_copy(update={"balance": balance})
        now = spent_by(run, self._clock() - run.started_at)
        if told := _over(self._config, self._before.plus(now)):
            self.closed = True
            self._close()
            self._say(f"budget: {told}; {_FOLLOWS[self._config.then]}")


def refuse_spent(config: BudgetConfig, before: Spent) -> None:
    """Do not begin, nor undo anything, where earlier runs have spent it all.

    Raises:
        BudgetError: they have.
    """
    if config.then is WhenSpent.STOP and (told := _over(config, before)):
        raise BudgetError(f"budget: {told} by earlier runs; write a larger one")


def _over(config: BudgetConfig, spent: Spent) -> str | None:
    """Which limit is reached."""
    for value, limit, unit in (
        (spent.usd, config.usd, "USD"),
        (spent.gpu_hours, config.gpu_hours, "device-hours"),
    ):
        if limit is not None and value >= limit:
            return f"{value:.4g} of {limit:g} {unit} are spent"
    return None


def spent_by(run: RunRecord, seconds: float) -> Spent:
    """By a run that has lasted so long."""
    hours = {role: run.device_s(role, seconds) / _HOUR_S for role in run.pools}
    usd = sum(hours[role] * (pool.usd_per_hour or 0.0) for role, pool in run.pools.items())
    return Spent(usd, sum(hours.values()))


def spent_before(runs: Iterable[RunRecord]) -> Spent:
    """By runs that are over."""
    total = Spent(0.0, 0.0)
    for run in runs:
        total = total.plus(spent_by(run, run.times.elapsed_s))
    return total
