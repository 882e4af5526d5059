"""Training loops of PyTorch and ``transformers.Trainer``, where these are installed."""

import csv
import json
import math
import subprocess
import sys

import forgetting_laws as fl
import pytest

torch = pytest.importorskip("torch")
data = torch.utils.data
VOCAB, LENGTH = 13, 8


class Successor(torch.nn.Module):
    """Says with the same certainty everywhere that the next token is the present one plus one."""

    def __init__(self, certainty=5.0):
        super().__init__()
        self.certainty = torch.nn.Parameter(torch.tensor(certainty))
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, input_ids):
        one_hot = torch.nn.functional.one_hot((input_ids + 1) % VOCAB, VOCAB)
        return self.drop(torch.ones(())) * self.certainty * one_hot


def counting(first, length=LENGTH):
    return (torch.arange(length) + first) % VOCAB


def test_logits_are_compared_with_the_token_behind():
    """The first mistake of PEFT's forgetting metric (#2925, mended in #3419): logits were compared with
    the token at their own position."""
    batches = [torch.stack([counting(i) for i in range(3)])]
    loss = fl.token_loss(Successor(), batches)
    assert loss == pytest.approx(math.log(math.exp(5) + VOCAB - 1) - 5, rel=1e-6)
    unshifted = torch.nn.functional.cross_entropy(
        Successor().eval()(batches[0]).flatten(0, 1), batches[0].flatten()
    )
    assert unshifted > loss + 4


def test_each_token_counts_once_whatever_batch_it_is_in():
    texts = [counting(0), torch.zeros(LENGTH, dtype=torch.long), counting(4)]
    model = Successor()
    apart = fl.token_loss(model, [text[None] for text in texts])
    together = fl.token_loss(model, [torch.stack(texts)])
    uneven = fl.token_loss(model, [torch.stack(texts[:2]), texts[2][None]])
    assert apart == pytest.approx(together, rel=1e-6) and uneven == pytest.approx(together, rel=1e-6)
    # Padding and masked labels do not count.
    padded = torch.cat([torch.stack(texts), torch.full((3, 4), 7)], dim=1)
    mask = torch.cat([torch.ones(3, LENGTH), torch.zeros(3, 4)], dim=1)

    class Masked(Successor):
        def forward(self, input_ids, attention_mask=None):
            return super().forward(input_ids)

    labels = padded.masked_fill(mask == 0, -100)
    for batch in ({"attention_mask": mask}, {"labels": labels}):
        found = fl.token_loss(Masked(), [{"input_ids": padded, **batch}])
        assert found == pytest.approx(together, rel=1e-6)
    nothing = {"input_ids": padded, "labels": torch.full_like(padded, -100)}
    with pytest.raises(fl.ForgettingLawsError, match="no batch has a token that counts"):
        fl.token_loss(model, [nothing])


def test_an_evaluation_leaves_the_training_what_it_was():
    model = Successor()
    loader = data.DataLoader([counting(i) for i in range(4)], batch_size=2, shuffle=True)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    fl.token_loss(model, loader)
    assert (torch.rand(3) == expected).all() and model.training
    model.eval()
    fl.token_loss(model, loader)
    assert not model.training
    # A part that is kept in evaluation mode, as frozen layers are.
    model.train()
    model.drop.eval()
    fl.token_loss(model, loader)
    assert model.training and not model.drop.training


def both_and_mixture(**settings):
    target = [{"input_ids": torch.full((LENGTH,), 1), "id": i} for i in range(10)]
    pretraining = [{"input_ids": torch.full((LENGTH,), 2), "id": 10 + i} for i in range(60)]
    given = {"p": 0.25, "steps": 20, "batch": 4, "seed": 5, **settings}
    mixture = fl.Mixture(target_sequences=10, pretraining_sequences=60, **given)
    return target, pretraining, mixture


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loop_goes_on_at_the_same_sample(workers):
    target, pretraining, mixture = both_and_mixture()
    both = data.ConcatDataset([target, pretraining])

    def steps(start):
        sampler = fl.InjectionSampler(mixture, start=start)
        loader = data.DataLoader(both, batch_sampler=sampler, num_workers=workers)
        return [batch["id"].tolist() for batch in loader]

    whole = steps(0)
    assert whole == [mixture.batch(step).tolist() for step in range(20)]
    # The loader has fetched ahead when the loop is stopped; the loop's own count is what is kept.
    loader = data.DataLoader(both, batch_sampler=fl.InjectionSampler(mixture), num_workers=workers)
    done = []
    for batch in loader:
        done.append(batch["id"].tolist())
        if len(done) == 7:
            state = loader.batch_sampler.state_dict(len(done))
            break
    assert done + steps(state["start"]) == whole


