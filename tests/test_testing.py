"""What users inherit in their own test suites, inherited here, and seen to fail."""

import pytest
import torch
from match.broken import unit_vectors
from match.networks import Network, molecules
from torch import Tensor, nn

import geonorm as gn
from geonorm.match.tasks import SET_REGRESSION
from geonorm.testing import LayerTests, NetworkTests, assert_geometric_match, moved


class TestConstant(LayerTests):
    inputs = "4x0e+4x1o"

    def make(self) -> nn.Module:
        return gn.AverageNeighborNorm("4x0e+4x1o", 12.0)


class TestSetNorm(LayerTests):
    inputs = 6
    task = SET_REGRESSION
    allow = ("shift per sample", "scale per sample")

    def make(self) -> nn.Module:
        return gn.SetNorm(6)


class TestVectorLayer(LayerTests):
    inputs = gn.Vectors(3)
    allow = ("scale per node",)

    def make(self) -> nn.Module:
        return gn.VectorPerceptronNorm(3)


class TestNetwork(NetworkTests):
    def make(self) -> nn.Module:
        return Network(nn.Identity())

    def data(self) -> dict[str, Tensor]:
        return molecules()


def test_the_assertion_fails_with_the_whole_report() -> None:
    with pytest.raises(AssertionError, match=r"not allowed: scale per \(node, field\)\nunit_vectors on 4x1o is not a"):
        assert_geometric_match(unit_vectors, "4x1o")
    report = assert_geometric_match(unit_vectors, "4x1o", allow=["scale per (node, field)"])
    assert report.level == "node"


@pytest.mark.parametrize("test", [name for name in vars(LayerTests) if name.startswith("test_")])
def test_every_inherited_test_can_fail(test: str) -> None:
    class Wrong(LayerTests):
        inputs = "4x1o"

        def make(self):
            # Not equivariant; a derivative that autograd is not told of; 0 / 0 at zero vectors.
            def layer(x: Tensor) -> Tensor:
                y = unit_vectors(x)
                return torch.cat([y[:, :1].detach() * x[:, 1:2], y[:, 1:]], 1)

            return layer

    with pytest.raises((AssertionError, RuntimeError)):
        getattr(Wrong(), test)()


def test_a_network_that_couples_samples_fails() -> None:
    class Coupled(TestNetwork):
        def make(self) -> nn.Module:
            return Network(gn.BatchNorm(16))

    with pytest.raises(AssertionError, match="not allowed: sample independence"):
        Coupled().test_is_a_geometric_match()


class Gated(nn.Module):
    """A layer behind a gate that starts at zero."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.gate = layer, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * self.layer(x)


def test_what_hides_behind_a_gate_is_found_once_it_has_opened() -> None:
    class Hidden(TestNetwork):
        def make(self) -> nn.Module:
            return Network(Gated(nn.BatchNorm1d(16)))

    Hidden().test_is_a_geometric_match()
    with pytest.raises(AssertionError, match="not allowed: sample independence"):
        Hidden().test_is_a_geometric_match_once_it_has_learned()


def test_the_moved_network_is_a_copy_and_the_same_each_time() -> None:
    network = Network(nn.Identity())
    network.readout[2].requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = (dict(moved(network, size=0.2, seed=3).named_parameters()) for _ in range(2))
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name], parameter) != parameter.requires_grad
        assert first[name].dtype == parameter.dtype
        if parameter.requires_grad and parameter.ndim == 2:  # weights by a part of their size
            assert 0.1 < (first[name] - parameter).norm() / parameter.norm() < 0.3, name
        elif parameter.requires_grad:  # biases as if they were of size one
            assert 0.1 < (first[name] - parameter).square().mean().sqrt() < 0.3, name


def test_what_has_to_be_said_is_asked_for() -> None:
    with pytest.raises(NotImplementedError, match="say how to make the layer"):
        LayerTests().make()
    with pytest.raises(NotImplementedError, match="say how to make the network"):
        NetworkTests().make()
    with pytest.raises(NotImplementedError, match="give a batch"):
        NetworkTests().data()
