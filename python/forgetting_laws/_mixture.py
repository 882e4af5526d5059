"""Pretraining data injection: the order of sequences."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from . import _html, _native
from ._checks import rank_of, share, whole
from ._native import ForgettingLawsError


class Mixture:
    """Which sequence is at each position of a finetuning run with injected pretraining data.

    Every choice is a pure function of the seed and the position, ``step * batch + i``. So a resumed run and
    any number of ranks read the same sequences in the same order, which is that of this project's own
    engine for the same seed.

    Parameters
    ----------
    p : float
        The fraction of pretraining data, from 0 to 1.
    steps : int
        Optimiser steps of the run.
    batch : int
        Sequences in a step, over all ranks and micro-batches.
    target_sequences : int
        Sequences of the target data.
    pretraining_sequences : int
        Sequences of pretraining data reserved for injection. There must be enough for the run, unless
        ``replay`` is given.
    sampler : {"exact", "independent"}
        Evenly spread, so that the count in the first n positions is within one of p·n, or each position
        independently, as in the paper as far as is known.
    replay : int, optional
        Repeat this many pretraining sequences, the first ones, instead of drawing new ones.
    seed : int
    sequence_tokens : int
        Tokens in a sequence, for :meth:`tokens` and messages.

    Examples
    --------
    >>> mixture = Mixture(p=0.01, steps=1000, batch=8, target_sequences=50, pretraining_sequences=100)
    >>> mixture.counts()
    (7920, 80)
    >>> mixture.batch(0).shape
    (8,)
    """

    def __init__(
        self,
        p: float,
        *,
        steps: int,
        batch: int,
        target_sequences: int,
        pretraining_sequences: int,
        sampler: str = "exact",
        replay: Optional[int] = None,
        seed: int = 0,
        sequence_tokens: int = 1,
    ) -> None:
        whole(
            steps=steps,
            batch=batch,
            target_sequences=target_sequences,
            pretraining_sequences=pretraining_sequences,
            replay=0 if replay is None else replay,
            seed=seed,
            sequence_tokens=sequence_tokens,
        )
        share(p=p)
        self._settings: Dict[str, Any] = {
            "p": p,
            "steps": steps,
            "batch": batch,
            "target_sequences": target_sequences,
            "pretraining_sequences": pretraining_sequences,
            "sampler": sampler,
            "replay": replay,
            "seed": seed,
            "sequence_tokens": sequence_tokens,
        }
        self._native = _native.Mixture(
            p,
            sampler,
            seed,
            steps,
            batch,
            target_sequences,
            pretraining_sequences,
            replay,
            sequence_tokens,
        )
        self.p = p
        self.steps = steps
        self.batch_size = batch
        self.target_sequences = target_sequences
        self.pretraining_sequences = pretraining_sequences
        self.sequence_tokens = sequence_tokens

    def __getstate__(self) -> Dict[str, Any]:
        return self._settings

    def __setstate__(self, settings: Dict[str, Any]) -> None:
        self.__init__(**settings)  # type: ignore[misc]

    def indices(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The sequences at positions start to stop, up to the end of the run.

        Parameters
        ----------
        start, stop : int
            Positions; step s has ``s * batch`` to ``(s + 1) * batch``.

        Returns
        -------
        ndarray of int64, shape (stop - start,)
            i for the i-th target sequence, and ``target_sequences + j`` for the j-th pretraining sequence:
            indices into ``ConcatDataset([target, pretraining])``. Shorter at the end of the run.
        """
        whole(start=start, stop=stop)
        return np.frombuffer(self._native.indices(start, stop), dtype=np.int64)

    def batch(self, step: int, *, rank: int = 0, ranks: int = 1) -> npt.NDArray[np.int64]:
        """The sequences of a step for one of ``ranks`` ranks.

        Parameters
        ----------
        step : int
            Optimiser step, counted from 0.
        rank, ranks : int
            Which part of the batch, and the number of parts.

        Returns
        -------
        ndarray of int64, shape (batch / ranks,)
            As :meth:`indices`; empty after the last step.
        """
        rank_of(rank, ranks)
        whole(step=step)
        if step >= self.steps:
            return self.indices(0, 0)
        first, end = _native.share(self.batch_size, rank, ranks)
        start = step * self.batch_size
        return self.indices(start + first, start + end)

    def counts(self, steps: Optional[int] = None) -> Tuple[int, int]:
        """Sequences of the target and of the pretraining data in the first steps, or in all."""
        steps = self.steps if steps is None else steps
        whole(steps=steps)
        return self._native.counts(steps)

    def tokens(self, steps: Optional[int] = None) -> Tuple[int, int]:
        """The same in tokens, with ``sequence_tokens`` per sequence."""
        target, pretraining = self.counts(steps)
        return target * self.sequence_tokens, pretraining * self.sequence_tokens

    def fraction(self, steps: Optional[int] = None) -> float:
        """The actual p in the first steps, or in all; NaN if nothing is drawn."""
        target, pretraining = self.counts(steps)
        total = target + pretraining
        return pretraining / total if total else float("nan")

    def target_epoch(self, step: int) -> int:
        """The pass over the target data, counted from 0, in which a step starts."""
        whole(step=step)
        return self._native.target_epoch(step)

    def __repr__(self) -> str:
        target, pretraining = self.counts()
        return (
            f"Mixture: p = {self.p}, achieved {self.fraction():.6g}; {target} sequences of the target "
            f"and {pretraining} of pretraining data in {self.steps} steps of {self.batch_size}"
        )


    def _repr_html_(self) -> str:
        counts, tokens = self.counts(), self.tokens()
        names = ("target", "pretraining data")
        rows = [
            (name, f"{count}", f"{count / max(sum(counts), 1):.4%}", f"{token}")
            for name, count, token in zip(names, counts, tokens)
        ]
        return (
            _html.paragraph(f"Mixture: p = {self.p}, achieved {self.fraction():.6g}", strong=True)
            + _html.table(["", "sequences", "share", "tokens"], rows)
            + _html.paragraph(f"{self.steps} steps of {self.batch_size} sequences")
        )


