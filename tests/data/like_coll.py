"""Small files with COLL's names, shapes and units."""

from pathlib import Path

import numpy as np

#: Water, carbon monoxide, hydrogen peroxide and water again: charges and positions in Å.
MOLECULES = (
    ([8, 1, 1], [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]),
    ([6, 8], [[0, 0, 0], [1.13, 0, 0]]),
    ([8, 8, 1, 1], [[0, 0, 0], [1.45, 0, 0], [-0.1, 0.95, 0], [1.55, -0.2, 0.93]]),
    ([8, 1, 1], [[0, 0, 0], [0.78, 0.57, 0], [-0.78, 0.57, 0]]),
)


def arrays() -> dict[str, np.ndarray]:
    """Four small molecules under COLL's names and shapes."""
    rng = np.random.default_rng(0)
    z = np.concatenate([charges for charges, _ in MOLECULES]).astype(np.uint8)
    return {
        "N": np.array([len(charges) for charges, _ in MOLECULES], dtype=np.int32),
        "Z": z,
        "R": np.concatenate([position for _, position in MOLECULES]).astype(np.float32),
        "E": np.array([-10.0, -11.2, -12.1, -9.9]),
        "F": rng.normal(size=(len(z), 3)).astype(np.float32),
    }


def save(path: Path, **changes: np.ndarray | None) -> Path:
    content = {**arrays(), **changes}
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path
