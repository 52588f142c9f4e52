import logging
import os
import random
import subprocess
import sys
import warnings

import e3nn
import numpy as np
import pytest
import torch
import torch._dynamo.config as dynamo

from geonorm.models.global_state import preserved_global_state


def snapshot() -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        fusion = torch.jit.set_fusion_strategy([("DYNAMIC", 1)])
        torch.jit.set_fusion_strategy(fusion)
    return {
        "dtype": torch.get_default_dtype(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "python": random.getstate(),
        "environment": dict(os.environ),
        "sharing": torch.multiprocessing.get_sharing_strategy(),
        "fusion": fusion,
        "e3nn": e3nn.get_optimization_defaults(),
        "dynamo": (dynamo.capture_dynamic_output_shape_ops, dynamo.capture_scalar_outputs),
        "filters": list(warnings.filters),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "levels": [logging.getLogger(name).level for name in ("nequip", "lightning.pytorch", "lightning")],
    }


def vandalize() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    random.seed(123)
    os.environ["GEONORM_TEST_NEW"] = "1"
    os.environ["HOME"] = "/elsewhere"
    torch.multiprocessing.set_sharing_strategy("file_system")
    torch.jit.set_fusion_strategy([("DYNAMIC", 10)])
    e3nn.set_optimization_defaults(jit_mode="eager", optimize_einsums=False)
    dynamo.capture_dynamic_output_shape_ops = not dynamo.capture_dynamic_output_shape_ops
    dynamo.capture_scalar_outputs = not dynamo.capture_scalar_outputs
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.CRITICAL)


def test_everything_is_put_back():
    before = snapshot()
    with preserved_global_state():
        vandalize()
        during = snapshot()
    assert snapshot() == before
    unchanged = {key for key in before if during[key] == before[key]}
    assert unchanged <= {"grad", "deterministic", "matmul", "threads"}, "the test must change what it checks"


def test_everything_is_put_back_after_an_error():
    before = snapshot()
    with pytest.raises(KeyError), preserved_global_state():
        vandalize()
        raise KeyError
    assert snapshot() == before


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_global_state import snapshot
import torch
before = snapshot()
import geonorm.models.allegro as allegro
statistics = allegro.Statistics(-1.0, 2.0, 3.0)
networks = [allegro.Allegro([1, 8], statistics, seed=seed, num_scalars=4, num_tensors=2) for seed in (0, 1)]
after = snapshot()
different = [key for key in before if before[key] != after[key]]
assert not different, different
from nequip.utils.global_state import global_state_initialized
assert global_state_initialized()
"""


def test_the_first_import_and_build_of_a_process_changes_nothing():
    pytest.importorskip("allegro")
    script = SCRIPT.format(tests=os.path.dirname(__file__))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout == ""
