"""Small files with CHAMPS's names and columns."""

from pathlib import Path

import numpy as np

#: Water and hydrogen cyanide, rounded; the columns that the reader does not need come too.
FILES = {
    "structures.csv": """molecule_name,atom_index,atom,x,y,z
dsgdb9nsd_000003,0,O,-0.034,0.977,0.007
dsgdb9nsd_000003,1,H,0.064,0.020,0.001
dsgdb9nsd_000003,2,H,0.871,1.300,0.000
dsgdb9nsd_000004,0,C,0.599,0.000,1.000
dsgdb9nsd_000004,1,C,-0.599,0.000,1.000
dsgdb9nsd_000005,0,C,-0.013,1.146,0.001
dsgdb9nsd_000005,1,N,0.000,2.302,0.001
dsgdb9nsd_000005,2,H,-0.027,0.075,0.001
""",
    "train.csv": """id,molecule_name,atom_index_0,atom_index_1,type,scalar_coupling_constant
16,dsgdb9nsd_000003,1,2,2JHH,-9.9463
17,dsgdb9nsd_000005,2,0,1JHC,171.220
18,dsgdb9nsd_000005,2,1,2JHN,5.1824
""",
    "scalar_coupling_contributions.csv": """molecule_name,atom_index_0,atom_index_1,type,fc,sd,pso,dso
dsgdb9nsd_000003,1,2,2JHH,-12.0161,0.724981,8.20153,-6.85679
dsgdb9nsd_000005,2,0,1JHC,170.506,0.867723,-0.654267,0.5009
dsgdb9nsd_000005,2,1,2JHN,2.74055,0.537983,2.34189,-0.437965
""",
}


RADII = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57}


def save(folder: Path, **changes: str | None) -> Path:
    """Write the files; a change names a file by its first word, None leaves it out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        content = changes.get(name.split(".")[0].split("_")[0], content)
        if content is not None:
            (folder / name).write_text(content)
    return folder


def bonds_apart(z, positions):
    """The number of bonds between every two atoms, bonds being drawn by covalent radii."""
    radii = np.array([RADII[int(charge)] for charge in z])
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    steps = np.where((distance < 1.25 * (radii[:, None] + radii)), 1.0, np.inf)
    np.fill_diagonal(steps, 0)
    for middle in range(len(z)):
        steps = np.minimum(steps, steps[:, middle, None] + steps[middle])
    return steps
