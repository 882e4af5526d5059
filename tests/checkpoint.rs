//! Models in Hugging Face's form: against logits of `transformers`, round trips, and files that lie.
#![cfg(feature = "checkpoint")]

use forgetting_laws::Error;
use forgetting_laws::checkpoint::{CONFIG, Checkpoint, WEIGHTS};
use forgetting_laws::model::{Positions, Shape};
use forgetting_laws::rng::Key;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/checkpoint").join(name)
}

/// A checkpoint with numbers drawn for it.
fn drawn(shape: Shape, seed: u64) -> Checkpoint {
    let layout = shape.layout();
    let mut theta = vec![0f32; layout.buffer_len()];
    let key = Key::new(seed);
    for tensor in layout.tensors() {
        for i in tensor.range() {
            theta[i] = key.normal(i as u64) as f32;
        }
    }
    Checkpoint { shape, theta }
}

fn small(bias: bool, positions: Positions) -> Shape {
    Shape { bias, positions, ..Shape::gpt2(2, 8, 2, 11, 8) }
}

/// A copy of one of the golden folders, to spoil.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn refusal(folder: &Path) -> String {
    let message = Checkpoint::read(folder).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

/// One field of config.json replaced.
fn with_config(name: &str, value: Value) -> tempfile::TempDir {
    let folder = copy("f32");
    let path = folder.path().join(CONFIG);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[name] = value;
    fs::write(&path, config.to_string()).unwrap();
    folder
}

