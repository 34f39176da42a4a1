"""Speed and memory of the engine, always as ratios within one run.

Machines are shared and noisy, so no figure here is an absolute time: the variants of a comparison
take turns, round by round, and what is reported is the median of the per-round ratios with the
range of its middle half. Each module is one table: `measure(...)` returns rows of plain data.
"""
