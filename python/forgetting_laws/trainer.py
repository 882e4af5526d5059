"""Injection and the U-curve in ``transformers.Trainer``, which must be installed.

::

    from forgetting_laws.trainer import ForgettingCallback, InjectionTrainer

    # args = TrainingArguments(max_steps=..., ...): the run has the steps of the mixture.
    mixture = fl.Mixture(p=0.01, steps=args.max_steps, batch=32, target_sequences=len(target),
                         pretraining_sequences=len(pretraining))
    trainer = InjectionTrainer(
        model, args, train_dataset=fl.InjectedDataset(target, pretraining, mixture),
        callbacks=[ForgettingCallback(target_validation, pretraining_validation, rows="runs.csv",
                                      n_params=n, d_ft_tokens=d, p=mixture.p, stop=True)],
    )
    trainer.train()
"""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUntypedBaseClass=false, reportUnknownArgumentType=false
from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import Any, Callable, Dict, Generator, List, Mapping, Optional, Sequence, Union

import torch
import transformers
from torch.utils.data import DataLoader, SequentialSampler

from ._curve import Path, UCurve, add_row, evaluation_steps
from ._loss import token_loss
from ._mixture import InjectedDataset
from ._native import ForgettingLawsError

LOG = "forgetting.jsonl"
"""The callback's log in the Trainer's ``output_dir``: L_pt0, then one line per evaluation."""


class InjectionMixin:
    """Makes a Trainer read an :class:`InjectedDataset` in its order. Put it before the Trainer's class:
    ``class MyTrainer(InjectionMixin, trl.SFTTrainer)``.

    ``TrainingArguments`` must have ``max_steps=mixture.steps``, or fewer: by default a Trainer makes three
    epochs, and would read the run's sequences three times, which is refused.

    Each optimiser step has the same sequences for any number of processes, workers and micro-batches, as
    long as they add up to the batch of the mixture. A run that is resumed from a checkpoint continues at
    the same sequence.
    """

    train_dataset: Any
    args: Any

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        dataset = self.train_dataset
        if not isinstance(dataset, InjectedDataset):
            raise ForgettingLawsError(
                f"train_dataset = a {type(dataset).__name__}: must be an InjectedDataset, whose order is "
                "that of the run"
            )
        arguments = self.args
        batch = (
            arguments.per_device_train_batch_size
            * max(1, arguments.n_gpu)
            * arguments.world_size
            * arguments.gradient_accumulation_steps
        )
        if batch != dataset.mixture.batch_size:
            raise ForgettingLawsError(
                f"batch = {dataset.mixture.batch_size}: the Trainer takes {batch} sequences a step over "
                "all devices and micro-batches; give the Mixture the same"
            )
        steps = dataset.mixture.steps
        if arguments.max_steps > 0:
            if arguments.max_steps > steps:
                raise ForgettingLawsError(
                    f"max_steps = {arguments.max_steps}: the Mixture has {steps} steps, and its sequences "
                    f"would be read again; give max_steps={steps}, or make the Mixture for more steps"
                )
        elif arguments.num_train_epochs > 1:
            raise ForgettingLawsError(
                f"num_train_epochs = {arguments.num_train_epochs:g}: the Mixture's {steps} steps are the whole "
                f"run, and its sequences would be read again; give max_steps={steps}"
            )
        if getattr(arguments, "ignore_data_skip", False):
            raise ForgettingLawsError(
                "ignore_data_skip = True: a resumed run would begin with the first sequence again; leave it "
                "False"
            )
        return SequentialSampler(dataset)


class InjectionTrainer(InjectionMixin, transformers.Trainer):
    """``transformers.Trainer`` with :class:`InjectionMixin`."""


@contextmanager
def _without_adapter(model: Any) -> Generator[None, None, None]:
    """The pretrained model, without the adapters of PEFT or those that ``transformers`` holds itself."""
    if hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            yield
    elif getattr(model, "_hf_peft_config_loaded", False):
        trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        model.disable_adapters()
        try:
            yield
        finally:
            model.enable_adapters()
            for parameter, requires_grad in trained:
                parameter.requires_grad_(requires_grad)
    else:
        yield


