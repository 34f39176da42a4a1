"""Triton kernels; each computes what a torch function of the same name does, its oracle."""
