"""An endpoint at rest and in order: what it adds to the models, and how it does with more users."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.asking import Client
from benchmarks.bare_engine import BareEngine
from benchmarks.endpoint import Endpoint, body_of, write_bodies
from benchmarks.load import Latency, Loader, rate
from benchmarks.load_plan import Plan, Sample
from benchmarks.measure import Ratio
from serving.config import ServeConfig
from testbed.records import Record

SYSTEMS = ("pair:small", "pair:large", "pair")
USERS = (1, 2, 4, 8, 16)

Row = dict[str, Any]


def overhead(
    one: Endpoint, config: ServeConfig, records: Sequence[Record], rounds: int
) -> list[Row]:
    """Latency of one client beside the bare engine's, record by record in turns.

    Args:
        one: with the settings of `config`.
        config: of it.
        records: to ask.
        rounds: over all of them; one more, not counted, warms up.
    """
    client = Client(one.url)
    with BareEngine(config, records) as bare:
        return [_overhead(client, bare, model, records, rounds) for model in ("small", "large")]


def _overhead(
    client: Client, bare: BareEngine, model: str, records: Sequence[Record], rounds: int
) -> Row:
    bodies = [body_of(record, f"pair:{model}", stream=False) for record in records]
    served: list[list[float]] = []
    alone: list[list[float]] = []
    inside: list[float] = []
    for _ in range(rounds + 1):
        served.append([])
        alone.append([])
        for place, body in enumerate(bodies):
            text, seconds = bare.ask(model, place)
            alone[-1].append(1e3 * seconds)
            told, seconds = client.ask(body)
            served[-1].append(1e3 * seconds)
            assert told["choices"][0]["message"]["content"] == text, "answers differ"
            timing = told["sgl"]["timing_ms"]
            inside.append(timing["total"] - timing[model] - timing[f"{model}_queued"])
    added = [median(s) - median(a) for s, a in zip(served[1:], alone[1:], strict=True)]
    return {
        "part": "overhead",
        "system": f"pair:{model}",
        "requests": rounds * len(records),
        "bare_ms": median(one for part in alone[1:] for one in part),
        "served_ms": median(one for part in served[1:] for one in part),
        "overhead_ms": median(added),
        "overhead_low_ms": _quarter(added, 0),
        "overhead_high_ms": _quarter(added, -1),
        # Of it: parsing, decoding, the way to the replica and back. The rest is Ray Serve's HTTP.
        "inside_ms": median(inside[len(records) :]),
    }


def _quarter(values: Sequence[float], place: int) -> float:
    """The border of the middle half; the extreme where there are fewer than four."""
    return quantiles(values, n=4)[place] if len(values) >= 4 else sorted(values)[place]


def closed(
    one: Endpoint,
    loader: Loader,
    records: Sequence[Record],
    folder: Path,
    *,
    rounds: int,
    seconds: float,
    users: Sequence[int] = USERS,
) -> list[Row]:
    """All systems by all numbers of users, in turns; every user asks without a pause.

    Args:
        one: with all models.
        loader: of the load.
        records: to ask.
        folder: for the bodies.
        rounds: each with every system and number.
        seconds: of each.
        users: how many.
    """
    bodies = {name: write_bodies(records, name, folder, stream=True) for name in SYSTEMS}
    runs: dict[tuple[str, int], list[list[Sample]]] = {
        (name, count): [] for count in users for name in SYSTEMS
    }
    for turn in range(rounds):
        for count in users:
            shift = turn % len(SYSTEMS)
            for name in SYSTEMS[shift:] + SYSTEMS[:shift]:
                plan = Plan(one.url, bodies[name], seconds, stream=True, users=count)
                runs[name, count].append(loader.run(plan))
    return [_closed_row(name, count, runs) for name, count in runs]


def _closed_row(name: str, count: int, runs: dict[tuple[str, int], list[list[Sample]]]) -> Row:
    parts = runs[name, count]
    every = [sample for part in parts for sample in part]
    answered = [sample for sample in every if sample.answered]
    rates = [_rate(part) for part in parts]
    return {
        "part": "closed",
        "system": name,
        "users": count,
        "requests": len(every),
        "unanswered": len(every) - len(answered),
        "latency_ms": asdict(Latency.of([sample.seconds for sample in answered])),
        "first_text_ms": asdict(
            Latency.of([one.first_s for one in answered if one.first_s is not None])
        ),
        "per_s": median(rates),
        "per_s_to_large": asdict(Ratio.of(rates, [_rate(p) for p in runs["pair:large", count]])),
    }


def _rate(samples: Sequence[Sample]) -> float:
    begin = min(one.at for one in samples)
    end = max(one.at + one.seconds for one in samples)
    return rate(samples, begin, end, within_s=float("inf"))
