"""How large activations and gradients are in every layer of an Allegro network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from geonorm.experiments.loss import errors
from geonorm.models.allegro import Allegro


def layer_sizes(network: Allegro, batch: dict[str, Tensor]) -> list[dict[str, float | str]]:
    r"""Return activation and gradient sizes by layer for one batch, from the input to the energy.

    With :math:`a` the output of a layer and :math:`w` its weights, the sizes are root mean squares,

    .. math::
        \sqrt{\langle a^2 \rangle}, \qquad
        \sqrt{\langle (\partial \mathcal L / \partial w)^2 \rangle},

    where :math:`\mathcal L` is the training loss, forces included.

    Args:
        network: The network; its gradients are left as they were.
        batch: From :func:`geonorm.models.allegro.collate`, on the device of the network.

    Returns:
        Records with ``layer``, ``activation`` and ``weight_gradient`` (not a number for a layer without weights).
    """
    layers = _layers(network)
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Callable:
        return lambda module, arguments, output: outputs[name].append(_values(module, output).detach())

    was_training = network.training
    handles = [module.register_forward_hook(keep(name)) for name, module in layers.items()]
    try:
        loss, _ = errors(network.train(), batch)["loss"]
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    parameters = {name: [p for p in module.parameters() if p.requires_grad] for name, module in layers.items()}
    flat = [parameter for group in parameters.values() for parameter in group]
    gradients = iter(torch.autograd.grad(loss, flat))
    records = []
    for name, group in parameters.items():
        own = [next(gradients).flatten() for _ in group]
        records.append(
            {
                "layer": name,
                "activation": _rms(torch.cat([output.flatten() for output in outputs[name]])),
                "weight_gradient": _rms(torch.cat(own)) if own else float("nan"),
            }
        )
    return records


def _layers(network: Allegro) -> dict[str, nn.Module]:
    stack = network.network.model.func
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
    return layers


def _values(module: nn.Module, output: Tensor | dict[str, Tensor]) -> Tensor:
    return output[module.out_field] if isinstance(output, dict) else output


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