def test_a_dataset_has_the_samples_in_their_order():
    target, pretraining, mixture = both_and_mixture()
    samples = fl.InjectedDataset(target, pretraining, mixture)
    assert len(samples) == 80
    loader = data.DataLoader(samples, batch_size=4, num_workers=2)
    assert [batch["id"].tolist() for batch in loader] == [
        mixture.batch(step).tolist() for step in range(20)
    ]
    with pytest.raises(IndexError):
        samples[80]
    with pytest.raises(fl.ForgettingLawsError, match="the dataset has 9"):
        fl.InjectedDataset(target[:9], pretraining, mixture)
    with pytest.raises(fl.ForgettingLawsError, match="pretraining_sequences = 60: the dataset has 59"):
        fl.InjectedDataset(target, pretraining[:59], mixture)


class Notes(data.Dataset):
    """Keeps the order in which its items are asked for."""

    def __init__(self, items):
        self.items, self.asked = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.items[i]


@pytest.fixture
def setting(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from forgetting_laws.trainer import ForgettingCallback, InjectionTrainer

    class Setting:
        def model(self, seed=0, positions=LENGTH):
            torch.manual_seed(seed)
            config = transformers.GPT2Config(
                vocab_size=VOCAB, n_positions=positions, n_embd=16, n_layer=1, n_head=2,
                bos_token_id=0, eos_token_id=0,
            )
            return transformers.GPT2LMHeadModel(config)

        def trainer(self, model, folder, *, max_steps=20, rate=1e-2, micro=1, callback=None, **options):
            mixture = fl.Mixture(
                p=0.25, steps=20, batch=4, seed=5, target_sequences=10, pretraining_sequences=60
            )
            noted = [Notes(items) for items in (self.target, self.pretraining)]
            arguments = transformers.TrainingArguments(
                output_dir=str(tmp_path / folder), max_steps=max_steps, learning_rate=rate,
                per_device_train_batch_size=4 // micro, gradient_accumulation_steps=micro,
                save_steps=10, report_to=[], use_cpu=True, disable_tqdm=True, **options,
            )
            samples = fl.InjectedDataset(*noted, mixture)
            callbacks = [] if callback is None else [callback]
            made = InjectionTrainer(model, arguments, train_dataset=samples, callbacks=callbacks)
            return made, mixture, noted

        def callback(self, **options):
            settings = {"n_params": 5e3, "d_ft_tokens": 80.0, "p": 0.25, **options}
            return ForgettingCallback(self.target_validation, self.pretraining_validation, **settings)

        @staticmethod
        def items(firsts, step):
            texts = [(first + step * torch.arange(LENGTH)) % VOCAB for first in firsts]
            return [{"input_ids": text, "labels": text} for text in texts]

    made = Setting()
    made.folder = tmp_path
    made.target, made.target_validation = made.items(range(10), 2), made.items(range(10, 13), 2)
    made.pretraining = made.items([i % VOCAB for i in range(60)], 1)
    made.pretraining_validation = made.items(range(VOCAB), 1)
    return made



@pytest.mark.parametrize("micro", [1, 2])
def test_a_trainer_takes_the_order_of_the_engine(setting, micro):
    trainer, mixture, noted = setting.trainer(setting.model(), "order", micro=micro)
    trainer.train()
    order = mixture.indices(0, 80)
    assert noted[0].asked == order[order < 10].tolist()
    assert noted[1].asked == (order[order >= 10] - 10).tolist()


def test_a_trainer_that_takes_another_batch_is_refused(setting):
    trainer, _, _ = setting.trainer(setting.model(), "order", micro=1)
    trainer.args.gradient_accumulation_steps = 2
    with pytest.raises(fl.ForgettingLawsError, match="the Trainer takes 8 sequences a step"):
        trainer.train()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_steps": 21}, "max_steps = 21: the Mixture has 20 steps, .* give max_steps=20"),
        ({"max_steps": -1}, "num_train_epochs = 3: the Mixture's 20 steps are the whole run"),
        ({"ignore_data_skip": True}, "ignore_data_skip = True: a resumed run would begin"),
    ],
)
def test_a_trainer_that_would_read_sequences_again_is_refused(setting, options, said):
    trainer, _, noted = setting.trainer(setting.model(), "again", **options)
    with pytest.raises(fl.ForgettingLawsError, match=said):
        trainer.train()
    assert noted[0].asked == []


