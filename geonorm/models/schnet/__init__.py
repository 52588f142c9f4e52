"""SchNet as published, and as the survey's Figure 2 ran it: with batch normalization, for couplings of atom pairs."""

from geonorm.models.schnet.couplings import CouplingSchNet
from geonorm.models.schnet.energy import SchNet
from geonorm.models.schnet.normalization import NORMALIZATIONS

__all__ = ["NORMALIZATIONS", "CouplingSchNet", "SchNet"]
