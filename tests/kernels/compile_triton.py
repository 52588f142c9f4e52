"""Compile the kernels of Triton for devices that are not there, and print what came out, a line of JSON for each."""

import json

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import mangle_type

from geonorm.kernels.pools import Columns
from geonorm.kernels.triton import backward, double_backward, forward, launch


class Recorder:
    """Stands for a kernel and keeps what it is called with."""

    def __init__(self, function: triton.JITFunction, calls: list) -> None:
        self.function, self.calls = function, calls

    def __getitem__(self, grid: tuple[int, ...]):
        """The kernel on a grid."""
        return lambda **arguments: self.calls.append((self.function, arguments))


def calls(mean: Columns | None, scale: Columns | None, statistic: str, rows: launch.Rows, x: torch.Tensor) -> list:
    """The launches of all three orders with all parameters."""
    found: list = []
    for module, name in ((forward, "forward"), (backward, "backward"), (double_backward, "double_backward")):
        if isinstance(getattr(module, name), triton.JITFunction):
            setattr(module, name, Recorder(getattr(module, name), found))
        getattr(module, name).calls = found
    work = launch.recipe(mean, scale, statistic, 1e-5)
    dtype = launch.accumulation_dtype(x.dtype)
    per_column, per_group = torch.ones(x.shape[1], dtype=dtype), torch.ones(work.scale_groups, dtype=dtype)
    alpha, tau = None if mean is None else per_column, per_group if work.own else None
    _, means, square, own = launch.forward(work, rows, x, alpha, per_column, per_column, tau)
    wanted = (True, mean is not None, True, True, tau is not None)
    launch.backward(work, rows, x, x, alpha, per_column, tau, (means, square, own), wanted)
    if scale is not None:
        dots = (alpha, per_column, per_column, tau)
        wanted = (True, True, mean is not None, True, tau is not None)
        launch.double_backward(work, rows, x, dots, x, x, alpha, per_column, tau, (means, square, own), wanted)
    return found


def compiled(function: triton.JITFunction, arguments: dict, target: GPUTarget) -> dict:
    """Compile for a device as a launch there would."""
    names = {param.name: param for param in function.params}
    constant = {name: arguments[name] for name, param in names.items() if param.is_constexpr or arguments[name] is None}
    signature = {name: "constexpr" if name in constant else mangle_type(arguments[name]) for name in names}
    aligned = {
        (place,): [["tt.divisibility", 16]] for place, name in enumerate(names) if signature[name].startswith("*")
    }
    source = ASTSource(
        function, signature, {(list(names).index(name),): value for name, value in constant.items()}, aligned
    )
    options = {name: arguments[name] for name in ("num_warps", "enable_fp_fusion")}
    return triton.compile(source, target=target, options=options).asm


def cases() -> dict[str, list]:
    """Every kind of groups, of rows and of types once."""
    each, together = Columns(range(20), [1] * 20), Columns([0] * 20, [20] * 20)
    fields = Columns([column // 3 for column in range(21)], [3] * 21)
    some, halves = Columns([0] * 40 + [None] * 40, [40] * 80), Columns([0] * 40 + [1] * 40, [40] * 80)
    batch = torch.arange(900)
    short, long = launch.Rows.of_batch(batch // 9, 100), launch.Rows.of_batch(batch % 2, 2)
    x = torch.ones(900, 20)
    return {
        "float32": calls(each, each, "residual", short, x),
        "float32 in parts": calls(each, each, "residual", long, x),
        "bfloat16 of rows": calls(together, together, "residual", launch.Rows(900), x.bfloat16()),
        "float64 of fields": calls(None, fields, "own", short, torch.ones(900, 21).double()),
        "float16 of halves": calls(some, halves, "rms", launch.Rows(900), torch.ones(900, 80).half())[:1],
    }


def main() -> None:
    """Compile all cases for the newer target, the first one for the older, too."""
    for capability, wanted in ((90, None), (80, "float32")):
        for name, recorded in cases().items():
            for function, arguments in recorded if wanted in (None, name) else ():
                asm = compiled(function, arguments, GPUTarget("cuda", capability, 32))
                found = {
                    "case": name,
                    "kernel": f"{function.__name__} {arguments['STAGE']}",
                    "target": capability,
                    "bytes": len(asm["cubin"]),
                    "atomic": any(word in asm["ptx"] for word in ("atom.", "red.global")),
                    "for": f".target sm_{capability}" in asm["ptx"],
                }
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