def test_a_trainer_may_make_one_epoch_of_the_mixture(setting):
    trainer, mixture, noted = setting.trainer(setting.model(), "epoch", max_steps=-1, num_train_epochs=1)
    trainer.train()
    assert trainer.state.global_step == 20 and sum(len(notes.asked) for notes in noted) == 80


def test_a_resumed_trainer_goes_on_at_the_same_sample(setting):
    whole = setting.model()
    callback = setting.callback(rows=setting.folder / "whole.csv")
    trainer, mixture, _ = setting.trainer(whole, "whole", callback=callback)
    trainer.train()
    # Killed after step 13, ten steps being in the checkpoint.
    stopping = setting.callback()

    def stop(args, state, control, **kwargs):
        if state.global_step == 13:
            raise KeyboardInterrupt

    on_step_end = stopping.on_step_end
    stopping.on_step_end = lambda *a, **k: (on_step_end(*a, **k), stop(*a, **k)) and None
    killed, _, _ = setting.trainer(setting.model(), "resumed", callback=stopping)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    again = setting.callback(rows=setting.folder / "resumed.csv", run="whole")
    model = setting.model(seed=9)
    resumed, _, noted = setting.trainer(model, "resumed", callback=again)
    resumed.train(resume_from_checkpoint=True)
    order = mixture.indices(40, 80)
    assert noted[0].asked == order[order < 10].tolist()
    # The model, its curve and its baseline are those of a run that nobody stopped.
    for ours, theirs in zip(model.parameters(), whole.parameters()):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    assert again.curve.loss_pt0 == callback.curve.loss_pt0
    assert [at.step for at in again.curve.evaluations] == [at.step for at in callback.curve.evaluations]
    assert again.curve.losses == pytest.approx(callback.curve.losses, rel=1e-5)
    # Without its evaluations the baseline cannot be known.
    (setting.folder / "resumed" / "forgetting.jsonl").unlink()
    lost, _, _ = setting.trainer(setting.model(), "resumed", callback=setting.callback())
    with pytest.raises(fl.ForgettingLawsError, match="L_pt0 is that of the model before finetuning"):
        lost.train(resume_from_checkpoint=True)


def test_the_baseline_is_that_of_the_model_before_training(setting):
    model = setting.model(seed=3)
    with torch.no_grad():
        model.lm_head.weight.mul_(3.0)  # no freshly made model has this loss
    loader = data.DataLoader(setting.pretraining_validation, batch_size=8)
    before = fl.token_loss(model, loader)
    # The model's own loss, which shifts by itself; all items have one length.
    with torch.no_grad():
        batch = torch.stack([item["input_ids"] for item in setting.pretraining_validation])
        assert before == pytest.approx(model.eval()(batch, labels=batch).loss.item(), rel=1e-5)
    callback = setting.callback()
    trainer, _, _ = setting.trainer(model, "baseline", callback=callback)
    trainer.train()
    assert callback.curve.loss_pt0 == before
    assert callback.curve.evaluations[0] == (0, callback.curve.evaluations[0].loss_ft, before)
    last = callback.curve.evaluations[-1]
    assert last.step == 20 and last.loss_pt == fl.token_loss(model, loader) != before


def test_the_baseline_is_without_a_fresh_adapter(setting):
    """The second mistake of PEFT's forgetting metric (#3419): the baseline was taken with an adapter in
    place that changes the model before any training."""
    peft = pytest.importorskip("peft")
    base = setting.model(seed=3, positions=2 * LENGTH)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.mul_(10)  # so that what stands in front matters
    loader = data.DataLoader(setting.pretraining_validation, batch_size=8)
    before = fl.token_loss(base, loader)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model = peft.get_peft_model(base, config)
    with_adapter = fl.token_loss(model, loader)
    assert abs(with_adapter - before) > 0.1
    callback = setting.callback()
    trainer, _, _ = setting.trainer(model, "adapter", callback=callback)
    trainer.train()
    assert callback.curve.loss_pt0 == pytest.approx(before, rel=1e-6)
    assert callback.curve.evaluations[0].loss_pt == pytest.approx(with_adapter, rel=1e-6)