/// The tensors of the file changed.
fn with_tensors(change: impl Fn(&mut Vec<(String, Vec<usize>, Vec<u8>)>)) -> tempfile::TempDir {
    let folder = copy("f32");
    let path = folder.path().join(WEIGHTS);
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = file
        .iter()
        .map(|(name, view)| (name.to_string(), view.shape().to_vec(), view.data().to_vec()))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, dims, data)| {
        (name.as_str(), TensorView::new(Dtype::F32, dims.clone(), data).unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    folder
}

/// `golden/checkpoint/make.py`'s rule for every parameter, which tests both names and transposes.
#[test]
fn parameters_are_where_they_belong() {
    let checkpoint = Checkpoint::read(&golden("f32")).unwrap();
    assert_eq!(checkpoint.shape, small(true, Positions::Learned));
    // lm_head is tied, so the names are those of the transformer alone; ln_1.bias is the first.
    let layout = checkpoint.shape.layout();
    let qkv = layout.tensors().iter().find(|t| t.name == "h.0.attn.qkv.weight").unwrap();
    // transformer.h.0.attn.c_attn.weight is the second by name, and [in, out] there.
    let expected = |k: usize| 0.3 * (1.7 * k as f64 + 0.9 * 1.0 + 0.1).sin();
    let values = &checkpoint.theta[qkv.range()];
    for (row, column) in [(0, 0), (0, 1), (1, 0), (23, 7)] {
        let found = f64::from(values[row * 8 + column]);
        assert!((found - expected(column * 24 + row)).abs() < 1e-7, "{row}, {column}");
    }
}

#[test]
fn every_packing_gives_the_same_model() {
    let whole = Checkpoint::read(&golden("f32")).unwrap();
    assert_eq!(Checkpoint::read(&golden("sharded")).unwrap(), whole);
    // Without the prefix, as the files of openai-community/gpt2 have it, with a causal mask and a
    // head that is the embedding.
    let bare = with_tensors(|tensors| {
        for (name, ..) in tensors.iter_mut() {
            *name = name.trim_start_matches("transformer.").to_string();
        }
        tensors.push(("h.0.attn.bias".into(), vec![1, 1, 2, 2], vec![0; 16]));
        let wte = tensors.iter().find(|t| t.0 == "wte.weight").unwrap().clone();
        tensors.push(("lm_head.weight".into(), wte.1, wte.2));
    });
    let bare = Checkpoint::read(bare.path()).unwrap();
    assert_eq!(bare, whole);
    assert_eq!(bare.hash(), whole.hash());
    // As wrappers name them, in every place and combination.
    for (prefix, inside) in [
        ("_orig_mod.", "h."),
        ("module.", "h."),
        ("module._orig_mod.", "h."),
        ("_orig_mod.module.", "_fsdp_wrapped_module.h."),
        ("model.", "h._orig_mod."),
    ] {
        let wrapped = with_tensors(|tensors| {
            for (name, ..) in tensors.iter_mut() {
                *name = format!(
                    "{prefix}{}",
                    name.replace("transformer.h.", &format!("transformer.{inside}"))
                );
            }
        });
        assert_eq!(Checkpoint::read(wrapped.path()).unwrap(), whole, "{prefix}{inside}");
    }
    // The head kept in the place of the embedding that is tied to it.
    let head = with_tensors(|tensors| {
        let wte = tensors.iter_mut().find(|t| t.0 == "transformer.wte.weight").unwrap();
        wte.0 = "lm_head.weight".into();
    });
    assert_eq!(Checkpoint::read(head.path()).unwrap(), whole);
    // In double precision.
    let folder = copy("f32");
    let bytes = fs::read(golden("f32").join(WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let doubles: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .iter()
        .map(|(name, view)| {
            let numbers = view.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
            let data = numbers.flat_map(|number| f64::from(number).to_le_bytes()).collect();
            (name.to_string(), view.shape().to_vec(), data)
        })
        .collect();
    let views = doubles.iter().map(|(name, dims, data)| {
        (name.as_str(), TensorView::new(Dtype::F64, dims.clone(), data).unwrap())
    });
    fs::write(folder.path().join(WEIGHTS), safetensors::serialize(views, None).unwrap()).unwrap();
    assert_eq!(Checkpoint::read(folder.path()).unwrap(), whole);
    // Half precision keeps 11 and 8 bits.
    for (name, error) in [("f16", 2f32.powi(-11)), ("bf16", 2f32.powi(-8))] {
        let half = Checkpoint::read(&golden(name)).unwrap();
        assert_ne!(half.hash(), whole.hash());
        for (&a, &b) in half.theta.iter().zip(&whole.theta) {
            assert!((a - b).abs() <= error * b.abs() + 1e-7, "{name}: {a}, {b}");
        }
    }
}

#[test]
fn what_a_model_does_not_do_is_refused() {
    for (name, value) in [
        ("model_type", json!("mixtral")),
        ("activation_function", json!("relu")),
        ("scale_attn_weights", json!(false)),
        ("n_layer", json!(1_000_000_000u64)),
        ("n_embd", json!(u32::MAX)),
        ("n_head", json!(3)),
        ("n_head", json!(0)),
        ("vocab_size", json!(-1)),
    ] {
        let message = refusal(with_config(name, value.clone()).path());
        assert!(message.contains(CONFIG), "{name} = {value}: {message}");
        let stated = format!("{name} is {value}");
        assert!(name == "n_head" || message.contains(&stated), "{stated}: {message}");
    }
    for (name, value) in [
        ("n_layer", json!(null)),
        ("n_embd", json!(8.0)),
        ("scale_attn_weights", json!("yes")),
        ("add_cross_attention", json!(true)),
        ("quantization_config", json!({"quant_method": "gptq"})),
        ("hidden_size", json!(16)),
    ] {
        let message = refusal(with_config(name, value.clone()).path());
        assert!(message.contains(&format!("{name} is {value}")), "{message}");
    }
    // Four times the width is what null means.
    Checkpoint::read(with_config("n_inner", json!(32)).path()).unwrap();
    let message = refusal(with_config("n_layer", json!(3)).path());
    assert!(message.contains("h.2.") && message.contains("missing"), "{message}");
    // Memory is not taken on the word of the configuration.
    let message = refusal(with_config("vocab_size", json!(16_000_000)).path());
    assert!(message.contains("wte.weight") && message.contains("[11, 8]"), "{message}");
    let message = refusal(with_config("bias", json!(false)).path());
    assert!(message.contains(".bias has ") && message.contains("no such bias"), "{message}");
    let message = refusal(with_config("n_inner", json!(16)).path());
    assert!(message.contains("[8, 32], and config.json asks for [8, 16]"), "{message}");
    let message = refusal(with_config("tie_word_embeddings", json!(false)).path());
    assert!(message.contains("lm_head.weight is missing"), "{message}");
    let message = refusal(with_config("layer_norm_epsilon", json!(0)).path());
    assert!(message.contains("epsilon = 0: must be a finite number above 0"), "{message}");
    let message = refusal(with_config("n_layer", json!(1)).path());
    assert!(message.contains("transformer.h.1.") && message.contains("n_layer is 1"), "{message}");
}

/// What `transformers` loads with the same logits, and the oldest files.
#[test]
fn configurations_say_the_same_in_several_ways() {
    let whole = Checkpoint::read(&golden("f32")).unwrap();
    let change = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let folder = copy("f32");
        let path = folder.path().join(CONFIG);
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(config.as_object_mut().unwrap());
        fs::write(&path, config.to_string()).unwrap();
        assert_eq!(Checkpoint::read(folder.path()).unwrap(), whole);
        Checkpoint::remarks(folder.path()).unwrap()
    };
    for activation in ["gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"] {
        let said =
            change(&|config| drop(config.insert("activation_function".into(), json!(activation))));
        assert!(said.is_empty(), "{said:?}");
    }
    change(&|config| {
        for (own, other) in [
            ("n_layer", "num_hidden_layers"),
            ("n_embd", "hidden_size"),
            ("n_head", "num_attention_heads"),
            ("n_positions", "max_position_embeddings"),
        ] {
            let value = config.remove(own).unwrap();
            config.insert(other.into(), value);
        }
    });
    change(&|config| {
        let positions = config.remove("n_positions").unwrap();
        config.insert("n_ctx".into(), positions);
        config.remove("model_type");
    });
    let nulls = [
        "scale_attn_weights",
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
        "add_cross_attention",
        "tie_word_embeddings",
        "layer_norm_epsilon",
        "activation_function",
        "n_inner",
        "bias",
        "quantization_config",
    ];
    let said = change(&|config| {
        for name in nulls {
            config.insert(name.into(), Value::Null);
        }
    });
    // What null is taken for is said, where that is a choice.
    assert_eq!(said.len(), nulls.len() - 2, "{said:?}");
    let bias = |said: &String| said.ends_with("bias is null and read as true, its default");
    assert!(said.iter().any(bias), "{said:?}");
}

/// As `AutoModelForCausalLMWithValueHead` and `GPT2ForSequenceClassification` save them:
/// `transformers` reads the language model in them.
#[test]
fn heads_of_other_tasks_are_left_out_and_named() {
    let whole = Checkpoint::read(&golden("f32")).unwrap();
    let headed = with_tensors(|tensors| {
        tensors.push(("v_head.summary.weight".into(), vec![1, 8], vec![0; 32]));
        tensors.push(("score.weight".into(), vec![2, 8], vec![0; 64]));
    });
    assert_eq!(Checkpoint::read(headed.path()).unwrap(), whole);
    let said = Checkpoint::remarks(headed.path()).unwrap();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("score.weight and 1 more left out"), "{said:?}");
    assert!(Checkpoint::remarks(&golden("f32")).unwrap().is_empty());
    // What is of the model's own layers is not passed over.
    let adapted = with_tensors(|tensors| {
        tensors.push(("transformer.h.0.attn.c_attn.lora_A".into(), vec![1], vec![0; 4]));
    });
    assert!(refusal(adapted.path()).contains("transformer.h.0.attn.c_attn.lora_A is not a tensor"));
    let twice = with_tensors(|tensors| {
        let wpe = tensors.iter().find(|t| t.0 == "transformer.wpe.weight").unwrap().clone();
        tensors.push(("_orig_mod.transformer.wpe.weight".into(), wpe.1, wpe.2));
    });
    let said = refusal(twice.path());
    assert!(said.contains("_orig_mod.transformer.wpe.weight and transformer.wpe.weight"), "{said}");
}

#[test]
fn a_file_of_json_that_is_another_one_is_named_for_it() {
    let pointer = "version https://git-lfs.github.com/spec/v1\nsize 548\n";
    let wide: Vec<u8> = "{\"n_layer\": 2}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for name in [CONFIG, "model.safetensors.index.json"] {
        for (bytes, what) in [
            (pointer.as_bytes(), "it is a git-lfs pointer in place of the file of 548 bytes"),
            (b"<!DOCTYPE html>", "it is an HTML or XML page"),
            (&wide, "it is UTF-16 text without a byte order mark"),
            (b"n_layer: 2", "is not "),
        ] {
            let folder = copy("sharded");
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let message = refusal(folder.path());
            assert!(message.starts_with(&path.display().to_string()), "{message}");
            assert!(message.contains(what), "{message}");
        }
    }
}

