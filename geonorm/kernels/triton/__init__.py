"""Kernels for CUDA devices in Triton; nothing here is imported before a tensor on such a device asks for it."""