def test_the_baseline_is_without_an_adapter_that_the_model_holds_itself(setting):
    """`model.add_adapter`, without a model of PEFT around it."""
    peft = pytest.importorskip("peft")
    model = setting.model(seed=3)
    loader = data.DataLoader(setting.pretraining_validation, batch_size=8)
    before = fl.token_loss(model, loader)
    config = peft.LoraConfig(target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True)
    try:
        model.add_adapter(config)
    except ValueError as error:  # transformers wants a later version of PEFT
        pytest.skip(str(error))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.mul_(30)
    with_adapter = fl.token_loss(model, loader)
    assert abs(with_adapter - before) > 0.01
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    callback = setting.callback()
    assert repr(callback) == "ForgettingCallback: p = 0.25; the training has not begun"
    trainer, _, _ = setting.trainer(model, "held", callback=callback, rate=1e-6)
    trainer.train()
    assert callback.curve.loss_pt0 == pytest.approx(before, rel=1e-6)
    assert callback.curve.evaluations[0].loss_pt == pytest.approx(with_adapter, rel=1e-6)
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
    assert "UCurve: L_pt0 = " in repr(callback)


def test_a_callback_changes_nothing_of_the_training(setting):
    models = [setting.model(), setting.model()]
    for model, callback in zip(models, (None, setting.callback())):
        trainer, _, _ = setting.trainer(model, f"free-{callback is None}", callback=callback, seed=1)
        trainer.train()
    for ours, theirs in zip(*(model.parameters() for model in models)):
        assert torch.equal(ours, theirs)


def test_a_run_stops_when_the_u_has_turned_and_is_a_row(setting):
    rows = setting.folder / "runs.csv"
    rule = {"rise": 0.01, "factor": 1.2, "min_steps": 3}
    # Validation texts of another kind, on which the model gets worse while it learns the target.
    setting.target_validation = setting.items(range(10), 5)
    callback = setting.callback(
        rows=rows, stop=rule, columns={"domain": "twos", "seed": 1}, run="one", steps=range(21)
    )
    trainer, _, _ = setting.trainer(setting.model(), "stop", callback=callback)
    trainer.train()
    assert callback.curve.turned and 3 <= trainer.state.global_step < 20
    with open(rows, newline="") as file:
        (row,) = csv.DictReader(file)
    bottom = callback.curve.bottom
    assert (row["run"], row["domain"], float(row["p"])) == ("one", "twos", 0.25)
    assert float(row["loss_ft"]) == bottom.loss_ft and int(row["step"]) == bottom.step
    assert row["interior"] == str(bottom.interior)
    log = (setting.folder / "stop" / "forgetting.jsonl").read_text().splitlines()
    assert len(log) == 1 + len(callback.curve.evaluations)
    assert json.loads(log[0])["loss_pt0"] == callback.curve.loss_pt0


TWO_RANKS = """
import json, os, sys, torch, transformers
import forgetting_laws as fl
from forgetting_laws.trainer import ForgettingCallback, InjectionTrainer

order = []

class Noted(fl.InjectedDataset):
    def __getitem__(self, position):
        order.append(int(self.mixture.indices(position, position + 1)[0]))
        return super().__getitem__(position)

text = {"input_ids": torch.arange(8), "labels": torch.arange(8)}
mixture = fl.Mixture(p=0.25, steps=5, batch=8, target_sequences=10, pretraining_sequences=60)
config = transformers.GPT2Config(
    vocab_size=13, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
)
arguments = transformers.TrainingArguments(
    output_dir=sys.argv[1], max_steps=5, per_device_train_batch_size=2, gradient_accumulation_steps=2,
    report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no",
)
callback = ForgettingCallback([text], [text], n_params=1, d_ft_tokens=80, p=0.25,
                              rows=sys.argv[1] + "/runs.csv")
InjectionTrainer(
    transformers.GPT2LMHeadModel(config), arguments, callbacks=[callback],
    train_dataset=Noted([text] * 10, [text] * 60, mixture),
).train()
with open(f"{sys.argv[1]}/order-{os.environ['RANK']}.json", "w") as file:
    json.dump(order, file)
# A rank that exits while the other still talks to it is aborted now and then.
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_two_ranks_take_the_sequences_of_one(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run([sys.executable, *launch, script, tmp_path], check=True, timeout=600)
    ranks = [json.loads((tmp_path / f"order-{rank}.json").read_text()) for rank in (0, 1)]
    mixture = fl.Mixture(p=0.25, steps=5, batch=8, target_sequences=10, pretraining_sequences=60)
    for step in range(5):
        together = [index for rank in ranks for index in rank[4 * step : 4 * step + 4]]
        assert sorted(together) == sorted(mixture.batch(step).tolist())
    with open(tmp_path / "runs.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
