"""Published layers on vectors as their authors' code computes them, faults included, in a few lines each.

All take vectors as ``[nodes, channels, components]``, in whatever layout the code keeps them.
"""

import torch
from layers.peers import mean_of_sample
from torch import Tensor, nn


class ReqnnBatchNorm(nn.Module):
    """REQNN's quaternion batch norm for PointConv: the statistic is detached, its memory starts at zero.

    https://github.com/ada-shen/REQNN, ``utils/pointconv_util_reqnn.py``, class ``Qua_BN``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_rms", torch.zeros(channels, dtype=torch.float64))

    def forward(self, v: Tensor) -> Tensor:
        """Divide by the RMS of the batch, or in eval mode by the memory, with nothing added."""
        rms = self.running_rms
        if self.training:
            rms = (v.detach().square().mean((0, 2)) + 1e-5).sqrt()
            self.running_rms = 0.9 * self.running_rms + 0.1 * rms
        return v / rms[:, None]


def reqnn_sample_norm(v: Tensor, batch: Tensor) -> Tensor:
    """REQNN's quaternion batch norm for DGCNN, the function ``qua_bn`` of ``model/dgcnn_reqnn.py``."""
    square = mean_of_sample(batch, v.detach().square().mean((1, 2))[:, None])
    return v / (square + 1e-5).sqrt()[..., None]


class GvpLayerNorm(nn.Module):
    """The layer norm of geometric vector perceptrons: every squared length is at least 1e-8.

    https://github.com/drorlab/gvp-pytorch, ``gvp/__init__.py``, class ``LayerNorm``.
    """

    def __init__(self, scalar_channels: int) -> None:
        super().__init__()
        self.scalar_norm = nn.LayerNorm(scalar_channels, dtype=torch.float64)

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Normalize scalars and vectors of each node."""
        return self.scalar_norm(s), self.vectors(v)

    @staticmethod
    def vectors(v: Tensor) -> Tensor:
        """Divide by the RMS of the clamped lengths."""
        square = v.square().sum(2, keepdim=True).clamp(min=1e-8).mean(1, keepdim=True)
        return v / square.sqrt()


def eqgat_layer_norm(s: Tensor, v: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """EQGAT's layer norm: mean squares without a root, those of the vectors from their first coordinate alone.

    https://github.com/Bayer-Group/eqgat, ``eqgat/modules.py``, class ``LayerNorm``, at its initial gain and bias. The
    code keeps coordinates before channels, adds the squares over the last axis, and gathers the first column.
    """
    s = s - mean_of_sample(batch, s.mean(1, keepdim=True))
    variance = mean_of_sample(batch, s.square().mean(1, keepdim=True)).clamp(min=1e-6)
    coordinates_first = v.transpose(1, 2)
    square = mean_of_sample(batch, coordinates_first.square().sum(2)).clamp(min=1e-6)
    return s / variance, (coordinates_first / square[:, :1, None]).transpose(1, 2)


class VectorNeuronBatchNorm(nn.Module):
    """Vector Neurons' batch norm, https://github.com/FlyingGiraffe/vnn, ``models/vn_layers.py``, ``VNBatchNorm``."""

    def __init__(self, channels: int, **options) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, **options)

    def forward(self, v: Tensor) -> Tensor:
        """Put the batch-normalized length on the direction."""
        length = v.norm(dim=2) + 1e-6
        return v / length[..., None] * self.bn(length)[..., None]


class RepNorm(nn.Module):
    """EvNorm by its first author, https://github.com/zrqiao/torch-gauge, ``torch_gauge/nn.py``, ``RepNorm1d``."""

    def __init__(self, channels: int, norm: str, mode: str, invariant: int = 0) -> None:
        super().__init__()
        if norm == "batch":
            self.norm = nn.BatchNorm1d(channels, affine=False, dtype=torch.float64)
        else:
            self.norm = nn.LayerNorm(channels, elementwise_affine=False, dtype=torch.float64)
        self.mode = mode
        width = (0.5 + torch.rand(channels - invariant)) if mode == "raw" else 10 * torch.rand(channels - invariant)
        self.beta = nn.Parameter(width.double())

    def forward(self, h: Tensor, values: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Content and direction; ``values`` are invariant channels, whose direction is one."""
        beta = self.beta if self.mode == "raw" else 1 / (self.beta.abs() + 1e-2)
        length = (h.square().sum(2) + 1e-4**2).sqrt() - 1e-4
        content = self.norm(length if values is None else torch.cat([values, length], 1))
        return content, h / ((length + beta).abs() + 1e-2)[..., None]


def roteqnet_matlab(v: Tensor, gain: Tensor) -> Tensor:
    """RotEqNet's norm of vector fields in the plane by its authors (MATLAB, ``vl_nnbnormangle``), in training."""
    square = v.square().sum((0, 2)) / (2 * v.shape[0])
    return gain[:, None] * v / (square + 1e-4).sqrt()[:, None]


def roteqnet_3d(v: Tensor) -> Tensor:
    """A remake for three dimensions, https://github.com/COGMAR/RotEqNet, ``layers_3D.py``: a sum for a mean."""
    length = v.norm(dim=2)
    deviation = (length - length.mean(0)).square().sum(0).sqrt()
    return v / (deviation + 1e-5)[:, None]
