"""How the kernels are called: grids, blocks and work space, in the manner of :mod:`geonorm.kernels.cpu`."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import triton
from torch import Tensor

from geonorm.kernels.triton import backward as _backward
from geonorm.kernels.triton import double_backward as _double_backward
from geonorm.kernels.triton import forward as _forward
from geonorm.kernels.triton.batch import LONG, NODE, SEGMENT, Rows
from geonorm.kernels.triton.recipe import PAIRS, Recipe, power_of_two, recipe
from geonorm.numerics import accumulation_dtype

__all__ = [
    "INTERPRETED",
    "MEAN_ALONE_TWICE",
    "TYPES",
    "Recipe",
    "Rows",
    "backward",
    "double_backward",
    "forward",
    "recipe",
]

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
#: Whether the double backward also takes statistics that only subtract a mean: torch does, which differentiates a
#: linear map.
MEAN_ALONE_TWICE = False
#: The entries of a block, which stay in the registers of a program, and its rows at most.
BLOCK = 2048
HIGH = 32
#: The programs among which the gradients of the parameters are shared: their shares are added up in one order.
PROGRAMS = 1024
WHOLE, COLLECT, HEAD, APPLY = range(4)
#: Whether kernels are read line by line, on the CPU, instead of being compiled: how they are tested without a device.
INTERPRETED = not isinstance(_forward.forward, triton.JITFunction)


class Launch:
    """One order of derivatives, launched at once; or in three steps, where pools are long.

    Args:
        work: What to standardize.
        rows: Which rows belong together.
        like: The features.
        matrices: How many matrices are read.
    """

    def __init__(self, work: Recipe, rows: Rows, like: Tensor, matrices: int) -> None:
        self.work, self.rows, self.like = work, rows, like
        self.dtype = accumulation_dtype(like.dtype)
        room = max(BLOCK // work.width, 1)
        pairs = work.width**2 if PAIRS in (work.mean_kind, work.scale_kind) else 0
        block, at_once = min(room, HIGH, rows.average), 1
        if rows.kind == NODE:
            block = at_once = min(max(2 * BLOCK // pairs, 1) if pairs else room, HIGH)
        entries = max(block * work.width * matrices, at_once * pairs)
        self.programs = -(-rows.number // at_once)
        table, numbers = work.tables(like.device, self.dtype)
        self.arguments = work.constants | {
            "ROWS": rows.kind,
            "LENGTH": LONG,
            "R": block,
            "P": at_once,
            "num_warps": min(max(power_of_two(entries // 1024), 1), 8),
            # Products are rounded before they are added: a node alone in its sample has a gradient of exactly zero.
            "enable_fp_fusion": False,
            "table": table,
            "numbers": numbers,
            "order": rows.order,
            "ptr": rows.ptr,
            "nodes": rows.nodes,
            "pools": rows.number,
            "parts": None,
            "known": None,
            "first_part": None,
            "part_pool": None,
        }

    def share(self, wanted: dict[str, bool]) -> tuple[Tensor | None, dict[str, object]]:
        """Space for what each program adds to the gradients of the parameters, and the arguments that say so."""
        names = [name for name, want in wanted.items() if want]
        places = {name: names.index(name) if want else -1 for name, want in wanted.items()}
        each = 1
        if not self.rows.in_parts:
            each = max(-(-self.programs // PROGRAMS), 1) if names else 1
            self.programs = -(-self.programs // each)
        shares = None
        if names:
            shape = (self.rows.number if self.rows.in_parts else self.programs, len(names), self.work.columns)
            shares = self.like.new_empty(shape, dtype=self.dtype)
        return shares, {"shares": shares, "SHARES": len(names), "each_program": each, **places}

    def run(self, kernel, sums: int, coefficients: int, arguments: dict[str, object], *, applies: bool = True) -> None:
        """Launch.

        Args:
            kernel: The kernel.
            sums: How many sums it takes of each part of a pool.
            coefficients: How many numbers per column follow from them.
            arguments: What no other kernel has.
            applies: Whether there are matrices to write.
        """
        rows, tiles, arguments = self.rows, self.work.tiles, self.arguments | arguments
        if rows.number == 0:
            return
        with torch.cuda.device(self.like.device) if self.like.is_cuda else nullcontext():
            if not rows.in_parts:
                kernel[self.programs, tiles](**arguments, STAGE=WHOLE)
                return
            width = tiles * self.work.width
            arguments["parts"] = self.like.new_empty(rows.num_parts, sums, width, dtype=self.dtype)
            arguments["known"] = self.like.new_empty(rows.number, coefficients, width, dtype=self.dtype)
            if rows.kind == SEGMENT:
                arguments["first_part"], arguments["part_pool"] = rows.parts
            kernel[rows.num_parts, tiles](**arguments, STAGE=COLLECT)
            kernel[rows.number, tiles](**arguments, STAGE=HEAD)
            if applies:
                kernel[rows.num_parts, tiles](**arguments, STAGE=APPLY)


def forward(
    work: Recipe, rows: Rows, x: Tensor, alpha: Tensor | None, gamma: Tensor | None, beta: Tensor | None,
    tau: Tensor | None, wants_statistics: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Standardize.

    Args:
        work: What to standardize.
        rows: Which rows belong together.
        x: The features, contiguous, ``[nodes, columns]``.
        alpha: The weight of the mean per column, as all parameters in the type of the statistics.
        gamma: The gain per column.
        beta: The bias per column.
        tau: The exponent per group of the scale.
        wants_statistics: Whether anybody asks for mean and second moment.

    Returns:
        The result, the mean and the second moment of each pool, and the mean about which an own variance is taken.
    """
    launch = Launch(work, rows, x, 1)
    y, mean, square, own = torch.empty_like(x), None, None, None
    if wants_statistics:
        mean = x.new_empty(rows.number, work.mean_groups, dtype=launch.dtype)
        square = x.new_empty(rows.number, work.scale_groups, dtype=launch.dtype)
        own = torch.empty_like(square) if work.own else None
    arguments = {
        "x": x, "y": y, "mean": mean, "square": square, "own": own,
        "alpha": alpha, "gamma": gamma, "beta": beta, "tau": tau,
    }  # fmt: skip
    launch.run(_forward.forward, 3, 2, arguments)
    return y, mean, square, own


