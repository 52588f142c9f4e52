"""Run code that changes the process behind the reader's back, and put everything back afterwards."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

#: Loggers that the packages of a training run raise to INFO.
_LOGGERS = ("nequip", "allegro", "lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities")


@contextmanager
def preserved_global_state() -> Iterator[None]:
    """Restore, on exit, every process-wide setting that importing or initializing nequip changes.

    Those are the default dtype, the random states of torch, NumPy and Python, the environment, the warning filters,
    the tensor sharing strategy, the TorchScript fusion strategy, e3nn's optimization defaults, two flags of dynamo,
    the float32 precision of the GPU backends, and the levels of the loggers. torch's own ``fork_rng`` is not used
    because it would start CUDA.

    Yields:
        Nothing; use it in a ``with`` statement.
    """
    import e3nn
    import torch._dynamo.config as dynamo

    dtype = torch.get_default_dtype()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    environment = dict(os.environ)
    sharing = torch.multiprocessing.get_sharing_strategy()
    optimization = e3nn.get_optimization_defaults()
    flags = {name: getattr(dynamo, name) for name in ("capture_dynamic_output_shape_ops", "capture_scalar_outputs")}
    precision = getattr(torch.backends, "fp32_precision", None)
    tf32 = _cudnn_tf32()
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        # What other packages call out of date inside themselves is not the reader's to mend.
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        # The strategy can only be read by setting another one.
        fusion = torch.jit.set_fusion_strategy([("STATIC", 2), ("DYNAMIC", 10)])
        torch.jit.set_fusion_strategy(fusion)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            random.setstate(states[2])
            if cuda_states:
                torch.cuda.set_rng_state_all(cuda_states)
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            for name, value in environment.items():
                if os.environ.get(name) != value:
                    os.environ[name] = value
            torch.multiprocessing.set_sharing_strategy(sharing)
            torch.jit.set_fusion_strategy(fusion)
            e3nn.set_optimization_defaults(**optimization)
            for name, value in flags.items():
                setattr(dynamo, name, value)
            if precision is not None and torch.backends.fp32_precision != precision:
                torch.backends.fp32_precision = precision
            if tf32 is not None and _cudnn_tf32() != tf32:
                torch.backends.cudnn.allow_tf32 = tf32
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _cudnn_tf32() -> bool | None:
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        # The old flag cannot express every state of the newer precision setting.
        return None
