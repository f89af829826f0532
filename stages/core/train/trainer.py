"""The one training loop. Core owns epochs, checkpoints, resume and history; a lane says what to learn.

A lane supplies

    loss(batch) -> (loss, parts)    a scalar tensor with a gradient, and named tensors for the history
    validate() -> metrics           of the weights that would be kept, called in eval mode without gradients

and gets a network with its best weights back:

    device = runtime.prepare(params.device, params.threads, params.seed)
    network = HeatmapNetwork(...).to(device)

    def loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images = torch.from_numpy(films.images[batch.samples])      # a lane gathers (and augments with
        ...                                                         # batch.rng) the samples it is asked for
        parts = {"cross_entropy": ..., "l1": ...}
        return sum(batch.phase.weights[name] * part for name, part in parts.items()), parts

    fitted = trainer.fit(
        network, {"backbone": network.backbone, "head": network.head}, len(rows), loss, validate,
        params.fit, params.seed, device, observe,
    )

`params.fit` is a `Plan`. Every random number of an epoch comes from (seed, epoch), and a checkpoint holds all
other state, so that a run which is killed anywhere and started again ends with the same bytes as an
unbroken one.

Where several processes train together (see distributed.py), each calls `fit` with the same arguments. Every
batch is cut into one piece a process and the gradients are averaged, so that all of them hold the same
weights all the time; the first one alone validates, observes and writes checkpoints. A `loss` that is a mean
over samples then gives the gradients of the whole batch. Batch statistics are each process's own, and their
running averages are averaged at the end of an epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stages.core.errors import StageError
from stages.core.stage import Observer
from stages.core.train import checkpoint, runtime
from stages.core.train import team as teams
from stages.core.train.checkpoint import Progress, Weights
from stages.core.train.plan import Phase, Plan, rate_factor
from stages.core.train.team import Team


@dataclass(frozen=True)
class Batch:
    """What a step of training is about.

    Attributes:
        samples: (B,) indices in [0, n_samples); this process's piece of the batch where several train.
        rng: the epoch's generator (of this process); drawn from in the order of the batches.
        phase: with the weights of the losses.
        epoch: counted from 1 over all phases.
    """

    samples: np.ndarray
    rng: np.random.Generator
    phase: Phase
    epoch: int


@dataclass(frozen=True)
class Fitted:
    """Outcome of `fit`: the epoch that was kept, its monitored value (NaN without one), epochs run."""

    best_epoch: int
    best_value: float
    epochs: int


Loss = Callable[[Batch], tuple[Tensor, Mapping[str, Tensor]]]
Validate = Callable[[], Mapping[str, float]]


def fit(
    model: nn.Module,
    groups: Mapping[str, nn.Module],
    n_samples: int,
    loss: Loss,
    validate: Validate,
    plan: Plan,
    seed: int,
    device: torch.device,
    observe: Observer,
    name: str = "fit",
) -> Fitted:
    """Train `model` in place by `plan` and leave it with the kept weights, in eval mode.

    Args:
        model: on `device` already.
        groups: the parts of the model that have a learning rate of their own; every parameter lies in one.
        n_samples: size of the training set; batches are drawn without replacement within an epoch.
        loss, validate: see the module's docstring.
        seed: decides order, augmentation and dropout; initial weights are the caller's.
        observe: told `train_loss`, `train_<part>` and the validation metrics of each epoch. Under a DVC key,
            its scratch folder keeps the checkpoint `<name>.pt`; without one nothing could say whether the
            data are still the same, so that every run starts anew.
        name: tells apart several fits of one stage.
    Raises:
        StageError: no samples, a plan that does not fit the model or the number of processes, a loss that is
            not finite, or another process that is gone.
    """
    team = teams.current()
    _check(model, groups, n_samples, plan, team)
    loop = _Loop(model, groups, n_samples, loss, validate, plan, seed, device, observe, team)
    store = checkpoint.Store(observe, name, _fingerprint(model, groups, n_samples, plan, seed, team))
    saved = store.load() if team.leads else None
    progress = team.from_leader(saved or Progress.start(model, plan.ema_decay > 0)).to(device)
    if team.leads:
        for epoch, metrics in progress.history:
            observe(epoch, **metrics)
    while progress.phase < len(plan.phases):
        loop.run_phase(progress, store)
    model.load_state_dict(progress.kept(plan.monitor))
    model.eval()
    return Fitted(
        progress.best_epoch if plan.monitor else progress.epoch, progress.best_value, progress.epoch
    )


@dataclass
class _Loop:
    """The constant things of a fit; everything that changes is in the model, the optimiser and `Progress`."""

    model: nn.Module
    groups: Mapping[str, nn.Module]
    n_samples: int
    loss: Loss
    validate: Validate
    plan: Plan
    seed: int
    device: torch.device
    observe: Observer
    team: Team

    def run_phase(self, progress: Progress, store: checkpoint.Store) -> None:
        """Run the epochs of phase number `progress.phase` that are left, then move on to the next one."""
        phase = self.plan.phases[progress.phase]
        optimiser = self._optimiser(phase)
        self.model.load_state_dict(progress.weights)
        if progress.optimiser is not None:
            optimiser.load_state_dict(progress.optimiser)
        while progress.epoch_in_phase < phase.epochs and not self._patience_is_over(progress):
            self._run_epoch(phase, optimiser, progress)
            done = progress.epoch_in_phase == phase.epochs
            if done or progress.epoch % self.plan.checkpoint_every == 0:
                progress.weights = checkpoint.copy_weights(self.model)
                progress.optimiser = optimiser.state_dict()
                self._save(progress, store)
        progress.next_phase(self.plan.monitor, self.model)
        self._save(progress, store)

    def _save(self, progress: Progress, store: checkpoint.Store) -> None:
        if self.team.leads:
            store.save(progress)

    def _patience_is_over(self, progress: Progress) -> bool:
        return 0 < self.plan.patience <= progress.stale_epochs

    def _optimiser(self, phase: Phase) -> torch.optim.AdamW:
        """AdamW over the groups that learn in this phase; parameters of the others get no gradient."""
        learning = []
        for name, module in self.groups.items():
            module.requires_grad_(phase.rates[name] > 0)
            if phase.rates[name] > 0:
                learning.append({"params": list(module.parameters()), "lr": phase.rates[name], "name": name})
        return torch.optim.AdamW(learning, weight_decay=self.plan.weight_decay)

    def _run_epoch(self, phase: Phase, optimiser: torch.optim.AdamW, progress: Progress) -> None:
        epoch = progress.epoch + 1
        runtime.seed_everything(self.seed, epoch, *self.team.stream)
        rng = runtime.generator(self.seed, epoch)
        batches = list(_batches(rng, self.n_samples, self.plan.batch_size))
        if self.team.stream:  # the order is the same in all processes, augmentation is each one's own
            rng = runtime.generator(self.seed, epoch, *self.team.stream)
        self.model.train()
        for name, module in self.groups.items():
            module.train(phase.rates[name] > 0)
        sums: dict[str, Tensor] = {}
        for step, samples in enumerate(batches):
            share = (progress.epoch_in_phase + (step + 0.5) / len(batches)) / phase.epochs
            factor = rate_factor(self.plan.schedule, share, self.plan.warmup)
            for group in optimiser.param_groups:
                group["lr"] = factor * phase.rates[group["name"]]
            own = self.team.own_piece(samples)
            weight = len(own) / len(samples)
            parts = self._step(Batch(own, rng, phase, epoch), weight, optimiser, step)
            progress.steps += 1
            if progress.average is not None:
                _follow(progress.average, self.model, _decay(self.plan.ema_decay, progress.steps))
            for name, value in parts.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + weight * value
            if self.team.leads:
                self.observe.progress(step + 1, len(batches), f"steps of epoch {epoch}")
        self.team.average_buffers(self.model, progress.average)
        sums = self.team.sum(sums)
        metrics = {f"train_{name}": float(total) / len(batches) for name, total in sums.items()}
        metrics |= self.team.from_leader(self._validated(progress) if self.team.leads else {})
        if self.team.leads:
            self.observe(epoch, **metrics)
        progress.record(epoch, metrics, self.plan.monitor, self.model)

    def _step(
        self, batch: Batch, weight: float, optimiser: torch.optim.AdamW, step: int
    ) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bfloat16"):
            total, parts = self.loss(batch)
        if not torch.isfinite(total):
            values = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in parts.items())
            raise StageError(
                f"the loss is {float(total.detach())} in epoch {batch.epoch} (phase '{batch.phase.name}'), "
                f"step {step + 1}: {values}; samples {batch.samples.tolist()}. "
                f"Lower the learning rates {batch.phase.rates} or set clip_norm; "
                "if it is the first step, look for labels that are not finite"
            )
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        learning = [p for group in optimiser.param_groups for p in group["params"]]
        self.team.average_gradients(learning, weight)
        if self.plan.clip_norm:
            nn.utils.clip_grad_norm_(learning, self.plan.clip_norm)
        optimiser.step()
        return {"loss": total.detach(), **{name: value.detach() for name, value in parts.items()}}

    def _validated(self, progress: Progress) -> dict[str, float]:
        """Metrics of the weights that would be kept; leaves the model as it was, in eval mode."""
        plain = checkpoint.copy_weights(self.model) if progress.average is not None else None
        if progress.average is not None:
            self.model.load_state_dict(progress.average)
        self.model.eval()
        with torch.inference_mode():
            metrics = {name: float(value) for name, value in self.validate().items()}
        if plain is not None:
            self.model.load_state_dict(plain)
        if self.plan.monitor and self.plan.monitor not in metrics:
            raise StageError(
                f"fit.monitor is '{self.plan.monitor}', but validation gives {', '.join(metrics)}"
            )
        return metrics


def _batches(rng: np.random.Generator, n_samples: int, batch_size: int) -> Iterator[np.ndarray]:
    """A random order of all samples cut into whole batches; one smaller batch where there are too few."""
    order = rng.permutation(n_samples)
    for step in range(max(1, n_samples // batch_size)):
        yield order[step * batch_size : (step + 1) * batch_size]


def _decay(highest: float, steps: int) -> float:
    """Of the running average after `steps` steps: at first short, so that it soon forgets the initial weights."""
    return min(highest, (1 + steps) / (10 + steps))


def _follow(average: Weights, model: nn.Module, decay: float) -> None:
    """Move a running average of weights and statistics one step; counters are copied."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1.0 - decay)
            else:
                average[name].copy_(value)