def backward(
    work: Recipe, rows: Rows, g: Tensor, x: Tensor, alpha: Tensor | None, gamma: Tensor | None, tau: Tensor | None,
    statistics: tuple[Tensor, Tensor, Tensor | None], wanted: tuple[bool, bool, bool, bool, bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of x, α, γ, β and τ, each where it is wanted."""
    launch = Launch(work, rows, x, 2)
    mean, square, own = statistics
    dx = torch.empty_like(x) if wanted[0] else None
    names = ("BY_ALPHA", "BY_GAMMA", "BY_BETA", "BY_TAU")
    shares, sharing = launch.share(dict(zip(names, wanted[1:], strict=True)))
    arguments = {
        "x": x, "g": g, "dx": dx, "mean": mean, "square": square, "own": own,
        "alpha": alpha, "gamma": gamma, "tau": tau, "HOW": work.sum_of_w(alpha),
    }  # fmt: skip
    launch.run(_backward.backward, 3, 4, arguments | sharing, applies=dx is not None)
    return dx, *_added_up(shares, [sharing[name] for name in names], work)


def double_backward(
    work: Recipe, rows: Rows, v: Tensor, dots: tuple[Tensor | None, ...], g: Tensor, x: Tensor, alpha: Tensor | None,
    gamma: Tensor | None, tau: Tensor | None, statistics: tuple[Tensor, Tensor, Tensor | None],
    wanted: tuple[bool, bool, bool, bool, bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of g, x, α, γ and τ, each where it is wanted."""
    launch = Launch(work, rows, x, 3)
    mean, square, own = statistics
    dg = torch.empty_like(x) if wanted[0] else None
    dx = torch.empty_like(x) if wanted[1] else None
    names = ("BY_ALPHA", "BY_GAMMA", "BY_TAU")
    shares, sharing = launch.share(dict(zip(names, wanted[2:], strict=True)))
    arguments = {
        "x": x, "g": g, "v": v, "dg": dg, "dx": dx, "mean": mean, "square": square, "own": own,
        "alpha": alpha, "gamma": gamma, "tau": tau, "HOW": work.sum_of_w(alpha),
    }  # fmt: skip
    arguments |= dict(zip(("alpha_dot", "gamma_dot", "beta_dot", "tau_dot"), dots, strict=True))
    launch.run(_double_backward.double_backward, 6, 7, arguments | sharing, applies=wanted[0] or wanted[1])
    return dg, dx, *_added_up(shares, [sharing[name] for name in names], work)


def _added_up(shares: Tensor | None, places: list[int], work: Recipe) -> list[Tensor | None]:
    """The gradients of the parameters, that of τ last."""
    total = None if shares is None else shares.sum(0)
    found = [None if place < 0 else total[place] for place in places]
    if found[-1] is not None:
        found[-1] = found[-1][: work.scale_groups]
    return found
