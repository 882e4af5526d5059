"""Very small models of every family that is read, in the form in which they are published, and the
logits that `transformers` computes of them.

    pip install torch==2.11.0 transformers==5.24.0
    python golden/checkpoint/families/make.py            # writes the folders and logits.json
    python golden/checkpoint/families/make.py FOLDER …   # prints the logits of folders, for a test

writes a folder for each, with `config.json` (the fields that published files have, in their form of the
time) and `model.safetensors`, and `logits.json`: of each, `tokens` (batch × time) and `logits`
(batch × time × vocabulary), computed in float32 by AutoModelForCausalLM from the folder.

DataDecide is published in the form of OLMo's own training code, which `transformers` does not read by
itself. Its model here is that of `llama` below with other names (attention's and the MLP's matrices are
joined, the gate behind), and so are its logits.

Element k of the s-th parameter (both from 0, names sorted by their bytes) is

    w = 0.2·sin(k² + s),    or 1 + w in the weight of a normalisation.
"""

import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
LAYERS = 2
LLAMA = dict(
    architectures=["LlamaForCausalLM"],
    model_type="llama",
    hidden_act="silu",
    hidden_size=16,
    intermediate_size=24,
    max_position_embeddings=32,
    num_attention_heads=4,
    num_hidden_layers=LAYERS,
    num_key_value_heads=4,
    rms_norm_eps=1e-5,
    rope_scaling=None,
    rope_theta=10000.0,
    tie_word_embeddings=False,
    vocab_size=19,
    torch_dtype="float32",
)
QWEN = dict(LLAMA, sliding_window=8, use_sliding_window=False, max_window_layers=2, rms_norm_eps=1e-6)
OLMO = dict(
    {name: value for name, value in LLAMA.items() if name != "rms_norm_eps"},
    architectures=["OlmoForCausalLM"],
    model_type="olmo",
    clip_qkv=None,
    eos_token_id=0,
    pad_token_id=1,
)

CONFIGS = {
    "cerebras-gpt": dict(
        architectures=["GPT2LMHeadModel"],
        model_type="gpt2",
        activation_function="gelu",
        layer_norm_epsilon=1e-5,
        n_embd=16,
        n_head=4,
        n_inner=48,
        n_layer=LAYERS,
        n_positions=32,
        vocab_size=19,
        bos_token_id=0,
        eos_token_id=0,
        scale_attn_weights=True,
    ),
    "llama": LLAMA,
    "llama-3": dict(
        LLAMA,
        attention_bias=False,
        head_dim=8,
        hidden_size=32,
        max_position_embeddings=64,
        mlp_bias=False,
        num_key_value_heads=2,
        rope_scaling=dict(
            factor=32.0,
            high_freq_factor=4.0,
            low_freq_factor=1.0,
            original_max_position_embeddings=32,
            rope_type="llama3",
        ),
        rope_theta=40.0,
        tie_word_embeddings=True,
    ),
    "smollm2": dict(
        LLAMA,
        num_attention_heads=6,
        num_key_value_heads=3,
        hidden_size=24,
        rope_interleaved=False,
        rope_theta=100000,
        tie_word_embeddings=True,
    ),
    "mistral": dict(
        LLAMA,
        architectures=["MistralForCausalLM"],
        model_type="mistral",
        head_dim=6,
        num_key_value_heads=2,
        rope_theta=1000000.0,
        sliding_window=None,
    ),
    "qwen2": dict(
        QWEN,
        architectures=["Qwen2ForCausalLM"],
        model_type="qwen2",
        num_key_value_heads=2,
        rope_theta=1000000.0,
        tie_word_embeddings=True,
    ),
    "qwen3": dict(
        QWEN,
        architectures=["Qwen3ForCausalLM"],
        model_type="qwen3",
        attention_bias=False,
        head_dim=6,
        num_key_value_heads=2,
        rope_theta=1000000,
    ),
    "olmo": OLMO,
    "olmo-0724": dict(OLMO, attention_bias=False, clip_qkv=0.5),
    "olmo2": dict(
        LLAMA,
        architectures=["Olmo2ForCausalLM"],
        model_type="olmo2",
        attention_bias=False,
        num_key_value_heads=2,
        rms_norm_eps=1e-6,
        rope_theta=500000,
    ),
    "pythia": dict(
        architectures=["GPTNeoXForCausalLM"],
        model_type="gpt_neox",
        hidden_act="gelu",
        hidden_size=16,
        intermediate_size=64,
        layer_norm_eps=1e-5,
        max_position_embeddings=32,
        num_attention_heads=2,
        num_hidden_layers=LAYERS,
        rotary_emb_base=10000,
        rotary_pct=0.25,
        tie_word_embeddings=False,
        use_parallel_residual=True,
        vocab_size=19,
        torch_dtype="float16",
    ),
    "neox-sequential": dict(
        architectures=["GPTNeoXForCausalLM"],
        model_type="gpt_neox",
        hidden_act="gelu_new",
        hidden_size=16,
        intermediate_size=24,
        layer_norm_eps=1e-6,
        max_position_embeddings=32,
        num_attention_heads=2,
        num_hidden_layers=LAYERS,
        rotary_emb_base=500,
        rotary_pct=1.0,
        tie_word_embeddings=False,
        use_parallel_residual=False,
        vocab_size=19,
    ),
}

