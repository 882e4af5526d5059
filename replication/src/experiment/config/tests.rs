use super::*;
use forgetting_laws::Result;

fn load(overrides: &[&str]) -> Result<Config> {
    Config::load("nano", &overrides.iter().map(|s| s.to_string()).collect::<Vec<_>>())
}

fn refusal(overrides: &[&str]) -> String {
    let message = load(overrides).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn every_preset_loads() {
    for (name, _) in PRESETS {
        Config::load(name, &[]).unwrap();
    }
    let message = Config::load("huge", &[]).unwrap_err().to_string();
    assert!(message.contains("nano, micro, mini, paper"), "{message}");
}

/// PAPER.md's settings that are known, in the preset that claims to be the paper's.
#[test]
fn the_paper_preset_is_the_papers() {
    let paper = Config::load("paper", &[]).unwrap();
    assert_eq!(paper.grid[MAIN].tokens_per_param, [100.0]);
    assert_eq!(paper.pretraining.warmup.get(), 0.005);
    assert_eq!(paper.pretraining.terminal.get(), 0.01);
    assert_eq!(paper.pretraining.clip, 5.0);
    assert_eq!(paper.pretraining.adamw.weight_decay, 0.1);
    assert_eq!(paper.model.context, 1024);
    assert_eq!(paper.model.vocab, 32_000);
    assert_eq!(paper.model.precision, Precision::Bf16);
    assert_eq!(paper.data.tokenizer_kind, TokenizerKind::Unigram);
    assert_eq!(paper.grid[MAIN].steps, 12_000);
    assert!(!paper.finetuning.stop_when_turned);
    let gpus = ["tiny", "small", "medium", "large", "xl"].map(|s| paper.sizes[s].gpus);
    assert_eq!(gpus, [1, 1, 4, 8, 8]);
    assert!(paper.grid["fig5"].lr_ratios.iter().any(|ratio| ratio.get() == 1.0 / 30.0));
}

#[test]
fn settings_override_and_keep_their_type() {
    let config = load(&[
        "seed=7",
        "grid.fig5.steps=10",
        "sizes.nano-tiny.peak_lr=1",
        "grid.fig5.p=[0.0,0.5]",
    ])
    .unwrap();
    assert_eq!((config.seed, config.grid["fig5"].steps), (7, 10));
    assert_eq!(config.sizes["nano-tiny"].peak_lr, 1.0);
    assert_eq!(config.grid["fig5"].p.iter().map(|p| p.get()).collect::<Vec<_>>(), [0.0, 0.5]);
    assert_eq!(load(&["domains.far.kind=code"]).unwrap().domains["far"].kind, Some(Domain::Code));
    assert_eq!(load(&["grid.fig5.sizes=nano-tiny"]).unwrap().grid["fig5"].sizes, ["nano-tiny"]);
    let p = load(&["grid.fig5.p=0, 0.25,1"]).unwrap().grid["fig5"].p.clone();
    assert_eq!(p.iter().map(|p| p.get()).collect::<Vec<_>>(), [0.0, 0.25, 1.0]);
    assert_eq!(load(&["grid.fig5.lr_ratios=1/30, 1/3"]).unwrap().grid["fig5"].lr_ratios.len(), 2);
    assert_eq!(load(&["grid.fig5.lr_ratios=[0.5]"]).unwrap().grid["fig5"].lr_ratios[0].get(), 0.5);
}

#[test]
fn bad_settings_are_named() {
    assert!(refusal(&["sede=7"]).contains("nearest is seed"));
    assert!(refusal(&["finetuning.warmup_step=7"]).contains("finetuning.warmup_steps"));
    assert!(refusal(&["finetuning=7"]).contains("finetuning."));
    assert!(refusal(&["seed.x=7"]).contains("no such setting"));
    let message = refusal(&["p=0,0.1"]);
    let start = "--set = p: no such setting; there are grid.";
    assert!(message.starts_with(start) && message.contains("grid.main.p"), "{message}");
    assert!(!message.contains('('), "{message}");
    let message = refusal(&["p=0,1.1"]);
    assert!(message.contains("grid.main.p") && message.contains("= 0,1.1: "), "{message}");
    let message = refusal(&["vocab=many"]);
    let expected = "--set = vocab: no such setting; there is model.vocab (model.vocab = many: ";
    assert!(message.starts_with(expected), "{message}");
    assert!(refusal(&["adamw.beta1=0.5"]).contains("finetuning.adamw.beta1, pretraining."));
    assert!(refusal(&["seed"]).contains("key=value"));
    assert!(refusal(&["seed=many"]).contains("integer"));
    assert!(refusal(&["seed=-1"]).contains("-1"));
    assert!(refusal(&["grid.fig5.p=[1.5]"]).contains("1.5"));
    assert!(refusal(&["grid.fig5.p=[]"]).contains("grid.fig5.p"));
    assert!(refusal(&["grid.fig5.sizes=[\"huge\"]"]).contains("nano-tiny"));
    assert!(refusal(&["grid.fig5.lr_ratios=[\"1/0\"]"]).contains("1/0"));
    assert!(refusal(&["grid.fig5.p=[0.5, 0.1, 0.5]"]).contains("grid.fig5.p = 0.5"));
    assert!(refusal(&["grid.fig5.lr_ratios=[\"1/2\", 0.5]"]).contains("once"));
    assert!(refusal(&["grid.main.d_ft_tokens=0"]).contains("grid.main.d_ft_tokens"));
    assert!(refusal(&["sizes.nano-tiny.peak_lr=0"]).contains("sizes.nano-tiny.peak_lr"));
    assert!(refusal(&["grid.exact.samplers=best"]).contains("best"));
}

/// Nothing that is accepted here is refused once runs have begun.
#[test]
fn settings_outside_their_domain_are_named() {
    for (setting, named) in [
        ("model.context=0", "from 1"),
        ("model.vocab=256", "from 257"),
        ("grid.main.steps=0", "from 1"),
        ("grid.fig5.steps=10000000000000000", "to 10000000"),
        ("finetuning.batch=0", "from 1"),
        ("sizes.nano-tiny.batch=0", "from 1"),
        ("run.threads=-3", "-3"),
        ("run.workers=1000000000", "to 1000"),
        ("data.tokenizer_bytes=0", "from 1"),
        ("data.overlap_ngram=0", "from 1"),
        ("data.overlap_ngram=65", "to 64"),
        ("data.validation_tokens=63", "64 tokens"),
        ("data.pretrain_tokens=63", "64 tokens"),
        ("data.injection_tokens=63", "be 0, or"),
        ("grid.replay.replay_tokens=63", "be 0, or"),
        ("grid.main.d_ft_tokens=63", "64 tokens"),
        ("grid.main.tokens_per_param=1e30", "at most"),
        ("grid.tokens.tokens_per_param=[10.0, -1.0]", "above 0"),
        ("pretraining.clip=nan", "above 0"),
        ("pretraining.warmup=2", "between 0 and 1"),
        ("pretraining.adamw.beta1=1", "below 1"),
        ("pretraining.evaluate.min_interval=0", "at least 1"),
        ("finetuning.adamw.eps=0", "above 0"),
        ("finetuning.evaluate.ratio=0.5", "at least 1"),
        ("finetuning.stop.factor=nan", "at least 1"),
        ("finetuning.stop.rise=-1", "positive"),
    ] {
        let message = refusal(&[setting]);
        let name = setting.split('=').next().unwrap();
        assert!(message.starts_with(&format!("{name} = ")), "{setting}: {message}");
        assert!(message.contains(named), "{setting}: {message}");
    }
    for least in ["data.validation_tokens=64", "data.injection_tokens=0", "model.vocab=257"] {
        load(&[least]).unwrap();
    }
    let unigram = "data.tokenizer_kind=unigram";
    assert!(refusal(&[unigram, "model.vocab=279"]).contains("from 280"));
    assert_eq!(load(&[unigram]).unwrap().data.tokenizer_kind, TokenizerKind::Unigram);
    assert!(refusal(&["data.tokenizer_kind=wordpiece"]).contains("wordpiece"));
}

#[test]
fn what_is_usual_leaves_settings_as_they_were_known() {
    let written = |config: &Config| serde_json::to_string(config).unwrap();
    assert!(!written(&load(&[]).unwrap()).contains("overlap_ngram"));
    let other = load(&["data.overlap_ngram=8"]).unwrap();
    assert!(written(&other).contains("\"overlap_ngram\":8"));
}

#[test]
fn ratios_keep_how_they_were_written() {
    let ratio =
        load(&["grid.fig5.lr_ratios=[\"1/30\", 0.25]"]).unwrap().grid["fig5"].lr_ratios.clone();
    assert_eq!(ratio.iter().map(Ratio::to_string).collect::<Vec<_>>(), ["1/30", "0.25"]);
    assert_eq!(ratio[0].get(), 1.0 / 30.0);
}

#[test]
fn blocks_take_from_the_main_one_what_they_leave_out() {
    let config = load(&["grid.main.steps=77", "grid.seeds.p=0.02"]).unwrap();
    let p = |block: &str| config.grid[block].p.iter().map(|p| p.get()).collect::<Vec<_>>();
    assert_eq!((config.grid["exact"].steps, config.grid["fig5"].steps), (77, 1_500));
    assert_eq!(p("seeds"), [0.02]);
    assert_eq!(p("fig17"), p(MAIN));
    // An axis that the block has from the main one can be its own.
    let config = load(&["grid.exact.steps=5"]).unwrap();
    assert_eq!((config.grid["exact"].steps, config.grid[MAIN].steps), (5, 12_000));
    assert!(refusal(&["grid.exact.step=5"]).contains("no such setting"));
    assert!(refusal(&["grid.main.domains=elsewhere"]).contains("far, instructions"));
}

#[test]
fn texts_that_a_preset_waits_for_leave_its_grid_as_it_is() {
    let mut config = Config::load("micro", &[]).unwrap();
    let order = ["statutes".to_string(), "french".to_string()];
    let files = |name: &String| (name.clone(), vec![PathBuf::from(name)]);
    config.set_targets(order.iter().map(files).collect(), &order);
    let domains: Vec<&String> = config.domains.keys().collect();
    assert_eq!(domains, ["far", "french", "instructions", "middle", "near", "statutes"]);
    assert_eq!(config.grid[MAIN].domains, ["french", "statutes"]);
    let of_domains = ["french", "statutes", "near", "middle", "far", "instructions"];
    assert_eq!(config.grid["domains"].domains, of_domains);
    assert_eq!(config.grid["models"].domains, ["french", "statutes"]);
    config.validate().unwrap();
}

#[test]
fn other_targets_replace_the_presets() {
    let mut config = load(&[]).unwrap();
    let order = ["b".to_string(), "a".to_string()];
    let files = |name: &String| (name.clone(), vec![PathBuf::from(name)]);
    config.set_targets(order.iter().map(files).collect(), &order);
    assert_eq!(config.domains.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(config.grid[MAIN].domains, order);
    assert_eq!(config.grid["fig5"].domains, ["b"]);
    assert!(config.grid["fig17"].domains.is_empty());
    assert!(!config.grid.contains_key("instructions"));
    config.validate().unwrap();
}
