"""`sgl bench`: run one benchmark, print its table, write its result."""

from importlib import import_module
from pathlib import Path


def run_benchmark(name: str, rounds: int, threads: int, output: str | None) -> str:
    """Run `benchmarks.NAME`.

    Args:
        name: of the module.
        rounds: in which the variants take turns.
        threads: of torch on a CPU.
        output: folder for the dated JSON file; None writes none.

    Returns:
        The table.
    """
    from benchmarks.record import use_threads, write_result

    module = import_module(f"benchmarks.{name}")
    use_threads(threads)
    rows = module.measure(rounds=rounds)
    table: str = module.report(rows)
    if output:
        path = write_result(name, {"rounds": rounds, "threads": threads}, rows, Path(output))
        table += f"\n\nwritten to {path}"
    return table
