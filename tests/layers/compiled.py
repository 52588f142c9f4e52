"""Compile every layer and compare it with itself, in a process of its own.

The tests of this project check the shapes and types of arguments, with wrappers that the compiler cannot trace; so a
fresh process without those checks runs this module and prints what it found.
"""

import copy
import json
import warnings

import torch
from layers.case import Case, derivatives
from layers.cases import CASES, IDS, tracks
from layers.peers import SIZES, ragged_batch


class Compiled:
    """A layer behind ``torch.compile``, with the parameters and the state of the layer."""

    def __init__(self, layer: torch.nn.Module) -> None:
        self.layer = layer
        self.call = torch.compile(layer, fullgraph=True, backend="aot_eager")

    def __call__(self, *arguments: object) -> torch.Tensor:
        """Run the compiled layer."""
        return self.call(*arguments)

    def parameters(self):
        """The parameters of the layer."""
        return self.layer.parameters()


def largest_difference(case: Case, training: bool, batch_size: int | None) -> float:
    """The largest difference between compiled and eager: output, gradients and running statistics."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    eager = case.make().train(training)
    compiled = Compiled(copy.deepcopy(eager))
    worst = 0.0
    for nodes in (sum(SIZES), sum(SIZES) + 4) if training and batch_size else (sum(SIZES),):
        inputs, batch = case.inputs(nodes), torch.cat([ragged_batch(), torch.ones(nodes - sum(SIZES)).long()])
        expected = derivatives(case, eager, inputs, batch, batch_size, order=1) | eager.state_dict()
        given = derivatives(case, compiled, inputs, batch, batch_size, order=1) | compiled.layer.state_dict()
        for name, value in expected.items():
            if value.numel():
                worst = max(worst, float((given[name] - value).abs().max()))
    return worst


def ways(case: Case) -> list[tuple[bool, int | None]]:
    """The ways to call a layer that are different programs: training or not, with the number of samples or without."""
    given = [(True, len(SIZES) if case.takes_batch else None)]
    return given + [(True, None)] * case.per_sample + [(False, len(SIZES))] * tracks(case)


def main() -> None:
    """Print the difference, or the error, for every layer and way to call it."""
    # The compiler looks whether inputs have a gradient, also inputs that are parts of another tensor.
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
    found = {}
    for name, case in zip(IDS, CASES, strict=True):
        for training, batch_size in ways(case):
            try:
                result = largest_difference(case, training, batch_size)
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
            found[f"{name}, {'training' if training else 'evaluation'}, batch_size={batch_size}"] = result
    print(json.dumps(found))


if __name__ == "__main__":
    main()
