"""What the vector layers take for features: an integer counts vectors, not scalars."""

from __future__ import annotations

from geonorm.layers.fields import Features, Fields, Vectors


def vector_features(channels: Features, dim: int = 3) -> Features:
    """Read an integer as that many vectors of ``dim`` components; irreps and ``Vectors`` are what they are."""
    return Vectors(channels, dim) if isinstance(channels, int) else channels


def short_name(fields: Fields) -> str:
    """Features as the person who built the layer wrote them: the number of vectors, or the irreps."""
    if fields.vectors is None or fields.vectors.dim != 3:
        return repr(fields)
    return repr(fields.vectors.channels)
