import json
import pathlib
import pickle
import time

import forgetting_laws as fl
import numpy as np
import pytest
from forgetting_laws import InjectionSampler, Mixture

ROOT = pathlib.Path(__file__).parents[2]
SPEC = {"steps": 1000, "batch": 8, "target_sequences": 50, "pretraining_sequences": 1000}


@pytest.mark.parametrize("sampler", ["exact", "independent"])
def test_the_order_is_a_function_of_the_position(sampler):
    mixture = Mixture(0.05, sampler=sampler, seed=3, **SPEC)
    whole = mixture.indices(0, 8000)
    assert whole.dtype == np.int64 and len(whole) == 8000
    assert (mixture.indices(1234, 4321) == whole[1234:4321]).all()
    assert (mixture.batch(7) == whole[56:64]).all()
    assert len(mixture.indices(7990, 9000)) == 10
    target, pretraining = mixture.counts()
    assert ((whole < 50).sum(), (whole >= 50).sum()) == (target, pretraining)
    assert mixture.fraction() == pretraining / 8000
    # Fresh: no pretraining sequence twice. The target: each once a pass.
    assert len(np.unique(whole[whole >= 50])) == pretraining
    first = whole[whole < 50][:50]
    assert sorted(first) == list(range(50)) and mixture.target_epoch(0) == 0


def test_the_order_is_that_of_the_engines():
    """golden/injection/make.py computes it without this library; the engines are tested with it too."""
    cases = json.loads((ROOT / "golden/injection/injection.json").read_text())["finetunings"]
    assert len(cases) >= 3
    for case in cases:
        spec = case["spec"]
        target = spec["target_sequences"]
        mixture = Mixture(
            spec["p"],
            steps=spec["steps"],
            batch=spec["global_batch"],
            target_sequences=target,
            pretraining_sequences=spec["reserved_sequences"],
            sampler=spec["sampler"],
            replay=spec["replay_sequences"],
            seed=case["seed"],
        )
        order = [target * (source == "pretrain") + index for source, index in case["draws"]]
        assert mixture.indices(0, len(order)).tolist() == order, spec
        assert list(InjectionSampler(mixture)) == mixture.indices(0, len(order)).reshape(
            spec["steps"], spec["global_batch"]
        ).tolist()


def test_the_exact_sampler_is_within_one_everywhere():
    mixture = Mixture(0.001, **SPEC)
    injected = np.cumsum(mixture.indices(0, 8000) >= 50)
    assert (abs(injected - 0.001 * np.arange(1, 8001)) <= 1).all()
    assert mixture.counts() == (7992, 8)


def test_ranks_put_together_are_one_process_and_a_resumed_run_goes_on():
    mixture = Mixture(0.05, **SPEC)
    whole = list(InjectionSampler(mixture))
    assert len(InjectionSampler(mixture)) == len(whole) == 1000
    parts = [list(InjectionSampler(mixture, rank=rank, ranks=3)) for rank in range(3)]
    assert [sum(step, []) for step in zip(*parts)] == whole
    resumed = InjectionSampler(mixture)
    resumed.load_state_dict(InjectionSampler(mixture).state_dict(123))
    assert list(resumed) == whole[123:] and len(resumed) == 877


def test_the_state_of_a_sampler_is_what_was_taken_from_it():
    mixture = Mixture(0.05, **SPEC)
    whole = list(InjectionSampler(mixture))
    sampler = InjectionSampler(mixture)
    assert sampler.state_dict() == {"start": 0}
    taken = iter(sampler)
    begun = [next(taken) for _ in range(123)]
    assert sampler.state_dict() == {"start": 123}
    resumed = InjectionSampler(mixture)
    resumed.load_state_dict(sampler.state_dict())
    assert resumed.state_dict() == {"start": 123}
    # And once more, from within the resumed run.
    taken = iter(resumed)
    begun += [next(taken) for _ in range(10)]
    again = InjectionSampler(mixture)
    again.load_state_dict(resumed.state_dict())
    assert begun + list(again) == whole
    assert again.state_dict() == {"start": 1000}
    with pytest.raises(fl.ForgettingLawsError, match="steps_done = -1"):
        sampler.state_dict(-1)


def test_what_a_mixture_and_its_readers_are_is_shown():
    mixture = Mixture(0.05, sequence_tokens=64, **SPEC)
    assert repr(InjectionSampler(mixture, start=3)).startswith("InjectionSampler: from step 3 of 1000; Mix")
    assert "rank 1 of 2" in repr(InjectionSampler(mixture, rank=1, ranks=2))
    samples = fl.InjectedDataset(range(50), range(1000), mixture)
    assert repr(samples).startswith("InjectedDataset: 8000 sequences; Mixture: p = 0.05")
    html = mixture._repr_html_()
    assert html.count("<tr>") == 3 and "7600" in html and "25600" in html


