"""Every row of the table as a function of one feature matrix, so that the measurements of geonorm.match apply."""

import inspect

import torch
from torch import Tensor, nn

from geonorm.table import Row

CHANNELS, SIZES = 12, (4, 5)
NODES = sum(SIZES)
BATCH = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
VECTORS = f"{CHANNELS // 3}x1o"


def build(row: Row, **options) -> nn.Module:
    """The layer of a row with an ε that is negligible, on a weight that mixes whole vectors if it acts on weights."""
    torch.manual_seed(0)
    if row.acts_on == "weights":
        linear = nn.Linear(CHANNELS, CHANNELS, bias=False, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.kron(torch.randn(CHANNELS // 3, CHANNELS // 3), torch.eye(3)))
        further = {"SpectralNorm": {"n_power_iterations": 500}, "ScaledWeight": {"allow_illegal": True}}
        return row.make(linear, **further.get(row.name, {}))
    options = {**row.needs, **options}
    if "eps" in inspect.signature(row.layer).parameters:
        options.setdefault("eps", 1e-14)
    layer = row.make(CHANNELS, dtype=torch.float64, **options)
    if row.name == "FilterResponseNorm":
        # What is declared holds where the threshold does not cut.
        nn.init.constant_(layer.threshold, -100.0)
    if row.name == "DiffGroupNorm":
        layer.lamda = 1.0
    return layer


class Columns(nn.Module):
    """A layer with a second input, read from further columns of the first."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.layer, self.name = build(row), row.name

    def forward(self, x: Tensor) -> Tensor:
        features, further = x[:, :CHANNELS], x[:, CHANNELS:]
        if self.name == "MessageNorm":
            # The convolution adds the message to the features; alone it is no function of all features.
            return features + self.layer(features, further)
        return self.layer(features, further[:, 0])


class Case:
    """A layer, its input with all columns, and what the columns are."""

    def __init__(self, row: Row) -> None:
        torch.manual_seed(1)
        two_inputs = row.name in ("MessageNorm", "SchNet")
        self.layer = Columns(row) if two_inputs else build(row)
        x = torch.randn(NODES, CHANNELS, dtype=torch.float64) + 0.5
        further, self.irreps = {
            "MessageNorm": (torch.randn(NODES, CHANNELS, dtype=torch.float64), f"{VECTORS}+{VECTORS}"),
            "SchNet": (torch.randint(1, 6, (NODES, 1)).double(), f"{VECTORS}+1x0e"),
        }.get(row.name, (x[:, :0], VECTORS))
        self.x, self.further = torch.cat([x, further], 1), further
        self.features = x

    def of_features(self) -> nn.Module:
        """The layer as a function of the features alone."""
        return Fixed(self.layer, self.further) if self.further.shape[1] else self.layer

    def of_messages(self, messages: Tensor) -> Tensor:
        """The layer as a function of the messages alone."""
        return self.layer(torch.cat([self.features, messages], 1))


class Fixed(nn.Module):
    """A layer whose further columns stay as they are."""

    def __init__(self, layer: nn.Module, further: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("further", further)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.cat([x, self.further], 1))
