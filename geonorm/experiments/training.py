"""Train one network with Lightning and keep one record per epoch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
import torch.distributed
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from geonorm.experiments.batches import Batches, Samples
from geonorm.processes import global_sum, several_processes

#: The mean of an error over a batch, and over how many things it is a mean.
Mean = tuple[Tensor, int]
#: Samples per step of an evaluation.
EVALUATION = 50
#: Of a network and a batch, the errors by name; ``"loss"`` is minimized.
Errors = Callable[[nn.Module, Any], dict[str, Mean]]


def train(
    network: nn.Module,
    train_set: Samples,
    test_set: Samples,
    errors: Errors,
    batches: Batches,
    epochs: int,
    learning_rate: float,
    decay: float = 1.0,
    folder: Path | None = None,
    progress: bool = True,
    devices: int | str | list[int] = 1,
    strategy: str = "auto",
) -> list[dict[str, int | float]]:
    """Train with Adam and return one record per epoch; epoch 0 is before training.

    Several processes that share the work minimize the loss of their batches together, as one process would. The test
    set is evaluated as a whole by each.

    Args:
        network: Its device decides where the training runs.
        train_set: What it learns from.
        test_set: What it is judged by.
        errors: What is minimized and reported.
        batches: Which samples make a step; seed and epoch alone decide, so a resumed run repeats it.
        epochs: Number of passes over the training set.
        learning_rate: Of Adam.
        decay: What the learning rate is multiplied by after every epoch.
        folder: Where the log and a checkpoint of every epoch go; an interrupted run continues from it. None: neither.
        progress: Show Lightning's progress bar.
        devices: How many, or which; Lightning's argument.
        strategy: How several devices share the work; Lightning's argument.

    Returns:
        Records with ``epoch``, ``train_…`` and ``test_…`` for every error, and ``gradient_norm``. The training errors
        are means over the epoch in training mode, while the network changes; the gradient norm is a mean over steps.
        In epoch 0 the training errors are those in evaluation mode, and the gradient norm is that of the first step.
    """
    device = next(network.parameters()).device
    module = _Module(network, errors, learning_rate, decay)
    test = test_set.loader(EVALUATION)
    checkpoint = None if folder is None else folder / "last.ckpt"
    with warnings.catch_warnings():
        # Few workers and an existing log folder are right for samples in memory and for a run that continues.
        warnings.filterwarnings("ignore", module="lightning")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=[device.index] if device.index is not None and devices == 1 else devices,
            strategy=strategy,
            max_epochs=epochs,
            logger=CSVLogger(folder, name="log") if folder else False,
            callbacks=[_last_checkpoint(folder)] if folder else [],
            enable_checkpointing=folder is not None,
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            # Forces are derivatives of the energy, so evaluation needs autograd.
            inference_mode=False,
            # The batches know the processes themselves.
            use_distributed_sampler=False,
        )
        if checkpoint is None or not checkpoint.exists():
            (on_train,) = trainer.validate(module, train_set.loader(EVALUATION), verbose=False)
            (on_test,) = trainer.validate(module, test, verbose=False)
            first = {key.replace("test_", "train_", 1): value for key, value in on_train.items()}
            module.records = [{"epoch": 0, "gradient_norm": float("nan")} | first | on_test]
        trainer.fit(
            module,
            train_set.loader(batches),
            test,
            ckpt_path=checkpoint if checkpoint and checkpoint.exists() else None,
        )
    return module.records


class _Module(lightning.LightningModule):
    def __init__(self, network: nn.Module, errors: Errors, learning_rate: float, decay: float) -> None:
        super().__init__()
        self.network, self.errors, self.learning_rate, self.decay = network, errors, learning_rate, decay
        self.records: list[dict[str, int | float]] = []

    def training_step(self, batch: Any) -> Tensor:
        errors = self.errors(self.network, batch)
        self._log("train", errors)
        return _shared(*errors["loss"])

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad.flatten() for p in self.network.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.cat(gradients))
        if self.global_step == 0:
            self.records[0]["gradient_norm"] = norm.item()
        self.log("gradient_norm", norm, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    def validation_step(self, batch: Any) -> None:
        self._log("test", self.errors(self.network, batch))

    def on_train_epoch_end(self) -> None:
        metrics = {key: float(value) for key, value in self.trainer.callback_metrics.items()}
        self.records.append({"epoch": self.current_epoch + 1} | metrics)

    def configure_optimizers(self) -> dict[str, Any]:
        adam = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)
        return {"optimizer": adam, "lr_scheduler": torch.optim.lr_scheduler.ExponentialLR(adam, self.decay)}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["records"] = self.records

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.records = checkpoint["records"]

    def _log(self, stage: str, errors: dict[str, Mean]) -> None:
        # Weighted by what each is a mean over, so that the mean over batches is the mean over all.
        for name, (value, number) in errors.items():
            # A weight that is no integer: Lightning averages the weights of processes, and integers would be rounded.
            keywords = {"on_step": False, "on_epoch": True, "sync_dist": True, "batch_size": float(number)}
            self.log(f"{stage}_{name}", value.detach(), **keywords)


def _shared(loss: Tensor, number: int) -> Tensor:
    """The loss whose average over processes is the mean over all their batches."""
    if not several_processes():
        return loss
    of_all = global_sum(torch.tensor(float(number), device=loss.device))
    return loss * (number * torch.distributed.get_world_size() / of_all)


def _last_checkpoint(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename="last", save_top_k=1, monitor=None, enable_version_counter=False)