class InjectionSampler:
    """A ``batch_sampler`` for ``torch.utils.data.DataLoader`` over ``ConcatDataset([target, pretraining])``.

    Each item is the list of indices of a step. The order is that of :class:`Mixture` for any number of
    workers, and the parts of all ranks together are the batch of one process. There are no epochs and no
    ``set_epoch``, since a run is iterated once.

    Parameters
    ----------
    mixture : Mixture
    rank, ranks : int
        Which part of each batch this process gets.
    start : int
        The first step: for a resumed run, the number of steps already done.

    Examples
    --------
    >>> mixture = Mixture(p=0.1, steps=4, batch=2, target_sequences=5, pretraining_sequences=5)
    >>> whole = list(InjectionSampler(mixture))
    >>> list(InjectionSampler(mixture, start=3)) == whole[3:]
    True
    """

    def __init__(self, mixture: Mixture, *, rank: int = 0, ranks: int = 1, start: int = 0) -> None:
        rank_of(rank, ranks)
        whole(start=start)
        self.mixture = mixture
        self.rank = rank
        self.ranks = ranks
        self.start = start
        self._given = start

    def __iter__(self) -> Iterator[List[int]]:
        self._given = self.start
        for step in range(self.start, self.mixture.steps):
            batch = self.mixture.batch(step, rank=self.rank, ranks=self.ranks).tolist()
            self._given = step + 1
            yield batch

    def __len__(self) -> int:
        return max(self.mixture.steps - self.start, 0)

    def state_dict(self, steps_done: Optional[int] = None) -> Dict[str, int]:
        """The state to checkpoint.

        Parameters
        ----------
        steps_done : int, optional
            Optimiser steps that the training loop has done since step 0 of the run; by default the batches
            that were taken from the sampler. With workers, a plain ``DataLoader`` takes batches ahead, and
            only the loop knows its steps; ``StatefulDataLoader`` of ``torchdata`` takes this into account by
            itself.
        """
        if steps_done is None:
            return {"start": self._given}
        whole(steps_done=steps_done)
        return {"start": steps_done}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """Continues from a :meth:`state_dict`."""
        self.start = self._given = state["start"]

    def __repr__(self) -> str:
        part = f", rank {self.rank} of {self.ranks}" if self.ranks > 1 else ""
        return f"InjectionSampler: from step {self.start} of {self.mixture.steps}{part}; {self.mixture!r}"


class InjectedDataset:
    """The samples of a run in their order, as a map-style dataset: item i is the sequence at position i.

    For code that takes a dataset rather than a sampler, such as ``transformers.Trainer``. It must be read
    in order, without shuffling, as ``DataLoader(..., shuffle=False)`` and
    ``forgetting_laws.trainer.InjectionTrainer`` do.

    Parameters
    ----------
    target, pretraining : sequence
        Map-style datasets, such as those of ``datasets`` and PyTorch.
    mixture : Mixture

    Examples
    --------
    >>> mixture = Mixture(p=0.5, steps=2, batch=2, target_sequences=3, pretraining_sequences=3)
    >>> samples = InjectedDataset(["a", "b", "c"], ["x", "y", "z"], mixture)
    >>> len(samples), sorted(samples[i] in "xyz" for i in range(4))
    (4, [False, False, True, True])
    """

    def __init__(self, target: Sequence[Any], pretraining: Sequence[Any], mixture: Mixture) -> None:
        for name, data, count in (
            ("target_sequences", target, mixture.target_sequences),
            ("pretraining_sequences", pretraining, mixture.pretraining_sequences),
        ):
            # More pretraining data may be there than is reserved; more target data would never be seen.
            if len(data) < count or (name == "target_sequences" and len(data) != count):
                raise ForgettingLawsError(
                    f"{name} = {count}: the dataset has {len(data)}; give the Mixture that number"
                )
        self.target = target
        self.pretraining = pretraining
        self.mixture = mixture

    def __len__(self) -> int:
        return self.mixture.steps * self.mixture.batch_size

    def __getitem__(self, position: int) -> Any:
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of {len(self)}")
        index = int(self.mixture.indices(position, position + 1)[0])
        targets = self.mixture.target_sequences
        return self.target[index] if index < targets else self.pretraining[index - targets]

    def __repr__(self) -> str:
        return f"InjectedDataset: {len(self)} sequences; {self.mixture!r}"