def _check(model: nn.Module, groups: Mapping[str, nn.Module], n_samples: int, plan: Plan, team: Team) -> None:
    if n_samples < 1:
        raise StageError("there are no training samples: look at the split and at what the audit leaves out")
    if (smallest := min(n_samples, plan.batch_size)) < team.size:
        raise StageError(
            f"world_size is {team.size}, but a batch has {smallest} samples: each process needs one at least. "
            "Raise batch_size or lower world_size"
        )
    for phase in plan.phases:
        if phase.rates.keys() != groups.keys():
            raise StageError(
                f"phase '{phase.name}': rates are given for {', '.join(sorted(phase.rates))}, but the "
                f"network's parameter groups are {', '.join(sorted(groups))}"
            )
    grouped = [id(p) for module in groups.values() for p in module.parameters()]
    if sorted(grouped) != sorted(id(p) for p in model.parameters()):
        raise ValueError("every parameter of the model must lie in exactly one of the groups")


def _fingerprint(
    model: nn.Module, groups: Mapping[str, nn.Module], n_samples: int, plan: Plan, seed: int, team: Team
) -> str:
    """What must be equal for a checkpoint to be of use, apart from the data and code behind the DVC key."""
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    facts = [plan.model_dump(mode="json"), seed, n_samples, list(groups), shapes, team.size]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