#[test]
fn files_that_lie_are_refused() {
    let untied = with_tensors(|tensors| {
        tensors.push(("lm_head.weight".into(), vec![11, 8], vec![0; 11 * 8 * 4]));
    });
    let said = refusal(untied.path());
    assert!(
        said.contains("lm_head.weight is a head of its own") && said.contains("is 0"),
        "{said}"
    );
    let none = with_tensors(|tensors| {
        tensors.iter_mut().for_each(|(name, ..)| *name = format!("layers.{name}"));
    });
    let said = refusal(none.path());
    assert!(said.contains("wte.weight is missing") && said.contains("layers."), "{said}");

    let folder = copy("f32");
    let path = folder.path().join(WEIGHTS);
    let bytes = fs::read(&path).unwrap();
    for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = Checkpoint::read(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{length}: {error}");
        assert!(error.to_string().contains(WEIGHTS));
    }
    let mut huge = bytes.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&path, huge).unwrap();
    assert!(refusal(folder.path()).contains("header"));
    fs::remove_file(&path).unwrap();
    assert!(refusal(folder.path()).contains(WEIGHTS));
    for pickled in
        ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", "pytorch_model.bin"]
    {
        fs::write(folder.path().join(pickled), "x").unwrap();
        let said = refusal(folder.path());
        assert!(said.contains(&format!("contains a model as {pickled}")), "{said}");
        let place = folder.path().display();
        assert!(
            said.contains("python -c") && said.ends_with(&format!("{place} {place}")),
            "{said}"
        );
        fs::remove_file(folder.path().join(pickled)).unwrap();
    }
    assert!(refusal(&golden("make.py")).contains("name the folder"));

    let folder = copy("sharded");
    let index = folder.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    for outside in ["../f32/model.safetensors", "/etc/passwd", "", ".."] {
        let first = "model-00001-of-00003.safetensors";
        fs::write(&index, text.replace(first, outside)).unwrap();
        assert!(refusal(folder.path()).contains("not the name of a file"), "{outside}");
    }
    let whole = Checkpoint::read(&golden("sharded")).unwrap();
    // A tensor that lies in another of the files, one that is not named, and a name of none.
    let mut map: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<String> = map["weight_map"].as_object().unwrap().keys().cloned().collect();
    map["weight_map"][&names[0]] = json!("model-00003-of-00003.safetensors");
    map["weight_map"].as_object_mut().unwrap().remove(&names[1]);
    map["weight_map"]["lm_head.weight"] = json!("model-00002-of-00003.safetensors");
    fs::write(&index, map.to_string()).unwrap();
    assert_eq!(Checkpoint::read(folder.path()).unwrap(), whole);
    // In two files, and no word about which.
    let first = folder.path().join("model-00001-of-00003.safetensors");
    fs::copy(&first, folder.path().join("model-00004.safetensors")).unwrap();
    map["weight_map"]["lm_head.weight"] = json!("model-00004.safetensors");
    fs::write(&index, map.to_string()).unwrap();
    assert!(refusal(folder.path()).contains("model-00004.safetensors too"));
    fs::write(&index, r#"{"weight_map": {}}"#).unwrap();
    assert!(refusal(folder.path()).contains("weight_map names no file"));
    fs::write(&index, r#"{"weight_map": {"a": "b\nc"}}"#).unwrap();
    assert!(refusal(folder.path()).contains("b c: "));
    fs::write(&index, "{").unwrap();
    assert!(refusal(folder.path()).contains("index"));
}

#[test]
fn the_files_of_a_model() {
    let names = |folder: &str| -> Vec<String> {
        let files = Checkpoint::files(&golden(folder)).unwrap();
        let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
        files.iter().map(name).collect()
    };
    assert_eq!(names("f32"), [CONFIG, WEIGHTS]);
    let sharded = names("sharded");
    assert_eq!(sharded[..2], [CONFIG, "model.safetensors.index.json"]);
    assert_eq!(sharded.len(), 5);
    assert!(sharded[2..].iter().all(|name| name.starts_with("model-0000")));
    let missing = copy("sharded");
    fs::remove_file(missing.path().join("model-00002-of-00003.safetensors")).unwrap();
    assert!(Checkpoint::files(missing.path()).unwrap_err().to_string().contains("model-00002"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        n_layers in 1usize..4, heads in 1usize..4, width in 1usize..5, vocab in 1usize..30,
        context in 1usize..10, bias: bool, rotary: bool, seed: u64,
    ) {
        let positions = if rotary { Positions::Rotary } else { Positions::Learned };
        let width = if rotary { 2 * width } else { width };
        let gpt2 = Shape::gpt2(n_layers, heads * width, heads, vocab, context);
        let shape = Shape { bias, positions, ..gpt2 };
        let checkpoint = drawn(shape, seed);
        let folder = tempfile::tempdir().unwrap();
        let hash = checkpoint.write(folder.path(), Some(0)).unwrap();
        let path = folder.path().join(WEIGHTS);
        prop_assert_eq!(forgetting_laws::store::hash_file(&path).unwrap(), hash.clone());
        prop_assert_eq!(Checkpoint::read(folder.path()).unwrap(), checkpoint.clone());
        prop_assert_eq!(Checkpoint::read_verified(folder.path(), &hash).unwrap(), checkpoint);
        // Whichever byte is another one, it is noticed, those that hold no number too.
        let mut bytes = fs::read(&path).unwrap();
        let at = seed as usize % bytes.len();
        bytes[at] ^= 1 << (seed % 7);
        fs::write(&path, bytes).unwrap();
        let altered = Checkpoint::read_verified(folder.path(), &hash).unwrap_err().to_string();
        prop_assert!(altered.contains(WEIGHTS), "{}", altered);
    }

    /// Any bytes changed, left out or put in: a model or an error, no panic, no more memory than
    /// the file holds.
    #[test]
    fn spoiled_files_end_in_an_error_or_a_model(
        at in 0usize..12_000, length in 0usize..40, put in prop::collection::vec(any::<u8>(), 0..40),
        config: bool,
    ) {
        let folder = copy("f32");
        let path = folder.path().join(if config { CONFIG } else { WEIGHTS });
        let mut bytes = fs::read(&path).unwrap();
        let at = at % (bytes.len() + 1);
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, put);
        fs::write(&path, bytes).unwrap();
        if let Err(error) = Checkpoint::read(folder.path()) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }
}

proptest! {
    /// The same of the index of several files, and of JSON of any kind in the place of fields.
    #[test]
    fn spoiled_indices_and_fields_end_in_an_error_or_a_model(
        at in 0usize..3_000, length in 0usize..40, put in "[\\[\\]{}\",:a-z0-9.-]{0,12}",
        field in prop::sample::select(vec![
            "n_layer", "n_embd", "n_head", "n_positions", "n_ctx", "vocab_size", "n_inner", "bias",
            "hidden_size", "model_type", "architectures", "activation_function",
            "layer_norm_epsilon", "scale_attn_weights", "quantization_config",
        ]),
        value in prop::sample::select(vec![
            "null", "-1", "0", "1", "2", "3", "8", "1e99", "1e-5", "18446744073709551615", "true",
            "\"\"", "\"gpt2\"", "[]", "[null]", "[\"GPT2\"]", "{}", "{\"a\": [{}]}",
        ]),
    ) {
        let folder = copy("sharded");
        let index = folder.path().join("model.safetensors.index.json");
        let mut bytes = fs::read(&index).unwrap();
        let at = at % (bytes.len() + 1);
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, put.into_bytes());
        fs::write(&index, bytes).unwrap();
        let changed = with_config(field, serde_json::from_str(value).unwrap());
        for folder in [folder, changed] {
            match Checkpoint::read(folder.path()) {
                Ok(model) => {
                    prop_assert_eq!(model.theta.len(), model.shape.layout().buffer_len());
                    Checkpoint::remarks(folder.path()).unwrap();
                }
                Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
            }
        }
    }
}