class ForgettingCallback(transformers.TrainerCallback):
    """Evaluates both validation sets, finds the bottom of the U-curve, and writes the run as a row.

    L_pt0 is the loss of the trained model before the first step. With an adapter, of PEFT or loaded by
    ``transformers`` itself, it is measured without it, since a new adapter may change the model. A resumed run reads L_pt0 and its evaluations
    from ``forgetting.jsonl`` in the Trainer's ``output_dir``.

    Every process evaluates both sets in full, and the first one writes.

    Parameters
    ----------
    target, pretraining : DataLoader or dataset
        The validation sets: batches as for :func:`token_loss`, or datasets of items for ``collate``.
    n_params, d_ft_tokens, p : float
        N in parameters, D_ft in tokens and the injected fraction, for the row.
    rows : path, optional
        The CSV file to which the run is written at the end of training; :func:`fit` reads it.
    stop : bool or mapping
        Whether to stop once the U-curve has turned; a mapping sets ``rise``, ``factor`` and ``min_steps``
        of :class:`UCurve`.
    steps : sequence of int, optional
        After which optimiser steps to evaluate; by default :func:`evaluation_steps` of the run.
    run : str, optional
        The name of the run in the table; by default the Trainer's ``output_dir``.
    columns : mapping, optional
        Further cells of the row, such as ``seed``, ``domain`` and ``parent_id``.
    batch_size : int
        Batch size for datasets.
    collate : callable, optional
        Collate function for datasets; by default that of ``transformers``, for items of one length.
    """

    def __init__(
        self,
        target: Any,
        pretraining: Any,
        *,
        n_params: float,
        d_ft_tokens: float,
        p: float,
        rows: Optional[Path] = None,
        stop: Union[bool, Mapping[str, Any]] = False,
        steps: Optional[Sequence[int]] = None,
        run: Optional[str] = None,
        columns: Optional[Mapping[str, Any]] = None,
        batch_size: int = 8,
        collate: Optional[Callable[[List[Any]], Any]] = None,
    ) -> None:
        def batches(data: Any) -> Any:
            if isinstance(data, DataLoader) or not hasattr(data, "__getitem__"):
                return data
            collate_fn = collate or transformers.default_data_collator
            return DataLoader(data, batch_size=batch_size, collate_fn=collate_fn)

        self._target, self._pretraining = batches(target), batches(pretraining)
        self._settings = {"n_params": n_params, "d_ft_tokens": d_ft_tokens, "p": p}
        self._rows, self._run, self._columns = rows, run, dict(columns or {})
        self._stops = bool(stop) or isinstance(stop, Mapping)
        self._rule: Dict[str, Any] = dict(stop) if isinstance(stop, Mapping) else {}
        self._asked = None if steps is None else set(steps)
        self._due: "set[int]" = set()
        self._curve: Optional[UCurve] = None
        # Before the training, so that a rule that is none is refused.
        UCurve(0.0, **self._rule)

    @property
    def curve(self) -> UCurve:
        """The evaluations so far; ``curve.losses`` is for ``Study.tell``."""
        if self._curve is None:
            raise ForgettingLawsError("evaluations are missing: the training has not begun")
        return self._curve

    def __repr__(self) -> str:
        where = "" if self._rows is None else f", rows in {os.fspath(self._rows)}"
        seen = "the training has not begun" if self._curve is None else repr(self._curve)
        return f"ForgettingCallback: p = {self._settings['p']}{where}; {seen}"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = kwargs["model"]
        self._due = self._asked or set(evaluation_steps(state.max_steps))
        path = os.path.join(args.output_dir, LOG)
        if state.global_step > 0:
            self._curve = self._resumed(path, state)
            return
        with _without_adapter(model):
            loss_pt0 = token_loss(model, self._pretraining)
        self._curve = UCurve(loss_pt0, **self._rule)
        if state.is_world_process_zero:
            os.makedirs(args.output_dir, exist_ok=True)
            with open(path, "w", encoding="utf-8") as log:
                log.write(json.dumps({"loss_pt0": loss_pt0}) + "\n")
        self._evaluate(model, args, state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in self._due:
            self._evaluate(kwargs["model"], args, state)
            if self._stops and self.curve.turned:
                control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._rows is not None and state.is_world_process_zero:
            name = {"run": self._run or str(args.output_dir)}
            add_row(self._rows, self.curve.row(**name, **self._columns, **self._settings))

    def _evaluate(self, model: Any, args: Any, state: Any) -> None:
        step = int(state.global_step)
        loss_ft = token_loss(model, self._target)
        loss_pt = token_loss(model, self._pretraining)
        self.curve.add(step, loss_ft, loss_pt)
        if state.is_world_process_zero:
            evaluation = {"step": step, "loss_ft": loss_ft, "loss_pt": loss_pt}
            with open(os.path.join(args.output_dir, LOG), "a", encoding="utf-8") as log:
                log.write(json.dumps(evaluation) + "\n")

    def _resumed(self, path: str, state: Any) -> UCurve:
        step = int(state.global_step)
        try:
            with open(path, encoding="utf-8") as log:
                # A process that was killed may have left half a line.
                lines = [json.loads(line) for line in log if line.endswith("\n")]
            curve = UCurve(lines[0]["loss_pt0"], **self._rule)
            for line in lines[1:]:
                # What came after the checkpoint is trained and evaluated once more.
                if line["step"] <= step:
                    curve.add(line["step"], line["loss_ft"], line["loss_pt"])
        except (OSError, ValueError, LookupError) as error:
            raise ForgettingLawsError(
                f"{path} has not the evaluations of the run up to step {step} ({error}): L_pt0 is that of "
                "the model before finetuning; start the run anew"
            ) from None
        # Every process has read it before the first one writes.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            with open(path, "w", encoding="utf-8") as log:
                log.write(json.dumps({"loss_pt0": curve.loss_pt0}) + "\n")
                log.writelines(json.dumps(at._asdict()) + "\n" for at in curve.evaluations)
        return curve
