"""How large activations and gradients are in every layer of a network, in order of depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geonorm.models.measured import Measured, unchanged_buffers

#: Of a network and a batch, the errors by name, each with how many things it is a mean over; as in training.
Errors = Callable[[nn.Module, Any], dict[str, tuple[Tensor, int]]]


def layer_sizes(
    network: nn.Module,
    batch: Any,
    errors: Errors | None = None,
    layers: Mapping[str, Measured] | None = None,
) -> list[dict[str, float | str]]:
    r"""Return activation and gradient sizes by layer for one batch in training mode, from the input to the output.

    With :math:`a_{rf}` the output of a layer, rows r and features f, and :math:`w` its weights,

    .. math::
        \sqrt{\langle a^2 \rangle_{rf}}, \qquad
        \langle \operatorname{var}_r a_{rf} \rangle_f, \qquad
        \sqrt{\langle (\partial \mathcal L / \partial w)^2 \rangle},

    where :math:`\mathcal L` is the training loss, forces included, and the variance is the unbiased one. GemNet's
    factors are fitted to this variance; it leaves out what all rows share. The components of a vector are features of
    their own: the mean of their variances does not change when everything is turned.

    Args:
        network: The network; its gradients, mode and running statistics are left as they were.
        batch: As in training, on the device of the network.
        errors: What is minimized is its ``"loss"``; None takes the one of the experiment that trains such a network.
        layers: What is measured, by name; None takes ``network.measured_layers()``.

    Returns:
        Records with ``layer``, ``activation`` (root mean square), ``variance`` (not a number for fewer than two rows)
        and ``weight_gradient`` (not a number for a layer without weights).

    Raises:
        ValueError: If the network names no layers or no experiment trains such a network, and they are not given; or
            if the network does not call a layer.
    """
    errors = errors or _training_errors(network)
    chosen = {name: _module_and_part(what) for name, what in (layers or _named_by(network)).items()}
    outputs: dict[str, list[Tensor]] = {name: [] for name in chosen}

    def keep(name: str, part: int | str | None) -> Callable:
        def hook(module: nn.Module, arguments: tuple, output: Any) -> None:
            values = output if part is None else output[part]
            outputs[name].append(values.detach().flatten(1) if values.ndim > 1 else values.detach()[:, None])

        return hook

    handles = [module.register_forward_hook(keep(name, part)) for name, (module, part) in chosen.items()]
    parameters = {name: [p for p in module.parameters() if p.requires_grad] for name, (module, _) in chosen.items()}
    distinct = list({id(p): p for group in parameters.values() for p in group}.values())
    mode = network.training
    try:
        with unchanged_buffers(network):
            loss, _ = errors(network.train(), batch)["loss"]
            found = torch.autograd.grad(loss, distinct, allow_unused=True, materialize_grads=True)
    finally:
        network.train(mode)
        for handle in handles:
            handle.remove()
    gradients = {id(parameter): gradient.flatten() for parameter, gradient in zip(distinct, found, strict=True)}
    records = []
    for name, group in parameters.items():
        if not outputs[name]:
            raise ValueError(f"the network does not call the layer {name!r}: measure others")
        values = torch.cat(outputs[name]).double()
        own = [gradients[id(parameter)] for parameter in group]
        records.append(
            {
                "layer": name,
                "activation": _rms(values),
                "variance": float(values.var(0).mean()) if len(values) > 1 else float("nan"),
                "weight_gradient": _rms(torch.cat(own)) if own else float("nan"),
            }
        )
    return records


def _named_by(network: nn.Module) -> Mapping[str, Measured]:
    if not hasattr(network, "measured_layers"):
        raise ValueError(
            f"{type(network).__name__} does not say which of its layers to measure: give layers, a dictionary of "
            "modules by name in order of depth"
        )
    return network.measured_layers()


def _training_errors(network: nn.Module) -> Errors:
    """What the experiment of such a network minimizes."""
    from geonorm.experiments import gemnet_errors, loss, schnet
    from geonorm.models.allegro import Allegro
    from geonorm.models.gemnet import GemNet
    from geonorm.models.schnet import CouplingSchNet

    known = {Allegro: loss.errors, GemNet: gemnet_errors.errors, CouplingSchNet: schnet.errors}
    for kind, errors in known.items():
        if isinstance(network, kind):
            return errors
    raise ValueError(
        f"no experiment trains a {type(network).__name__}: give errors, a function of (network, batch) that returns "
        "its 'loss' with the number of samples"
    )


def _module_and_part(what: Measured) -> tuple[nn.Module, int | str | None]:
    return what if isinstance(what, tuple) else (what, None)


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
