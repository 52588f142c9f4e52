"""QuaternionNorm: vectors divided by the RMS of their components."""

from __future__ import annotations

from typing import Literal

import torch

from geonorm.layers.fields import Features
from geonorm.layers.standardize import Standardize
from geonorm.layers.vector.inputs import short_name, vector_features


class QuaternionNorm(Standardize):
    r"""Quaternion batch normalization: vectors divided by the RMS of their components, per channel or per sample.

    $$ \mathbf y_{ic}=\frac{\mathbf a_{ic}}{\sqrt{r^2+\varepsilon}},\qquad
       r^2=\begin{cases}\frac1{3N}\sum_i\|\mathbf a_{ic}\|^2&\text{channel}\\
       \frac1{3vn_s}\sum_{i\in s,c}\|\mathbf a_{ic}\|^2&\text{sample}\end{cases} $$

    A pure quaternion is a vector, and conjugation by a unit quaternion a rotation. The survey prints axes $\{x,y\}$
    with $y$ undefined; the authors' code has both readings. Per channel, the samples of a batch share $r$; it keeps
    lengths only in relation to each other. Unlike there, the gradient flows through $r$, ``running_var`` holds $r^2$
    and starts at 1, and eval mode adds ε too.

    Args:
        channels: The number of vectors of a node, or irreps such as ``"16x1o"``.
        mode: ``"channel"``: over $\{b,x,m\}$ for each channel; ``"sample"``: over $\{x,v,m\}$ for each sample and type.
        eps: Added to the second moment, inside the root.
        momentum: The weight of the new value in the running statistic; ``None`` averages over all batches.
        track_running_stats: Keep the running second moment of mode ``"channel"`` and use it in eval mode.
        device: The device of the buffers; the layer has no parameters.
        dtype: Their dtype.

    Raises:
        ValueError: If the mode is unknown.

    Source: Shen et al. 2020 (arXiv 1911.09040); ``Qua_BN`` (channel) and ``qua_bn`` (sample) of the authors' REQNN.
    """

    def __init__(
        self,
        channels: Features,
        mode: Literal["channel", "sample"] = "channel",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if mode not in ("channel", "sample"):
            raise ValueError(
                f"mode is {mode!r}, expected 'channel' (one statistic per channel of the batch) or 'sample' "
                "(one per sample)"
            )
        super().__init__(
            vector_features(channels),
            mean=None,
            scale="bxm" if mode == "channel" else "xvm",
            statistic="rms",
            eps=eps,
            gain=False,
            bias=False,
            track_running_stats=track_running_stats and mode == "channel",
            momentum=momentum,
            device=device,
            dtype=dtype,
        )
        self.mode = mode

    def extra_repr(self) -> str:
        """The features and the mode."""
        return f"{short_name(self.fields)}, mode={self.mode!r}"