def test_a_mixture_goes_to_other_processes_and_counts_tokens():
    mixture = Mixture(0.05, sampler="independent", seed=7, sequence_tokens=64, **SPEC)
    again = pickle.loads(pickle.dumps(InjectionSampler(mixture, start=5)))
    assert list(again) == list(InjectionSampler(mixture, start=5))
    target, pretraining = mixture.counts()
    assert mixture.tokens() == (64 * target, 64 * pretraining) and target + pretraining == 8000
    with pytest.raises(fl.ForgettingLawsError, match="rank = 3: must be below ranks, 3"):
        InjectionSampler(mixture, rank=3, ranks=3)


def test_a_replay_pool_is_gone_through_again():
    mixture = Mixture(0.5, replay=10, **SPEC)
    drawn = mixture.indices(0, 8000)
    assert set(drawn[drawn >= 50]) == set(range(50, 60))


def test_what_does_not_suffice_is_refused():
    for change in (
        {"pretraining_sequences": 1},
        {"batch": 0},
        {"target_sequences": 0},
        {"sampler": "even"},
        {"steps": 2**62},
    ):
        with pytest.raises(fl.ForgettingLawsError):
            Mixture(0.05, **{**SPEC, **change})
    with pytest.raises(fl.ForgettingLawsError):
        Mixture(1.5, **SPEC)
    for steps in (-1, 1.5, 2**64):
        with pytest.raises(fl.ForgettingLawsError, match=f"steps = {steps}: must be a whole number"):
            Mixture(0.05, **{**SPEC, "steps": steps})
    for change, said in (
        ({"batch": 0}, "batch = 0: "),
        ({"target_sequences": 0}, "target_sequences = 0: "),
        ({"pretraining_sequences": 1}, "pretraining_sequences = 1: the run injects 400 sequences"),
        ({"replay": 0}, "replay = 0: "),
        ({"replay": 1001}, "replay = 1001: must be at most pretraining_sequences, 1000"),
    ):
        with pytest.raises(fl.ForgettingLawsError, match="^" + said):
            Mixture(0.05, **{**SPEC, **change})
    endless = Mixture(0.0, **{**SPEC, "steps": 2**50})
    with pytest.raises(fl.ForgettingLawsError, match="must be at most 268435456 after start, 5"):
        endless.indices(5, 2**53)
    mixture = Mixture(0.05, **SPEC)
    for call in (
        lambda: mixture.batch(-1),
        lambda: mixture.batch(0, ranks=0),
        lambda: mixture.indices(-1, 3),
        lambda: mixture.counts(-1),
        lambda: mixture.target_epoch(2**64),
    ):
        with pytest.raises(fl.ForgettingLawsError):
            call()
    assert len(mixture.batch(2**62)) == len(mixture.batch(1000)) == 0


def test_a_million_indices_take_less_than_a_second_of_a_core():
    spec = {**SPEC, "steps": 200_000, "pretraining_sequences": 100_000}
    mixture = Mixture(0.05, **spec)
    begun = time.process_time()
    mixture.indices(0, 1_000_000)
    assert time.process_time() - begun < 1


def test_a_data_loader_of_torch_gives_the_order():
    torch = pytest.importorskip("torch")
    data = torch.utils.data
    mixture = Mixture(0.2, steps=20, batch=4, target_sequences=10, pretraining_sequences=40)
    target = data.TensorDataset(torch.arange(10))
    pretraining = data.TensorDataset(torch.arange(10, 50))
    both = data.ConcatDataset([target, pretraining])
    for workers in (0, 2):
        sampler = InjectionSampler(mixture)
        loader = data.DataLoader(both, batch_sampler=sampler, num_workers=workers)
        order = [batch.tolist() for (batch,) in loader]
        assert order == list(InjectionSampler(mixture))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_of_torchdata_resumes_at_the_same_batch(workers):
    torch = pytest.importorskip("torch")
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    mixture = Mixture(0.2, steps=20, batch=4, target_sequences=10, pretraining_sequences=40)
    both = torch.utils.data.TensorDataset(torch.arange(50))

    def loader():
        sampler = InjectionSampler(mixture)
        return stateful.StatefulDataLoader(both, batch_sampler=sampler, num_workers=workers)

    whole = [batch.tolist() for (batch,) in loader()]
    assert whole == list(InjectionSampler(mixture))
    for stop in (1, 7):
        first, begun = loader(), []
        for (batch,) in first:
            begun.append(batch.tolist())
            if len(begun) == stop:
                state = first.state_dict()
                break
        resumed = loader()
        resumed.load_state_dict(state)
        assert begun + [batch.tolist() for (batch,) in resumed] == whole