DATADECIDE = dict(
    architectures=["OLMoForCausalLM"],
    model_type="hf_olmo",
    activation_type="swiglu",
    alibi=False,
    attention_layer_norm=False,
    bias_for_layer_norm=False,
    block_type="sequential",
    clip_qkv=None,
    d_model=16,
    embedding_size=19,
    include_bias=False,
    layer_norm_eps=1e-5,
    layer_norm_type="rms",
    layer_norm_with_affine=True,
    max_sequence_length=32,
    mlp_hidden_size=48,
    mlp_ratio=8,
    multi_query_attention=False,
    n_heads=4,
    n_kv_heads=None,
    n_layers=LAYERS,
    norm_after=False,
    rope=True,
    rope_theta=10000,
    scale_logits=False,
    vocab_size=17,
    weight_tying=False,
)


def write(folder, config, tensors):
    folder.mkdir(exist_ok=True)
    text = json.dumps(config, indent=1, sort_keys=True)
    (folder / "config.json").write_text(text + "\n")
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def parameters(config):
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config)
    )
    tensors = {}
    for s, (name, parameter) in enumerate(sorted(model.named_parameters())):
        k = torch.arange(parameter.numel(), dtype=torch.float64)
        w = 0.2 * torch.sin(k * k + s)
        if "norm" in name.split(".")[-2] or ".ln_" in name:
            w = w + 1 if name.endswith("weight") else w
        tensors[name] = w.view_as(parameter).float()
    return tensors


def published(name, tensors):
    """Pythia's files call the head as its code did then; transformers 5 calls it lm_head."""
    head = {"pythia": "embed_out.weight"}.get(name, "lm_head.weight")
    return {head if of == "lm_head.weight" else of: tensor for of, tensor in tensors.items()}


def datadecide(llama):
    def name(of):
        return f"model.transformer.{of}.weight"

    tensors = {
        name("wte"): llama["model.embed_tokens.weight"],
        name("ln_f"): llama["model.norm.weight"],
        name("ff_out"): llama["lm_head.weight"],
    }
    for i in range(LAYERS):
        own = {
            of.removeprefix(f"model.layers.{i}.").removesuffix(".weight"): tensor
            for of, tensor in llama.items()
            if of.startswith(f"model.layers.{i}.")
        }
        qkv = [own[f"self_attn.{part}_proj"] for part in "qkv"]
        halves = [own["mlp.up_proj"], own["mlp.gate_proj"]]
        tensors |= {
            name(f"blocks.{i}.attn_norm"): own["input_layernorm"],
            name(f"blocks.{i}.att_proj"): torch.cat(qkv),
            name(f"blocks.{i}.attn_out"): own["self_attn.o_proj"],
            name(f"blocks.{i}.ff_norm"): own["post_attention_layernorm"],
            name(f"blocks.{i}.ff_proj"): torch.cat(halves),
            name(f"blocks.{i}.ff_out"): own["mlp.down_proj"],
        }
    return tensors


def logits(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    tokens = [[(5 * j + j * j // 7) % 19 for j in range(24)]]
    with torch.no_grad():
        scores = model.eval()(torch.tensor(tokens)).logits
    rounded = [[[round(z, 7) for z in row] for row in rows] for rows in scores.tolist()]
    return {"tokens": tokens, "logits": rounded}


def main():
    if sys.argv[1:]:
        print(json.dumps([logits(folder)["logits"] for folder in sys.argv[1:]]))
        return
    golden = {}
    for name, config in CONFIGS.items():
        write(HERE / name, config, published(name, parameters(config)))
        golden[name] = logits(HERE / name)
    write(HERE / "datadecide", DATADECIDE, datadecide(parameters(LLAMA)))
    golden["datadecide"] = golden["llama"]
    (HERE / "logits.json").write_text(json.dumps(golden) + "\n")


main()
