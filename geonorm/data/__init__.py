"""Small sets that the project makes itself, and readers of the published ones."""

from geonorm.data.fetch import download_md17, load_frames, load_md17
from geonorm.data.files import DataFileError
from geonorm.data.frames import Frames
from geonorm.data.md17 import read_md17
from geonorm.data.uracil import load_uracil, make_uracil

__all__ = [
    "DataFileError",
    "Frames",
    "download_md17",
    "load_frames",
    "load_md17",
    "load_uracil",
    "make_uracil",
    "read_md17",
]
