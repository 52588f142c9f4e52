"""The published Allegro (packages ``nequip`` and ``nequip-allegro``) with each normalizer switchable by itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.data.frames import SYMBOLS, Frames
from geonorm.models.global_state import preserved_global_state
from geonorm.models.measured import Measured


@dataclass(frozen=True)
class Normalization:
    """Which of Allegro's data-dependent normalizers are on.

    Args:
        shift: Add the mean energy per atom to every atomic energy.
        scale: Multiply every atomic energy by the root mean square force component.
        neighbors: Divide sums over neighbours by the root of their average number (the row of Table 1); this is the
            environment sum of every layer and the final sum of edge energies. Off means an average of 1.
    """

    shift: bool = True
    scale: bool = True
    neighbors: bool = True


#: The combinations by the names that figures and tables use.
NORMALIZATIONS = {
    "all": Normalization(),
    "none": Normalization(False, False, False),
    "no shift": Normalization(shift=False),
    "no scale": Normalization(scale=False),
    "no neighbors": Normalization(neighbors=False),
    "shift only": Normalization(True, False, False),
    "scale only": Normalization(False, True, False),
    "neighbors only": Normalization(False, False, True),
}


@dataclass(frozen=True)
class Statistics:
    """What the normalizers take from the training set.

    Args:
        energy_shift: Mean energy per atom.
        energy_scale: Root mean square force component.
        avg_num_neighbors: Mean number of neighbours within the cutoff.
    """

    energy_shift: float
    energy_scale: float
    avg_num_neighbors: float

    @classmethod
    def of(cls, frames: Frames, cutoff: float = 5.0) -> Statistics:
        """Compute the statistics of a training set.

        Args:
            frames: The training frames.
            cutoff: In the length unit of the frames.

        Returns:
            The statistics, in the units of the frames.
        """
        counts = [(np.linalg.norm(r[:, None] - r[None], axis=-1) < cutoff).sum() / len(r) - 1 for r in frames.positions]
        return cls(
            energy_shift=float(frames.energies.mean() / len(frames.z)),
            energy_scale=float(np.sqrt(np.mean(frames.forces**2))),
            avg_num_neighbors=float(np.mean(counts)),
        )


def named_normalization(name: str | Normalization) -> Normalization:
    """Return the combination of normalizers with this name.

    Args:
        name: A key of :data:`NORMALIZATIONS`, or a combination of your own, which is returned as it is.

    Returns:
        The combination.

    Raises:
        ValueError: If the name is unknown.
    """
    if isinstance(name, Normalization):
        return name
    if name not in NORMALIZATIONS:
        known = ", ".join(repr(key) for key in NORMALIZATIONS)
        raise ValueError(f"unknown normalization {name!r}, expected one of {known}, or a Normalization of your own.")
    return NORMALIZATIONS[name]


def default_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device that was asked for, else that of the variable GEONORM_DEVICE, else the CPU."""
    return torch.device(device or os.environ.get("GEONORM_DEVICE") or "cpu")


