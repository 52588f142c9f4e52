"""Small sets that the project makes itself, and readers of the published ones."""

from geonorm.data.champs import read_champs
from geonorm.data.coll import download_coll, load_configurations
from geonorm.data.collisions import load_collisions, make_collisions
from geonorm.data.configurations import Configurations
from geonorm.data.coupling_files import load_couplings, read_couplings, write_couplings
from geonorm.data.coupling_maker import make_couplings
from geonorm.data.couplings import Couplings
from geonorm.data.fetch import download_md17, load_frames, load_md17
from geonorm.data.files import DataFileError
from geonorm.data.frames import Frames
from geonorm.data.layout import read_configurations, write_configurations
from geonorm.data.md17 import read_md17
from geonorm.data.uracil import load_uracil, make_uracil

__all__ = [
    "Configurations",
    "Couplings",
    "DataFileError",
    "Frames",
    "download_coll",
    "download_md17",
    "load_collisions",
    "load_configurations",
    "load_couplings",
    "load_frames",
    "load_md17",
    "load_uracil",
    "make_collisions",
    "make_couplings",
    "make_uracil",
    "read_champs",
    "read_configurations",
    "read_couplings",
    "read_md17",
    "write_configurations",
    "write_couplings",
]
