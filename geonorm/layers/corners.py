"""Which settings of the general form are which row of the tables, and which rows are none of them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from geonorm.layers.fields import Features
from geonorm.layers.vector.inputs import vector_features

#: τ = 1 and a gain and bias to learn: how the published layers divide.
EXACT = {"exponent": 1.0}
#: No gain and no bias.
BARE = {"gain": False, "bias": False}
#: A constant of the data set: one number for everything.
ONE_NUMBER = {"source": "constant", "scale": "bxvtm", "statistic": "rms", "eps": 0.0, **BARE}
#: The mean of 0e alone.
SCALARS = "0e"


def _pair_norm(scale: str) -> dict[str, Any]:
    return {"mean": "x", "scale": scale, "normalization": "row", **EXACT, **BARE}


def _scalars_and_vectors(axes: str, vector_eps: float) -> dict[str, Any]:
    """GVP and EGAN: a layer normalization of 0e, and every other type over the RMS of its lengths."""
    return {
        "mean": {SCALARS: f"{axes}v"},
        "scale": {SCALARS: f"{axes}v", "rest": f"{axes}vm"},
        "normalization": {SCALARS: "component", "rest": "norm"},
        "eps": {SCALARS: 1e-5, "rest": vector_eps},
        "gain": {SCALARS: True, "rest": False},
        **EXACT,
    }


def _statistics(mean: Any, scale: Any, **more: Any) -> dict[str, Any]:
    return {"mean": mean, "scale": scale, **EXACT, **more}


#: The settings of each row and variant, by its name in the tables.
CORNERS: dict[str, dict[str, Any]] = {
    "BatchNorm": _statistics("bx", "bx", source="running"),
    "LayerNorm": _statistics("xv", "xv"),
    "LayerNorm per node": _statistics("v", "v"),
    "InstanceNorm": _statistics("x", "x", **BARE),
    "GroupNorm": _statistics("xv", "xv"),
    "FilterResponseNorm": _statistics(None, "x", eps=1e-6),
    "VarianceNorm": _statistics(None, "bx", statistic="own", source="running"),
    "VarianceNorm by RMS": _statistics(None, "bx", source="running"),
    "Quaternion": _statistics(None, "bxm", source="running", **BARE),
    "Quaternion per sample": _statistics(None, "xvm", **BARE),
    "Vector Perceptron / EGAN": _scalars_and_vectors("", 1e-8),
    "EGAN": _scalars_and_vectors("x", 1e-5),
    "GraphNorm": _statistics("x", "x", learn_alpha=True),
    "PairNorm": _pair_norm("xvtm"),
    "MeanSubtractionNorm": {"mean": "x", "scale": None, **BARE},
    "SetNorm": _statistics("xv", "xv"),
    "EvNorm": _statistics("bx", "bx", mode="pair", source="running", length_eps=1e-2, smoothing=1e-4, **BARE),
    "EvNorm per node": _statistics("v", "v", mode="pair", length_eps=1e-2, smoothing=1e-4, **BARE),
    "Vector Neuron": _statistics("bx", "bx", mode="product", source="running"),
    "GraphSizeNorm": {"source": "count", "exponent": 0.5, "learn_exponent": False, **BARE},
    "SchNet": {"source": "count", "exponent": 1.0, **BARE},
    "Allegro / MACE": {**ONE_NUMBER, "exponent": 0.5, "learn_exponent": False},
    "MACE": {**ONE_NUMBER, **EXACT},
    "Vector Field": _statistics(None, "bxm", source="running", bias=False),
    "RMSNorm": _statistics(None, "vtm", eps=1e-6, bias=False),
    "EquivariantBatchNorm": _statistics({SCALARS: "bx"}, "bxm", source="running"),
    "EquivariantInstanceNorm": _statistics({SCALARS: "x"}, "xm"),
    "EquivariantGraphNorm": _statistics("x", "xm", alpha={SCALARS: 1.0, "rest": 0.0}, learn_alpha=True),
    "EquivariantLayerNorm": _statistics({SCALARS: "v"}, "vm"),
    "EquivariantLayerNorm with vectors centred": _statistics("v", "vm"),
    "SeparableLayerNorm": _statistics({SCALARS: "v"}, {SCALARS: "v", "rest": "vtm"}, normalization="degree"),
    "EquivariantRMSNorm": _statistics({SCALARS: "v"}, "vtm", normalization="degree"),
    "FieldNorm": _statistics({SCALARS: "m"}, "m"),
    "ScaleFactor": {**ONE_NUMBER, **EXACT},
    "DensityNorm": {"source": "count", "exponent": 1.0, **BARE},
}

#: The names under which the rows are found too: of their classes, and others.
ALSO = {
    "BN": "BatchNorm",
    "FRN": "FilterResponseNorm",
    "VarianceNorm RMS": "VarianceNorm by RMS",
    "QuaternionNorm": "Quaternion",
    "Vector Perceptron": "Vector Perceptron / EGAN",
    "VectorPerceptronNorm": "Vector Perceptron / EGAN",
    "GVP": "Vector Perceptron / EGAN",
    "EGANNorm": "EGAN",
    "EQGAT": "EGAN",
    "VectorNeuronNorm": "Vector Neuron",
    "NeighborNorm": "SchNet",
    "Allegro": "Allegro / MACE",
    "AverageNeighborNorm": "Allegro / MACE",
    "VectorFieldNorm": "Vector Field",
    "RotEqNet": "Vector Field",
    "GemNet": "ScaleFactor",
}

#: The rows that no settings are, and why.
OUTSIDE = {
    "WeightNorm": "it changes weights; on features it is a linear map that commutes with the group",
    "SpectralNorm": "it changes weights; on features it is a linear map that commutes with the group",
    "ScaledWeight": "it changes weights; on features it is a linear map that commutes with the group",
    "MessageNorm": "it has two inputs, and gives the one the length of the other",
    "DiffGroupNorm": "its groups are found in the data: a node belongs to all of them by shares",
    "NormSE3": "it cuts the standardized lengths off at zero: another profile",
    "MaxMinNorm": "its statistics are the smallest and the largest length, no means of powers",
    "TensorNorm": "its profile r/(r² + 1) is no power of the length",
    "DynamicTanh": "its profile tanh(r) is no power of the length",
    "TypedBatchNorm": "it pools by a label of the nodes: the same form for the nodes of every label apart",
    "PerTypeScaleShift": "its constants depend on a label of the nodes: the same form for every label apart",
}

#: The rows for which a number counts vectors.
OF_VECTORS = {"Quaternion", "Quaternion per sample", "Vector Perceptron / EGAN", "EGAN", "EvNorm", "EvNorm per node"}
OF_VECTORS |= {"Vector Neuron", "Vector Field"}

#: Arguments without which a row is another one.
NEEDS = {"GroupNorm": "channel_groups", "Allegro / MACE": "constant", "MACE": "constant", "ScaleFactor": "constant"}


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def corner(name: str, features: Features) -> tuple[Features, dict[str, Any]]:
    """The features and settings of a row.

    Args:
        name: The name of a row, of a variant or of a class, in any spelling.
        features: The features as the row takes them.

    Returns:
        The features, in which a number counts scalars, and the arguments of :class:`~geonorm.GeometricNorm`.

    Raises:
        ValueError: If the row lies outside of the form, or there is no such row.
    """
    known = {_plain(each): each for each in (*CORNERS, *OUTSIDE)} | {_plain(each): row for each, row in ALSO.items()}
    row = known.get(_plain(name))
    if row in OUTSIDE:
        raise ValueError(f"{row} is no corner of the general form: {OUTSIDE[row]}")
    if row is None:
        near = get_close_matches(_plain(name), known, n=3, cutoff=0.4)
        hint = " or ".join(repr(known[each]) for each in near) or "a name of the tables"
        raise ValueError(f"no row of the tables is called {name!r}: try {hint}")
    if row == "EquivariantBatchNorm" and isinstance(features, int):
        row = "BatchNorm"  # so does the row itself: of scalars the buffers hold the unbiased variance
    return vector_features(features) if row in OF_VECTORS else features, dict(CORNERS[row])
