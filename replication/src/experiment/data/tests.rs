use super::stats::VERSION;
use super::*;
use std::time::SystemTime;

/// 60 documents of 200 words each.
fn write_texts(path: &Path, seed: u64) {
    let key = Key::new(seed);
    let line = |i: u64| {
        let word = |j| format!("w{}", key.child(i).below(j, 40));
        let text: String = (0..200).map(|j| word(j) + " ").collect();
        serde_json::json!({ "text": text }).to_string() + "\n"
    };
    std::fs::write(path, (0..60).map(line).collect::<String>()).unwrap();
}

/// The files of all stores and when each was written.
fn shards(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let stores = std::fs::read_dir(folder.join("tokens")).unwrap();
    let files = stores.flat_map(|store| std::fs::read_dir(store.unwrap().path()).unwrap());
    let files = files.map(|file| file.unwrap());
    files
        .filter(|file| !file.file_name().to_string_lossy().starts_with('.'))
        .map(|file| (file.path(), file.metadata().unwrap().modified().unwrap()))
        .collect()
}

/// Settings for two files of text in a folder, which are written.
fn of_files(folder: &Path) -> Config {
    let paths = ["pretrain.jsonl", "target.jsonl"].map(|name| folder.join(name));
    write_texts(&paths[0], 0);
    write_texts(&paths[1], 1);
    let mut config = small();
    config.data.pretrain = vec![paths[0].clone()];
    let target = config.domains["far"].clone();
    let target = crate::experiment::config::Target { files: vec![paths[1].clone()], ..target };
    config.domains = BTreeMap::from([("mine".to_string(), target)]);
    config
}

fn small() -> Config {
    let mut config = Config::load("nano", &[]).unwrap();
    config.data.tokenizer_bytes = 10_000;
    config.data.validation_tokens = 640;
    config.data.injection_tokens = 640;
    config.data.pretrain_tokens = 1 << 20;
    config.model.vocab = 300;
    config
}

#[test]
fn a_text_that_is_too_short_is_named_with_its_option() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = of_files(folder.path());
    let error = |config: &Config| {
        let sources = Sources::open(config, None, Needed::All, None).unwrap();
        let targets = BTreeMap::from([("mine".to_string(), 1024)]);
        let prepared = sources.prepare(config, &targets, &BTreeMap::new(), None);
        prepared.map(drop).unwrap_err().to_string()
    };
    std::fs::write(folder.path().join("target.jsonl"), "{\"text\": \"w1 w2\"}\n").unwrap();
    let short = error(&config);
    let expected = "--target mine (target.jsonl): the validation part: 640 tokens were asked";
    assert!(short.starts_with(expected), "{short}");
    config.data.validation_tokens = 1 << 20;
    let short = error(&config);
    assert!(short.starts_with("--pretrain (pretrain.jsonl): the validation part"), "{short}");
}

#[test]
fn another_call_with_other_settings_tokenises_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = of_files(folder.path());
    let data = folder.path().join("data");
    let prepare = |config: &Config, d_ft| {
        let sources = Sources::open(config, None, Needed::All, None).unwrap();
        let targets = BTreeMap::from([("mine".to_string(), d_ft)]);
        sources.prepare(config, &targets, &BTreeMap::new(), Some(&data)).unwrap()
    };
    let first = prepare(&config, 1024);
    let written = shards(&data);
    // A shard and a manifest of each of two sources.
    assert_eq!(written.len(), 4);
    let larger = prepare(&config, 4096);
    let (small, large) = (targets(&first), targets(&larger));
    assert_eq!(small.training.hash(), large.training.prefix(1024).unwrap().hash());
    assert_eq!(small.validation.hash(), large.validation.hash());
    config.seed = 1;
    config.model.context = 32;
    config.data.validation_tokens = 320;
    let other = prepare(&config, 2048);
    assert_ne!(targets(&other).validation.hash(), small.validation.hash());
    assert_eq!(shards(&data), written);
    // Random words of the same kind on both sides: no run of 13 tokens is shared by chance.
    let stats = first.stats.values().next().unwrap();
    let overlap = stats.overlap.unwrap();
    assert!(overlap.pretraining.ngrams > 500 && overlap.pretraining.found == 0);
    assert!(overlap.training.documents > 1 && overlap.training.found == 0);
    assert_eq!(stats.pretraining.spec.split, Some(RULE));

    // Shorter runs are shared by any two texts of these words, and are other stats of the same
    // data.
    config.data.overlap_ngram = 2;
    let short = prepare(&config, 2048);
    let found = |prepared: &Prepared| prepared.stats.values().next().unwrap().overlap.unwrap();
    assert_eq!((overlap.training.n, found(&short).training.n), (13, 2));
    assert!(found(&short).training.share() > 0.5, "{:?}", found(&short));
    assert_eq!(short.stats.keys().next(), other.stats.keys().next());
    assert_eq!(shards(&data), written);
    let mut id = |n| {
        config.data.overlap_ngram = n;
        let sources = Sources::open(&config, None, Needed::Here, None).unwrap();
        let (spec, target) = (sources.pretraining_spec(), sources.target_spec("mine"));
        // The identity of before there was a setting.
        let constant = RunId::of(&(VERSION, 13usize, spec, target, 2048u64));
        (sources.stats_id("mine", 2048), constant)
    };
    let ((usual, of_before), (short, _)) = (id(13), id(2));
    assert!(usual == of_before && usual != short);
}

