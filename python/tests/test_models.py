"""Models that the command finetunes, in ``transformers``, where FORGETTING_LAWS_COMMAND names the command."""

import json
import pathlib

import pytest
from test_command import pytestmark, run  # noqa: F401

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

GOLDEN = pathlib.Path(__file__).parents[2] / "golden/checkpoint/nano-small"
TEXT = "One sentence after another, and a few words more. "

# The tokenizer has 512 tokens, of which the first ends a text, and the vocabulary is padded.
END = {"eos_token_id": 0, "bos_token_id": 0}
SIZES = {**END, "vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**SIZES, "intermediate_size": 48, "max_position_embeddings": 64, "num_key_value_heads": 2}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GPT2 = {**END, "vocab_size": 600, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
MODELS = {
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
    "cerebras-gpt": lambda: transformers.GPT2Config(**GPT2, activation_function="gelu", n_inner=96),
    "llama": lambda: transformers.LlamaConfig(**LLAMA, tie_word_embeddings=False),
    "llama-3": lambda: transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True, rope_parameters=LLAMA_3),
    "mistral": lambda: transformers.MistralConfig(**LLAMA, head_dim=16, sliding_window=None),
    "olmo": lambda: transformers.OlmoConfig(**LLAMA),
    "olmo-0724": lambda: transformers.OlmoConfig(**LLAMA, clip_qkv=0.5),
    "olmo2": lambda: transformers.Olmo2Config(**LLAMA),
    "pythia": lambda: transformers.GPTNeoXConfig(**SIZES, intermediate_size=96, max_position_embeddings=64),
    "qwen2": lambda: transformers.Qwen2Config(**LLAMA),
    "qwen3": lambda: transformers.Qwen3Config(**LLAMA, head_dim=16),
}


def base_of(folder, config):
    """A model with random parameters, as ``transformers`` writes it, with what published models have beside them."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        # Biases and norms have an effect too.
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "tokenizer.json"))
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"temperature": 0.6}')


@pytest.mark.parametrize("name", MODELS)
def test_transformers_loads_a_finetuned_model(name, tmp_path):
    base, out = tmp_path / "base", tmp_path / "out"
    base_of(base, MODELS[name]())
    settings = {
        "grid.exact.domains": "near",
        "grid.exact.p": "0.1",
        "grid.exact.samplers": "exact",
        "grid.exact.d_ft_tokens": "640",
        "grid.exact.steps": "12",
        "data.pretrain_tokens": "4096",
        "data.injection_tokens": "2048",
        "data.validation_tokens": "1024",
        "pretrained.peak_lr": "1e-2",
        "run.keep_models": "true",
    }
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    run("run", "--block", "exact", "--engine", "cpu", "--out", out, "--pretrained", f"base={base}", *options)
    kinds = {json.loads(spec.read_text())["kind"]: spec.parent for spec in out.glob("runs/*/spec.json")}
    finetuned = kinds["finetune"]
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    losses = []
    for folder in (base, finetuned):
        run("eval", folder, "--engine", "cpu", "--data", text, "--json", tmp_path / "eval.json")
        said = json.loads((tmp_path / "eval.json").read_text())
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        tokens = torch.tensor([transformers.AutoTokenizer.from_pretrained(folder).encode(TEXT)])
        assert said["tokens"] == tokens.shape[1] - 1
        with torch.no_grad():
            loss = model(tokens, labels=tokens).loss.item()
        assert abs(loss - said["loss"]) < 1e-5
        losses.append(loss)
    assert losses[0] != losses[1]
    assert json.loads((finetuned / "generation_config.json").read_text())["temperature"] == 0.6