#[cfg(feature = "torch")]
mod trained {
    use super::*;
    use forgetting_laws::data::mask::Encoded;
    use forgetting_laws::engine::torch::Network;
    use forgetting_laws::engine::{Length, Sampling, generate, losses};
    use forgetting_laws::loss::Loss;
    use std::collections::BTreeMap;
    use tch::{Device, IndexOp, Tensor};

    #[derive(serde::Deserialize)]
    struct Golden {
        tokens: Vec<Vec<i64>>,
        logits: Vec<Vec<Vec<f64>>>,
    }

    fn network(name: &str) -> Network {
        Network::from_checkpoint(&Checkpoint::read(&golden(name)).unwrap(), Device::Cpu).unwrap()
    }

    #[test]
    fn logits_are_those_of_transformers() {
        let bytes = fs::read(golden("logits.json")).unwrap();
        let all: BTreeMap<String, Golden> = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(all.len(), 5);
        for (name, golden) in all {
            let logits = network(&name).logits(&Tensor::from_slice2(&golden.tokens)).unwrap();
            let positions = golden.logits[0].len() as i64;
            let logits = logits.narrow(1, logits.size()[1] - positions, positions).reshape([-1]);
            let found: Vec<f32> = Vec::try_from(logits).unwrap();
            let expected: Vec<f64> = golden.logits.concat().concat();
            assert_eq!(found.len(), expected.len());
            for (&found, expected) in found.iter().zip(expected) {
                assert!((f64::from(found) - expected).abs() < 1e-5, "{name}: {found}, {expected}");
            }
        }
    }

