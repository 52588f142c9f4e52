"""GemNet-T with each of its normalizers switchable by itself."""

from geonorm.models.gemnet.model import GemNet
from geonorm.models.gemnet.normalization import NORMALIZATIONS, Normalization, named_normalization
from geonorm.models.gemnet.sizes import SIZES, Sizes, named_sizes

__all__ = [
    "NORMALIZATIONS",
    "SIZES",
    "GemNet",
    "Normalization",
    "Sizes",
    "named_normalization",
    "named_sizes",
]
