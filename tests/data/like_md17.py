"""Small files with MD17's names, shapes and units."""

from pathlib import Path

import numpy as np

from geonorm.data.uracil import URACIL

ORDER = np.array(URACIL, dtype=np.uint8)


def arrays(frames: int = 5) -> dict[str, np.ndarray]:
    """A flat uracil with small random shifts, under MD17's names and shapes."""
    rng = np.random.default_rng(0)
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    outer = np.concatenate([2.60 * ring[[3, 5]], 2.43 * ring[[1, 2, 4, 0]]])
    flat = np.concatenate([1.38 * ring, outer])
    return {
        "z": ORDER,
        "R": flat + 0.02 * rng.normal(size=(frames, 12, 3)),
        "E": -260107.0 + rng.normal(size=(frames, 1)),
        "F": 20 * rng.normal(size=(frames, 12, 3)),
    }


def save(path: Path, **changes: np.ndarray) -> Path:
    content = {**arrays(), **changes}
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path
