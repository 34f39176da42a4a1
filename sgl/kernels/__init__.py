"""Triton kernels for GPUs; a torch function is the oracle of each and stands in elsewhere."""
