"""Train one energy-and-force network with Lightning and keep one record per epoch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from geonorm.experiments.loss import errors
from geonorm.models.allegro import Allegro, collate

#: What every epoch of a run records; squared units of the data, per training loss, total energy and force component.
METRICS = ("train_loss", "test_loss", "test_energy_mse", "test_force_mse", "gradient_norm")


def train(
    network: Allegro,
    train_graphs: Sequence[dict[str, Tensor]],
    test_graphs: Sequence[dict[str, Tensor]],
    epochs: int,
    seed: int = 0,
    batch_size: int = 5,
    learning_rate: float = 2e-3,
    folder: Path | None = None,
    progress: bool = True,
    devices: int | str | list[int] = 1,
    strategy: str = "auto",
) -> list[dict[str, int | float]]:
    """Train with Adam at a constant rate and return one record per epoch; epoch 0 is before training.

    Args:
        network: Its device decides where the training runs.
        train_graphs: From ``network.graphs``.
        test_graphs: From ``network.graphs``.
        epochs: Number of passes over the training set.
        seed: Of the order of the batches; epoch and seed alone decide the order, so a resumed run repeats it.
        batch_size: Molecules per step and device.
        learning_rate: Of Adam.
        folder: Where the log and a checkpoint of every epoch go; an interrupted run continues from it. None: neither.
        progress: Show Lightning's progress bar.
        devices: How many, or which; Lightning's argument.
        strategy: How several devices share the work; Lightning's argument.

    Returns:
        Records with ``epoch`` and :data:`METRICS`. ``train_loss`` is the mean over the steps of the epoch;
        ``gradient_norm`` too, and in epoch 0 it is that of the first step.
    """
    device = next(network.parameters()).device
    module = _Module(network, learning_rate)
    shuffled = _loader(train_graphs, batch_size, _Order(len(train_graphs), seed))
    test = _loader(test_graphs, 50)
    checkpoint = None if folder is None else folder / "last.ckpt"
    with warnings.catch_warnings():
        # Few workers and an existing log folder are right for graphs in memory and for a run that continues.
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
        )
        if checkpoint is None or not checkpoint.exists():
            (before_train,) = trainer.validate(module, _loader(train_graphs, 50), verbose=False)
            (before_test,) = trainer.validate(module, test, verbose=False)
            first = {"epoch": 0, "train_loss": before_train["test_loss"], "gradient_norm": float("nan")}
            module.records = [first | before_test]
        trainer.fit(module, shuffled, test, ckpt_path=checkpoint if checkpoint and checkpoint.exists() else None)
    return [{"epoch": record["epoch"]} | {key: record[key] for key in METRICS} for record in module.records]


class _Module(lightning.LightningModule):
    def __init__(self, network: Allegro, learning_rate: float) -> None:
        super().__init__()
        self.network, self.learning_rate = network, learning_rate
        self.records: list[dict[str, int | float]] = []

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        loss, _, _ = errors(self.network, batch)
        self._log(batch, train_loss=loss)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad.flatten() for p in self.network.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.cat(gradients))
        if self.global_step == 0:
            self.records[0]["gradient_norm"] = norm.item()
        self.log("gradient_norm", norm, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        loss, energy_mse, force_mse = errors(self.network, batch)
        self._log(batch, test_loss=loss, test_energy_mse=energy_mse, test_force_mse=force_mse)

    def on_train_epoch_end(self) -> None:
        metrics = {key: float(value) for key, value in self.trainer.callback_metrics.items() if key in METRICS}
        self.records.append({"epoch": self.current_epoch + 1} | metrics)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["records"] = self.records

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.records = checkpoint["records"]

    def _log(self, batch: dict[str, Tensor], **values: Tensor) -> None:
        # Weighted by the batch size, and all molecules are equally large: the mean over batches is the mean over all.
        size = len(batch["num_atoms"])
        values = {key: value.detach() for key, value in values.items()}
        self.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, batch_size=size)


class _Order(Sampler[int]):
    """A new order in every epoch that depends on nothing but the seed and the epoch."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist())


def _loader(graphs: Sequence[dict[str, Tensor]], batch_size: int, sampler: _Order | None = None) -> DataLoader:
    return DataLoader(list(graphs), batch_size=batch_size, sampler=sampler, collate_fn=collate)


def _last_checkpoint(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename="last", save_top_k=1, monitor=None, enable_version_counter=False)