    /// A folder that this crate writes, in `transformers` itself: where FORGETTING_LAWS_PYTHON names
    /// a Python that has it.
    #[test]
    fn transformers_loads_what_is_written() {
        let Ok(python) = std::env::var("FORGETTING_LAWS_PYTHON") else {
            eprintln!("skipped: FORGETTING_LAWS_PYTHON names no Python with transformers");
            return;
        };
        for bias in [false, true] {
            let checkpoint = drawn(small(bias, Positions::Learned), 3);
            let folder = tempfile::tempdir().unwrap();
            checkpoint.write(folder.path(), Some(0)).unwrap();
            let program = "import sys, json, torch, transformers\n\
                model, info = transformers.AutoModelForCausalLM.from_pretrained(\n\
                    sys.argv[1], output_loading_info=True)\n\
                assert not any(info.values()), info\n\
                print(json.dumps(model.eval()(torch.tensor([[1, 2, 3, 9]])).logits.tolist()))";
            let output = std::process::Command::new(&python)
                .args(["-c", program])
                .arg(folder.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            let expected: Vec<Vec<Vec<f64>>> =
                serde_json::from_str(text.lines().last().unwrap()).unwrap();
            let network = Network::from_checkpoint(&checkpoint, Device::Cpu).unwrap();
            let logits = network.logits(&Tensor::from_slice2(&[vec![1i64, 2, 3, 9]])).unwrap();
            let found: Vec<f32> = Vec::try_from(logits.reshape([-1])).unwrap();
            for (found, expected) in found.iter().zip(expected.concat().concat()) {
                // Weights of deviation 1 make logits of tens.
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{found}, {expected}");
            }
        }
    }

    /// Against one forward pass a window, whatever else is in the batch.
    #[test]
    fn each_token_is_predicted_once() {
        let mut network = network("f32");
        let token = |i: usize| ((7 * i + i * i) % 11) as u32;
        let documents: Vec<Vec<u32>> =
            [0, 1, 2, 8, 9, 10, 17, 30].map(|length| (0..length).map(token).collect()).into();
        let encoded: Vec<Encoded> = documents.iter().cloned().map(Encoded::from).collect();
        let found = losses(&mut network, &encoded).unwrap();
        for (document, found) in documents.iter().zip(&found) {
            let predicted: u64 = found.iter().map(|window| window.tokens).sum();
            assert_eq!(predicted, document.len().saturating_sub(1) as u64);
            for (k, window) in found.iter().enumerate() {
                let tokens = &document[8 * k..document.len().min(8 * k + 9)];
                let inputs: Vec<i64> =
                    tokens[..tokens.len() - 1].iter().map(|&t| t.into()).collect();
                let logits = network.logits(&Tensor::from_slice(&inputs).view([1, -1])).unwrap();
                let log_probs = logits.log_softmax(-1, tch::Kind::Double).i(0);
                let expected: f64 = (0..inputs.len())
                    .map(|i| -log_probs.double_value(&[i as i64, i64::from(tokens[i + 1])]))
                    .sum();
                assert!((window.nats - expected).abs() < 1e-5, "{} {expected}", window.nats);
            }
        }
        assert!(Loss::default().mean().is_nan());
        let message = losses(&mut network, &[vec![1, 11].into()]).unwrap_err().to_string();
        assert!(message.contains("11") && message.contains("vocabulary"), "{message}");
    }

    #[test]
    fn a_model_writes_the_same_text_again_and_keeps_to_its_window() {
        let mut network = network("f32");
        let free = Sampling { temperature: 1.0, top_k: 0, vocab: 11 };
        let mut write = |seed, tokens, sampling| {
            let length = Length { tokens, end_of_text: None };
            generate(&mut network, &[1, 2, 3], length, sampling, Key::new(seed)).unwrap()
        };
        let text = write(0, 30, free);
        assert_eq!(text.len(), 30);
        assert_eq!(write(0, 30, free), text);
        assert_eq!(write(0, 12, free), text[..12]);
        assert_ne!(write(1, 30, free), text);
        // The likeliest token is the same for every seed, and ends the text where it may.
        let greedy = Sampling { temperature: 0.0, top_k: 0, vocab: 11 };
        let first = write(0, 1, greedy);
        assert_eq!(write(5, 1, Sampling { temperature: 2.0, top_k: 1, vocab: 11 }), first);
        let length = Length { tokens: 9, end_of_text: Some(first[0]) };
        let mut after =
            |prompt: &[u32]| generate(&mut network, prompt, length, greedy, Key::new(0));
        assert!(after(&[1, 2, 3]).unwrap().is_empty());
        assert!(after(&[]).is_err());
        assert!(after(&[11]).is_err());
    }
}
