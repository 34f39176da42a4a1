"""The batch pipeline: read, fetch, small stage, large stage, write; a linear Ray Data graph.

`pipeline/build.py` shows every stage and every edge. Importing this package is light: neither Ray
nor torch is loaded.
"""