fn targets(prepared: &Prepared) -> &TargetData {
    prepared.targets.values().next().unwrap()
}

/// The hashes of all parts.
fn hashes(prepared: &Prepared) -> Vec<String> {
    let PretrainData { validation, test: _, injection, training } = &prepared.pretraining;
    let mut parts = vec![validation, injection, training];
    parts.extend(prepared.targets.values().flat_map(|t| [&t.validation, &t.training]));
    parts.into_iter().map(Sequences::hash).collect()
}

#[test]
fn a_second_process_opens_what_a_first_one_has_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let mut synthetic = small();
    synthetic.data.pretrain_tokens = 40_000;
    synthetic.domains.retain(|name, _| name == "far" || name == "instructions");
    synthetic.data.loss = Supervised::Answer;
    for (name, config) in [("files", of_files(folder.path())), ("synthetic", synthetic)] {
        let data = folder.path().join(name);
        let targets: BTreeMap<String, u64> =
            config.domains.keys().map(|name| (name.clone(), 1024)).collect();
        let nothing = BTreeMap::new();
        let open = || Sources::open(&config, None, Needed::All, Some(&data)).unwrap();
        let alone = open().prepare(&config, &targets, &nothing, None).unwrap();
        assert!(!data.exists());
        let first = open().prepare(&config, &targets, &nothing, Some(&data)).unwrap();
        assert_eq!((hashes(&first), &first.stats), (hashes(&alone), &alone.stats));
        let written = shards(&data);

        // Stats that nobody would measure: they are taken as they are.
        let of = |name: &String| &first.stats[&open().target_spec(name).id()];
        let mut known: BTreeMap<String, DataStats> =
            config.domains.keys().map(|name| (name.clone(), of(name).clone())).collect();
        known.values_mut().for_each(|stats| stats.vocab = 7);
        let second = open().prepare(&config, &targets, &known, Some(&data)).unwrap();
        assert_eq!(hashes(&second), hashes(&first));
        assert!(second.stats.values().all(|stats| stats.vocab == 7));
        assert_eq!(second.pretraining_stats.vocab, 7);
        assert_eq!(shards(&data), written);
        let none = open().prepare(&config, &BTreeMap::new(), &nothing, Some(&data)).unwrap();
        assert_eq!(none.pretraining_stats, alone.pretraining_stats);

        // So is the tokenizer: one that was altered is noticed.
        let tokenizers = data.join("tokenizers");
        let path = hashed_files(&tokenizers, "").unwrap();
        let path = path.iter().find(|path| path.extension().is_some()).unwrap();
        let json = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, json.replace("1.0", "1.1")).unwrap();
        let refused = open().prepare(&config, &targets, &known, Some(&data));
        assert!(matches!(refused, Err(Error::Damaged { .. })));
        std::fs::remove_file(path).unwrap();
        let again = open().prepare(&config, &targets, &nothing, Some(&data)).unwrap();
        assert_eq!((hashes(&again), &again.stats), (hashes(&alone), &alone.stats));
        assert_eq!(std::fs::read_to_string(path).unwrap(), json);
    }
}