class Allegro(nn.Module):
    r"""Energies and forces by the published Allegro network, used as it is.

    .. math::
        E = \sum_i \Big( \mu + \sigma \frac{1}{\sqrt{2\bar N}} \sum_{j \in \mathcal N(i)} e_{ij} \Big), \qquad
        F_k = -\frac{\partial E}{\partial r_k}

    with shift :math:`\mu`, scale :math:`\sigma` and average neighbour count :math:`\bar N`; every layer also divides
    its environment sum by :math:`\sqrt{\bar N}`. Off means :math:`\mu = 0`, :math:`\sigma = 1`, :math:`\bar N = 1`.
    The two places of :math:`\bar N` share one argument of the package. Its weights are drawn with unit variance and
    divided by the root of the fan-in in every forward pass; the package has no switch for that
    (``forward_normalize=False`` divides by the root of the fan-out instead).

    Building changes no process-wide setting and draws from no global random state.

    Args:
        z: Nuclear charges of the molecule, or of all molecules; their distinct values are the atom types.
        statistics: Of the training set; only the parts that are switched on are used.
        normalization: A name of :data:`NORMALIZATIONS` or a combination of your own.
        cutoff: In the length unit of the data.
        l_max: Highest degree of the spherical harmonics.
        num_layers: Number of Allegro layers.
        num_scalars: Width of the scalar track and of all hidden layers.
        num_tensors: Channels of the tensor track.
        seed: Of the weights.
        dtype: Of the weights; energies are always float64, because a total energy needs more digits than float32 has.
        device: Where the weights live; None takes GEONORM_DEVICE, else the CPU.
        forward_normalize: Divide weights by the root of the fan-in (True) or of the fan-out (False).

    Raises:
        ValueError: If the name of the normalization is unknown.
        ImportError: If the packages are not installed.

    Source: Musaelian et al. (2023), doi 10.1038/s41467-023-36329-y; code of the PyPI packages nequip, nequip-allegro.
    """

    def __init__(
        self,
        z: Sequence[int] | Int[np.ndarray, " atoms"],
        statistics: Statistics,
        normalization: str | Normalization = "all",
        cutoff: float = 5.0,
        l_max: int = 1,
        num_layers: int = 2,
        num_scalars: int = 64,
        num_tensors: int = 8,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
        forward_normalize: bool = True,
    ) -> None:
        super().__init__()
        self.normalization = named_normalization(normalization)
        self.cutoff = cutoff
        self.elements = sorted({int(charge) for charge in z})
        with preserved_global_state():
            try:
                from allegro.model import AllegroModel
                from nequip.utils.global_state import set_global_state
            except ImportError as error:
                raise ImportError("Allegro needs nequip-allegro; get it with: pip install 'geonorm[models]'") from error
            set_global_state()
            self.network = AllegroModel(
                seed=seed,
                model_dtype={torch.float32: "float32", torch.float64: "float64"}[dtype],
                r_max=cutoff,
                type_names=[SYMBOLS.get(charge, f"Z{charge}") for charge in self.elements],
                l_max=l_max,
                parity=True,
                radial_chemical_embed={"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 8},
                scalar_embed_mlp_hidden_layers_width=num_scalars,
                num_layers=num_layers,
                num_scalar_features=num_scalars,
                num_tensor_features=num_tensors,
                allegro_mlp_hidden_layers_width=num_scalars,
                readout_mlp_hidden_layers_width=num_scalars,
                avg_num_neighbors=statistics.avg_num_neighbors if self.normalization.neighbors else 1.0,
                per_type_energy_shifts=statistics.energy_shift if self.normalization.shift else None,
                per_type_energy_scales=statistics.energy_scale if self.normalization.scale else None,
                forward_normalize=forward_normalize,
            )
        self.to(default_device(device))

    def forward(self, graph: dict[str, Tensor]) -> tuple[Float[Tensor, " samples"], Float[Tensor, "nodes 3"]]:
        """Return total energies and forces of a batch from :func:`collate`.

        Forces can be differentiated again in training mode only; in evaluation mode they are detached.

        Args:
            graph: A batch of molecules.

        Returns:
            Energies ``[samples]`` and forces ``[nodes, 3]`` in the units of the statistics.
        """
        with torch.enable_grad():
            out = self.network(graph)
        energies, forces = out["total_energy"].squeeze(-1), out["forces"]
        return (energies, forces) if self.training else (energies.detach(), forces.detach())

    def measured_layers(self) -> dict[str, Measured]:
        """The layers whose sizes :func:`geonorm.experiments.layer_sizes` reports, in order of depth."""
        stack = self.network.model.func
        layers = {
            "two-body MLP": stack.scalar_embed_mlp.mlp_module,
            "first projection": stack.allegro.first_layer_env_embed_projection,
        }
        for number, (product, latent) in enumerate(zip(stack.allegro.tps, stack.allegro.latents, strict=True), start=1):
            layers[f"tensor product {number}"] = product
            layers[f"latent MLP {number}"] = latent
        layers["read-out MLP"] = stack.edge_readout.mlp_module
        layers["sum over edges"] = stack.edge_eng_sum
        layers["scale and shift"] = stack.per_type_energy_scale_shift
        # Modules of a graph return the whole of it, with their own result under a key.
        return {name: (m, m.out_field) if hasattr(m, "out_field") else m for name, m in layers.items()}

    def graphs(self, frames: Frames) -> list[dict[str, Tensor]]:
        """Return one graph with its neighbour list for each frame; do it once, before training.

        Args:
            frames: Frames of molecules made of the elements of this network.

        Returns:
            Dictionaries for :func:`collate`, with float64 positions and labels.

        Raises:
            ValueError: If an element is unknown to the network.
        """
        unknown = sorted({int(charge) for charge in frames.z} - set(self.elements))
        if unknown:
            raise ValueError(f"frames hold the nuclear charges {unknown}, the network knows {self.elements}; add them.")
        with preserved_global_state():
            from nequip.data import AtomicDataDict, compute_neighborlist_, from_dict

            types = torch.tensor([self.elements.index(int(charge)) for charge in frames.z])
            graphs = []
            for position, energy, force in zip(frames.positions, frames.energies, frames.forces, strict=True):
                graph = from_dict(
                    {
                        AtomicDataDict.POSITIONS_KEY: torch.tensor(position, dtype=torch.float64),
                        AtomicDataDict.ATOM_TYPE_KEY: types.clone(),
                        AtomicDataDict.TOTAL_ENERGY_KEY: torch.tensor([[energy]], dtype=torch.float64),
                        AtomicDataDict.FORCE_KEY: torch.tensor(force, dtype=torch.float64),
                    }
                )
                graphs.append(compute_neighborlist_(graph, r_max=self.cutoff))
        return graphs


def collate(graphs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join graphs of :meth:`Allegro.graphs` into one batch.

    Args:
        graphs: At least one graph.

    Returns:
        The batch; it shares no memory with the graphs.
    """
    from nequip.data import AtomicDataDict

    batch = AtomicDataDict.batched_from_list(list(graphs))
    # The package hands the tensors of a lone graph on as they are.
    return {key: value.clone() for key, value in batch.items()} if len(graphs) == 1 else batch
