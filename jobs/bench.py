"""`sgl bench`: run one benchmark, print its table, write its result."""

from importlib import import_module
from pathlib import Path


def run_benchmark(name: str, output: str | None, threads: int = 1, **settings: int) -> str:
    """Run `benchmarks.NAME`.

    Args:
        name: of the module.
        output: folder for the dated JSON file; None writes none.
        threads: of torch on a CPU.
        settings: arguments of its `measure`.

    Returns:
        The table.
    """
    from benchmarks.record import use_threads, write_result

    module = import_module(f"benchmarks.{name}")
    use_threads(threads)
    rows = module.measure(**settings)
    table: str = module.report(rows)
    if output:
        path = write_result(name, {**settings, "threads": threads}, rows, Path(output))
        table += f"\n\nwritten to {path}"
    return table
