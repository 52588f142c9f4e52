"""The layers of geonorm.match.rows on all that their rows are declared for, with all inputs in one tensor."""

import torch
from table.rows import CHANNELS, fields_of
from torch import Tensor, nn

from geonorm.layers.fields import Features, Fields
from geonorm.match.rows import OfBoth, built, flattened, open_thresholds
from geonorm.table import Row

SIZES = (3, 4)
NODES = sum(SIZES)
BATCH = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))


def build(row: Row, features: Features | None = None, **options) -> nn.Module:
    """The layer of a row; of a row of weights the map of flattened vectors, for which the table declares it."""
    torch.manual_seed(0)
    if row.acts_on == "weights":
        return flattened(row)
    if row.name == "DiffGroupNorm":  # whose normalized part is too small to be seen
        options.setdefault("lamda", 1.0)
    # A tensor of rank two is no vector of nine components to its layer.
    features = fields_of(row) if features is None else features
    return built(row, CHANNELS[row.features] if row.features == "tensors" else features, **options)


class TwoInputs(nn.Module):
    """A layer with a second input, read from further columns of the first: who moves a node, moves them along."""

    def __init__(self, name: str, layer: nn.Module, columns: int) -> None:
        super().__init__()
        self.layer, self.name, self.columns = layer, name, columns

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        features, further = x[:, : self.columns], x[:, self.columns :]
        if self.name == "MessageNorm":
            return OfBoth(self.layer)(x)
        if self.name == "DensityNorm":
            senders, receivers = torch.nonzero((batch[:, None] == batch).fill_diagonal_(False), as_tuple=True)
            distances = (further[senders] - further[receivers]).norm(dim=1)
            return self.layer(features, distances, receivers)
        return self.layer(features, further[:, 0] if self.name == "SchNet" else further[:, 0].long())


def further_columns(row: Row) -> tuple[Tensor, str]:
    """The second input of a layer, and what its columns are: the places of nodes do not rotate here, x alone does."""
    if row.name == "MessageNorm":
        return torch.randn(NODES, CHANNELS["scalars"], dtype=torch.float64), f"+{CHANNELS['scalars'] // 3}x1o"
    if row.name == "SchNet":
        return torch.randint(1, 6, (NODES, 1)).double(), "+1x0e"
    if row.name == "DensityNorm":
        return torch.randn(NODES, 3, dtype=torch.float64), "+3x0e"
    if row.name in ("PerTypeScaleShift", "TypedBatchNorm"):
        return (torch.arange(NODES) % 2).double()[:, None], "+1x0e"
    return torch.zeros(NODES, 0, dtype=torch.float64), ""


class Case:
    """A layer, its input with all columns, and what the columns of input and output are.

    Args:
        row: The row.
        random_parameters: Give the layer's parameters values of their own; otherwise it is as it is built, with open
            thresholds.
        features: Other features than those that the row's invariances are declared on.
    """

    def __init__(self, row: Row, *, random_parameters: bool = False, features: Features | None = None) -> None:
        self.row, self.fields = row, Fields(fields_of(row) if features is None else features)
        layer = build(row, features)
        torch.manual_seed(1)
        self.features = torch.randn(NODES, *self._shape(), dtype=torch.float64) + 0.5
        self.further, more = further_columns(row)
        if random_parameters and row.acts_on != "weights":
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
        else:
            open_thresholds(layer)
        self.layer = TwoInputs(row.name, layer, self.fields.dim) if more else layer
        self.x = torch.cat([self.features, self.further], 1) if more else self.features
        # Naive columns are measured as vectors; vectors and tensors of rank two say by their shape what they are.
        columns = f"{self.fields.dim // 3}x1o" if row.features == "scalars" else str(features or fields_of(row))
        self.irreps = columns + more if self.x.ndim == 2 else None
        self.irreps_out = columns if self.x.ndim == 2 else None
        if row.layer.__name__ == "EvNorm":
            self.irreps_out = f"{CHANNELS['vectors']}x0e+{CHANNELS['vectors']}x1o"

    def _shape(self) -> tuple[int, ...]:
        channels = CHANNELS[self.row.features]
        return {"vectors": (channels, 3), "tensors": (channels, 3, 3)}.get(self.row.features, (self.fields.dim,))

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

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        return self.layer(torch.cat([x, self.further], 1), batch)
