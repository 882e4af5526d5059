//! Data sets by name, as users meet them: fetched from a server on loopback with the Hub's layout,
//! verified, inspected, and trained on. Text is the test's own.

#![cfg(unix)]

mod common;
#[path = "../../tests/loopback/mod.rs"]
mod loopback;

use common::{TINY, must_succeed, stderr};
use forgetting_laws::Fraction;
use forgetting_laws::checkpoint::Checkpoint;
use forgetting_laws::data::Source;
use forgetting_laws::data::synthetic::{Domain, Synthetic};
use forgetting_laws::model::{Activation, Head, Mlp, Norm, NormKind, Positions, Shape};
use forgetting_laws::rng::Key;
use loopback::{Fault, File, Loopback, commit};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

const TOKEN: &str = "hf_very_secret";

struct Lab {
    server: Loopback,
    home: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { server: Loopback::start(), home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_string()
    }

    fn in_environment(&self, mut command: Command) -> Command {
        for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "http_proxy", "HTTP_PROXY"]
        {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.home.path().join("hf")).env("HF_TOKEN", TOKEN);
        command.env("HF_ENDPOINT", &self.server.endpoint).stdin(Stdio::null());
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replication"));
        command.args(arguments);
        self.in_environment(command)
    }

    /// A registry with one data set of JSON Lines.
    fn own_table(&self, lines: &[u8]) -> String {
        let files = [File { name: "data/a.jsonl", bytes: lines, large: true }];
        self.server.dataset("me/mine", "main", &commit('a'), &files);
        let table = self.path("mine.toml");
        let text = "[mine]\nabout = 'x'\nrepository = 'me/mine'\nfiles = ['data/*.jsonl']\nlicence = 'CC0'\n";
        fs::write(&table, text).unwrap();
        table
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line with which a command failed.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let all = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{all}");
    assert!(!all.contains("panicked") && !all.contains(TOKEN), "{all}");
    let refusals: Vec<_> = all.lines().filter(|l| l.starts_with("replication: ")).collect();
    assert_eq!(refusals.len(), 1, "{all}");
    refusals[0].to_string()
}

fn texts(source: Synthetic, count: u64) -> Vec<String> {
    (0..count).map(|i| source.document(i).unwrap().into_owned()).collect()
}

fn lines(texts: &[String]) -> Vec<u8> {
    let line = |text: &String| serde_json::json!({ "text": text }).to_string() + "\n";
    texts.iter().map(line).collect::<String>().into_bytes()
}

/// A Parquet file of columns of text.
fn parquet(columns: &[(&str, &[String])]) -> Vec<u8> {
    let fields = columns.iter().map(|(name, _)| format!("optional binary {name} (UTF8); "));
    let schema = format!("message table {{ {} }}", fields.collect::<String>());
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, texts) in columns {
        let values: Vec<ByteArray> = texts.iter().map(|text| text.as_str().into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let defined = vec![1; values.len()];
        column.typed::<ByteArrayType>().write_batch(&values, Some(&defined), None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    out
}

#[test]
fn the_list_says_what_there_is_and_what_copies_lack() {
    let lab = Lab::new();
    let table = lab.own_table(b"{}");
    let list = stdout(&must_succeed(&mut lab.command(&["data", "list", "--registry", &table])));
    for expected in [
        "\nredpajama-v2\n",
        "\nopenhermes-2.5\n",
        "\nmine\n",
        "  licence  MIT\n",
        "17 of 22 subsets of The Pile; lacks Books3, ",
        "thin: prose is only Gutenberg (PG-19) (of 3)",
    ] {
        assert!(list.contains(expected), "{expected}: {list}");
    }
    assert_eq!(lab.server.asked(), []);
    let error = refusal(&mut lab.command(&["data", "fetch", "nothing"]));
    assert!(error.contains("data set = nothing: must be one of c4, dolly"), "{error}");
    let error = refusal(&mut lab.command(&["data", "verify", "gsm8k"]));
    assert!(error.contains("replication data fetch"), "{error}");
}

#[test]
fn a_data_set_is_fetched_on_a_full_disk_then_wholly_verified_and_inspected() {
    let lab = Lab::new();
    let documents = texts(Synthetic::pretraining(1), 400);
    let bytes = lines(&documents);
    assert!(bytes.len() > 300_000, "{}", bytes.len());
    let table = lab.own_table(&bytes);
    let fetch = ["data", "fetch", "mine", "--registry", &table];

    // A file may have 100 blocks, of half a kilobyte or of one: the system's own refusal.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\""]);
    limited.arg(env!("CARGO_BIN_EXE_replication")).args(fetch);
    let error = refusal(&mut lab.in_environment(limited));
    assert!(error.contains(".incomplete: the disk is full"), "{error}");
    let blobs = lab.home.path().join("hf/hub/datasets--me--mine/blobs");
    let partial = fs::read_dir(&blobs).unwrap().next().unwrap().unwrap();
    let here = partial.metadata().unwrap().len();
    assert!((1..bytes.len() as u64).contains(&here), "{here}");

    lab.server.asked();
    let output = must_succeed(&mut lab.command(&fetch));
    let asked = lab.server.asked();
    assert!(asked.iter().any(|asked| asked.range == Some(format!("bytes={here}-"))), "{asked:?}");
    let said = stdout(&output) + &stderr(&output);
    assert!(said.contains(&format!("me/mine at {}", commit('a'))), "{said}");
    assert!(said.contains("continues from") && said.contains("sha256:"), "{said}");
    assert!(!said.contains(TOKEN) && !said.contains("signature"), "{said}");
    let manifest = fs::read_to_string(lab.path("hf/forgetting-laws/mine.json")).unwrap();
    assert!(!manifest.contains(TOKEN) && manifest.contains("sha256:"), "{manifest}");

    // From here on without the network.
    let offline = |arguments: &[&str]| {
        let mut command = lab.command(arguments);
        command.env("HF_HUB_OFFLINE", "1").args(["--registry", &table]);
        command
    };
    lab.server.asked();
    let verified = stdout(&must_succeed(&mut offline(&["data", "verify", "mine"])));
    assert!(verified.contains("1 file(s) unchanged"), "{verified}");
    let inspected = stdout(&must_succeed(&mut offline(&["data", "inspect", "mine"])));
    assert!(inspected.contains("400 documents of 400 works"), "{inspected}");
    must_succeed(&mut offline(&["data", "fetch", "mine"]));
    let error = refusal(&mut offline(&["data", "fetch", "gsm8k"]));
    assert!(error.contains("openai/gsm8k at main is not in the cache"), "{error}");
    assert_eq!(lab.server.asked(), []);

    let blob = fs::read_dir(&blobs).unwrap().next().unwrap().unwrap().path();
    let mut changed = bytes.clone();
    changed[7] ^= 1;
    fs::write(&blob, changed).unwrap();
    let error = refusal(&mut offline(&["data", "verify", "mine"]));
    assert!(error.contains("a.jsonl is damaged: its hash is sha256:"), "{error}");
}

#[test]
fn files_patterns_and_standard_input_are_inspected_alike() {
    let lab = Lab::new();
    let documents = texts(Synthetic::pretraining(1), 20);
    fs::write(lab.path("a.jsonl"), lines(&documents[..10])).unwrap();
    fs::write(lab.path("b.parquet"), parquet(&[("text", &documents[10..])])).unwrap();
    let pattern = lab.path("*.[jp]*");
    let both = stdout(&must_succeed(&mut lab.command(&["data", "inspect", &pattern])));
    assert!(both.contains("20 documents of 20 works"), "{both}");
    let mut child = lab.command(&["data", "inspect", "-"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&lines(&documents)).unwrap();
    let piped = stdout(&child.wait_with_output().unwrap());
    assert!(piped.contains("20 documents of 20 works"), "{piped}");
    let error = refusal(&mut lab.command(&["data", "inspect", "missing.jsonl"]));
    assert!(error.contains("missing.jsonl: No such file"), "{error}");
    let error = refusal(&mut lab.command(&["data", "inspect", "hub:missing"]));
    assert!(error.contains("must be one of"), "{error}");
}

/// Runs of a second.
const SETTINGS: &[&str] = &[
    "sizes.nano-tiny.batch=4",
    "grid.main.tokens_per_param=0.1",
    "grid.fig5.d_ft_tokens=320",
    "grid.fig5.steps=20",
    "finetuning.batch=4",
    "grid.fig5.sizes=nano-tiny",
    "grid.fig5.p=[0.0,0.5]",
    "grid.fig5.lr_ratios=1/30,1/3",
];

fn fig5(lab: &Lab, out: &Path, arguments: &[&str]) -> Command {
    let mut command = lab.command(&["fig5", "--device", "cpu", "--out"]);
    command.arg(out).args(arguments);
    for setting in TINY.iter().chain(SETTINGS) {
        command.args(["--set", setting]);
    }
    command
}

/// The repositories of the preset nano-hub, with text of the test's own in the form of theirs.
fn serve_nano_hub(lab: &Lab) {
    let far = Fraction::new(1.0).unwrap();
    let of = |kind, count| texts(Synthetic::target(kind, far, 1), count);
    let broad = parquet(&[("text", &texts(Synthetic::pretraining(1), 400))]);
    let (question, answer) = (of(Domain::Prose, 200), of(Domain::Arithmetic, 200));
    let mathematics = parquet(&[("question", &question), ("answer", &answer)]);
    let code = parquet(&[("text", &question), ("code", &of(Domain::Code, 200))]);
    let stories = of(Domain::Prose, 200).join("\n<|endoftext|>\n");
    let exchange = |i: usize| {
        let (instruction, response) = (&question[i], &answer[i]);
        let record = serde_json::json!({
            "instruction": instruction, "context": "", "response": response, "category": "x"
        });
        record.to_string() + "\n"
    };
    let dolly: String = (0..200).map(exchange).collect();
    let wiki = "20231101.simple/train-00000-of-00001.parquet";
    let other = File { name: "20231101.en/train-00000-of-00041.parquet", bytes: b"x", large: true };
    let pinned = "4bb6404fdc6cacfda99d4ac4205087b89d32030c";
    let file = |name, bytes| File { name, bytes, large: true };
    let server = &lab.server;
    server.dataset("wikimedia/wikipedia", "main", &commit('1'), &[file(wiki, &broad), other]);
    let main = "main/train-00000-of-00001.parquet";
    server.dataset("openai/gsm8k", "main", &commit('2'), &[file(main, &mathematics)]);
    let full = "full/test-00000-of-00001.parquet";
    server.dataset("google-research-datasets/mbpp", pinned, pinned, &[file(full, &code)]);
    let valid = file("TinyStories-valid.txt", stories.as_bytes());
    server.dataset("roneneldan/TinyStories", "main", &commit('3'), &[valid]);
    let dolly = file("databricks-dolly-15k.jsonl", dolly.as_bytes());
    server.dataset("databricks/databricks-dolly-15k", "main", &commit('4'), &[dolly]);
}

#[test]
fn figure_5_is_drawn_from_public_data_sets_by_a_preset() {
    let lab = Lab::new();
    serve_nano_hub(&lab);
    let out = lab.home.path().join("out");
    // A plan fetches nothing.
    let plan = must_succeed(&mut fig5(&lab, &out, &["--preset", "nano-hub", "--dry-run"]));
    assert!(stdout(&plan).contains('5'), "{}", stdout(&plan));
    assert_eq!(lab.server.asked(), []);
    lab.server.fault("/storage/", Fault::Cut(1000));
    let output = must_succeed(&mut fig5(&lab, &out, &["--preset", "nano-hub"]));
    assert!(!(stdout(&output) + &stderr(&output)).contains(TOKEN));
    let asked = lab.server.asked();
    assert!(asked.iter().any(|asked| asked.range.as_deref() == Some("bytes=1000-")));
    // The other files of the repository stay where they are.
    assert!(!asked.iter().any(|asked| asked.path.contains("20231101.en")));
    let table = fs::read(out.join("fig5/fig5.csv")).unwrap();
    let summary = fs::read_to_string(out.join("fig5/summary.md")).unwrap();
    assert!(summary.contains("hub:simple-wikipedia") && summary.contains("hub:gsm8k"), "{summary}");

    // A run's manifest says where its text is from.
    let manifests = fs::read_dir(out.join("runs")).unwrap().map(|run| {
        let text = fs::read_to_string(run.unwrap().path().join("manifest.json")).unwrap();
        assert!(!text.contains(TOKEN));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    });
    let manifests: Vec<_> = manifests.collect();
    assert_eq!(manifests.len(), 5);
    for manifest in &manifests {
        let fetched = &manifest["data"]["pretraining"]["fetched"];
        assert_eq!(fetched["commit"], commit('1'));
        assert!(fetched["files"][0]["hash"].as_str().unwrap().starts_with("sha256:"));
    }
    let target = |manifest: &&serde_json::Value| manifest["data"]["target"]["fetched"].is_object();
    let finetuned: Vec<_> = manifests.iter().filter(target).collect();
    assert_eq!(finetuned.len(), 4);
    assert_eq!(finetuned[0]["data"]["target"]["fetched"]["source"], "openai/gsm8k");

    // Again, and elsewhere, without the network: the same figure.
    must_succeed(&mut fig5(&lab, &out, &["--preset", "nano-hub"]));
    assert_eq!(lab.server.asked(), []);
    let elsewhere = lab.home.path().join("elsewhere");
    must_succeed(fig5(&lab, &elsewhere, &["--preset", "nano-hub"]).env("HF_HUB_OFFLINE", "1"));
    assert_eq!(fs::read(elsewhere.join("fig5/fig5.csv")).unwrap(), table);
    assert_eq!(lab.server.asked(), []);
}

#[test]
fn standard_input_and_patterns_are_text_to_train_on() {
    let lab = Lab::new();
    let out = lab.home.path().join("out");
    let far = Fraction::new(1.0).unwrap();
    let target = texts(Synthetic::target(Domain::Code, far, 1), 200);
    fs::write(lab.path("1.jsonl"), lines(&target[..100])).unwrap();
    fs::write(lab.path("2.parquet"), parquet(&[("text", &target[100..])])).unwrap();
    let pattern = format!("code={}", lab.path("[12].*"));
    let mut command = fig5(&lab, &out, &["--pretrain", "-", "--target", &pattern]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let broad = lines(&texts(Synthetic::pretraining(1), 400));
    child.stdin.take().unwrap().write_all(&broad).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let piped = fs::read(out.join("fig5/fig5.csv")).unwrap();
    // The same text from a file is the same run.
    fs::write(lab.path("broad.jsonl"), &broad).unwrap();
    let broad = lab.path("broad.jsonl");
    let other = lab.home.path().join("other");
    must_succeed(&mut fig5(&lab, &other, &["--pretrain", &broad, "--target", &pattern]));
    assert_eq!(fs::read(other.join("fig5/fig5.csv")).unwrap(), piped);

    let mut twice = fig5(&lab, &out, &["--pretrain", "-", "--target", "-"]);
    let error = refusal(twice.stdin(fs::File::open(&broad).unwrap()));
    assert!(error.contains("read only once"), "{error}");
    let error = refusal(&mut fig5(&lab, &out, &["--pretrain", "-"]));
    assert!(error.contains("standard input: the file is empty"), "{error}");
    let error = refusal(&mut fig5(&lab, &out, &["--pretrain", "hub:gsm8k", &broad]));
    assert!(error.contains("hub:gsm8k: must be the only source"), "{error}");
    let slurm = ["slurm", "--pretrain", "-", "--target", &broad];
    let error = refusal(&mut lab.command(&slurm));
    assert!(error.contains("read by only one process"), "{error}");
}

/// The files of the folder of data, without locks.
fn data_files(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut folders, mut files) = (vec![out.join("data")], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false if entry.ends_with(".lock") => {}
                false => drop(files.insert(entry.clone(), fs::read(&entry).unwrap())),
            }
        }
    }
    files
}

/// The records of all runs, by their folders.
fn records(out: &Path) -> BTreeMap<OsString, serde_json::Value> {
    let json = |path: &Path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let runs = fs::read_dir(out.join("runs")).unwrap().map(|run| run.unwrap());
    runs.map(|run| (run.file_name(), json(&run.path().join("record.json")))).collect()
}

/// Makes what is kept of text files say that their inodes did not change since.
fn believe_unchanged(out: &Path) {
    for entry in fs::read_dir(out.join("data")).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_string_lossy().starts_with("text-") {
            let mut known: serde_json::Value =
                serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
            for stamp in known["stamps"].as_array_mut().unwrap() {
                let now = fs::metadata(stamp["file"].as_str().unwrap()).unwrap();
                stamp["inode"] = serde_json::json!([now.ino(), now.ctime(), now.ctime_nsec()]);
            }
            fs::write(entry.path(), known.to_string()).unwrap();
        }
    }
}

/// Data is prepared by two processes at once and trains nothing; then the text is another one of the
/// same length and time (and, as far as what is kept says, of the same inode), which whoever read it
/// would notice, and nothing is prepared any more.
#[test]
fn what_was_prepared_is_all_that_runs_need() {
    let lab = Lab::new();
    let far = Fraction::new(1.0).unwrap();
    let (broad, code) = (lab.path("broad.jsonl"), lab.path("code.jsonl"));
    fs::write(&broad, lines(&texts(Synthetic::pretraining(1), 400))).unwrap();
    fs::write(&code, lines(&texts(Synthetic::target(Domain::Code, far, 1), 200))).unwrap();
    let named = format!("code={code}");
    for text in [&["--pretrain", &broad, "--target", &named][..], &[]] {
        let call = |command: &str, out: &Path, more: &[&str]| {
            let mut call = lab.command(&[command, "--block", "fig5", "--device", "cpu", "--out"]);
            call.arg(out).args(text).args(more);
            for setting in TINY.iter().chain(SETTINGS) {
                call.args(["--set", setting]);
            }
            call
        };
        let (plain, out) = (lab.home.path().join("plain"), lab.home.path().join("prepared"));
        must_succeed(&mut call("run", &plain, &[]));

        let prepare = || {
            let mut prepare = call("run", &out, &["--prepare-only"]);
            prepare.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        for both in [prepare(), prepare()] {
            let output = both.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            assert!(stdout(&output).contains("1 domain(s) prepared"), "{}", stdout(&output));
        }
        assert!(!out.join("runs").exists());
        for store in fs::read_dir(out.join("data/tokens")).unwrap() {
            let store = store.unwrap().path();
            must_succeed(&mut lab.command(&["data", "verify", store.to_str().unwrap()]));
        }

        let was = [&broad, &code].map(|path| {
            let (bytes, time) = (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified());
            let other = bytes.iter().map(|&byte| if byte == b'e' { b'a' } else { byte });
            fs::write(path, other.collect::<Vec<u8>>()).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(time.unwrap()).unwrap();
            bytes
        });
        believe_unchanged(&out);
        let prepared = data_files(&out);
        must_succeed(&mut call("plan", &out, &[]));
        must_succeed(&mut call("run", &out, &["--pretraining-only"]));
        let told = must_succeed(&mut call("run", &out, &["--workers-per-device", "2"]));
        assert!(stdout(&told).contains("5 of 5 runs done"), "{}", stdout(&told));
        assert_eq!(data_files(&out), prepared);
        let ids = |out: &Path| records(out).into_keys().collect::<Vec<_>>();
        assert_eq!(ids(&out), ids(&plain));
        // One that is alone makes the same losses, to the bit.
        fs::remove_dir_all(out.join("runs")).unwrap();
        must_succeed(&mut call("run", &out, &[]));
        assert_eq!(data_files(&out), prepared);
        assert_eq!(records(&out), records(&plain));
        for (path, bytes) in [&broad, &code].into_iter().zip(was) {
            fs::write(path, bytes).unwrap();
        }
        fs::remove_dir_all(&plain).unwrap();
        fs::remove_dir_all(&out).unwrap();
    }
    let lab = Lab::new();
    let refused = lab.command(&["run", "--prepare-only", "--pretraining-only"]).output().unwrap();
    assert!(!refused.status.success() && stderr(&refused).contains("cannot be used with"));
}

/// Conversations in the form of OpenHermes 2.5; every tenth answer is empty.
fn conversations(count: usize, answer: impl Fn(usize) -> String) -> String {
    let far = Fraction::new(1.0).unwrap();
    let asked = texts(Synthetic::target(Domain::Prose, far, 1), count as u64);
    let exchange = |(i, asked): (usize, &String)| {
        let asked: String = asked.chars().take(60).collect();
        let turn = |from: &str, value: &str| serde_json::json!({"from": from, "value": value});
        let turns = [turn("system", "Count."), turn("human", &asked), turn("gpt", &answer(i))];
        serde_json::json!({ "conversations": turns }).to_string() + "\n"
    };
    asked.iter().enumerate().map(exchange).collect()
}

/// Chats as they are published now; what is skipped is said on standard error.
#[test]
fn chats_with_roles_are_a_known_form_and_gaps_are_counted() {
    let lab = Lab::new();
    let turn =
        |role: &str, content: Option<&str>| serde_json::json!({"role": role, "content": content});
    let turns =
        [turn("user", Some("Rivers?")), turn("assistant", None), turn("assistant", Some("Elbe."))];
    let chat = serde_json::json!({ "messages": turns }).to_string();
    let shards = lab.path("shards");
    fs::create_dir(&shards).unwrap();
    let write = |name: &str, text: &str| fs::write(Path::new(&shards).join(name), text).unwrap();
    write("a.jsonl", &format!("{chat}\n{{\"messages\": null}}\n"));
    write("b.jsonl", "");
    let inspect = ["data", "inspect", &shards, "--like", "messages", "--loss", "answer"];
    let error = refusal(&mut lab.command(&inspect));
    assert!(error.contains("a.jsonl, line 2") && error.contains("--skip-missing"), "{error}");
    let said = must_succeed(&mut lab.command(&[&inspect[..], &["--skip-missing"]].concat()));
    assert!(stdout(&said).contains("the first begins: [INST] Rivers? [/INST] Elbe."));
    let warnings = stderr(&said);
    assert!(warnings.contains("b.jsonl: no text in it, skipped"), "{warnings}");
    assert!(warnings.contains("a.jsonl: records without text, skipped: 1"), "{warnings}");
    let error = refusal(&mut lab.command(&["data", "inspect", &shards, "--like", "chat"]));
    assert!(error.contains("or a format: messages, conversations, alpaca"), "{error}");
}

/// The records and manifests of the finetunings, by their folders.
fn finetunings(out: &Path) -> Vec<(serde_json::Value, serde_json::Value)> {
    let json = |path: &Path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let runs = fs::read_dir(out.join("runs")).unwrap().map(|run| run.unwrap().path());
    let both = runs.filter(|run| run.join("record.json").exists()).map(|run| {
        let pair: (serde_json::Value, serde_json::Value) =
            (json(&run.join("record.json")), json(&run.join("manifest.json")));
        pair
    });
    both.filter(|(_, manifest)| manifest["data"]["target"].is_object()).collect()
}

#[test]
fn answers_alone_count_where_that_is_asked_for() {
    let lab = Lab::new();
    let of_answers = |i| if i % 10 == 0 { String::new() } else { format!("{i} and {i}.") };
    let text = conversations(300, of_answers);
    let chats = lab.path("chats.jsonl");
    fs::write(&chats, &text).unwrap();
    let like = ["--like", "openhermes-2.5"];
    let with = |command: &[&str], more: &[&str]| lab.command(&[command, &like, more].concat());

    let inspect = ["data", "inspect", &chats];
    let said = stdout(&must_succeed(&mut with(&inspect, &["--loss", "answer"])));
    assert!(said.contains("300 documents") && said.contains("nothing of 30 documents"), "{said}");
    assert!(!stdout(&must_succeed(&mut with(&inspect, &[]))).contains("in the loss"));

    // A store keeps the mask, and its damage is seen.
    let store = lab.path("store");
    let prepare = ["data", "prepare", "--data", &chats, "--vocab", "300", "--out", &store];
    let said = stdout(&must_succeed(&mut with(&prepare, &["--loss", "answer"])));
    assert!(said.contains("of them count in the loss"), "{said}");
    let verify = ["data", "verify", &store];
    let said = stdout(&must_succeed(&mut lab.command(&verify)));
    assert!(said.contains("count in the loss: all unchanged"), "{said}");
    let error = refusal(&mut with(&prepare, &[]));
    assert!(error.contains("another source or tokenizer"), "{error}");
    let mut shards = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let shard = shards.find(|path| path.extension().is_some_and(|e| e == "tokens")).unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    fs::write(&shard, &bytes).unwrap();
    let name = shard.file_name().unwrap().to_str().unwrap();
    assert!(refusal(&mut lab.command(&verify)).contains(name));
    bytes.pop();
    fs::write(&shard, &bytes).unwrap();
    assert!(refusal(&mut lab.command(&verify)).contains(name));

    // Runs on answers are others than those on all, and say how much counts.
    let target = format!("chat={chats}");
    let train = |out: &Path, more: &[&str]| {
        let mut command = fig5(&lab, out, &[&["--target", &target], more].concat());
        command.args(["--set", "data.like=openhermes-2.5"]);
        command
    };
    let [all, answers, named] = ["all", "answers", "named"].map(|name| lab.home.path().join(name));
    must_succeed(&mut train(&all, &[]));
    must_succeed(&mut train(&answers, &["--set", "data.loss=answer"]));
    let table = |out: &Path| fs::read_to_string(out.join("fig5/fig5.csv")).unwrap();
    assert_ne!(table(&all), table(&answers));
    let pretrained = |out: &Path| fs::read_dir(out.join("runs")).unwrap().count();
    assert_eq!((pretrained(&all), pretrained(&answers)), (5, 5));
    for (record, manifest) in finetunings(&all) {
        assert!(record["realised"]["counted_tokens"].is_null());
        assert!(manifest["data"]["target"]["counts"]["validation"]["counted"].is_null());
    }
    let finetuned = finetunings(&answers);
    assert_eq!(finetuned.len(), 4);
    for (record, manifest) in finetuned {
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        let counts = &manifest["data"]["target"]["counts"];
        for part in ["validation", "training"] {
            let (counted, tokens) = (&counts[part]["counted"], &counts[part]["tokens"]);
            assert!(number(counted) > 0 && 2 * number(counted) < number(tokens), "{counts}");
        }
        assert!(manifest["data"]["pretraining"]["counts"]["training"]["counted"].is_null());
        let realised = &record["realised"];
        assert_eq!(number(&realised["unique_tokens"]), 320);
        assert!(number(&realised["unique_counted_tokens"]) < 160, "{realised}");
        let (counted, injected) = (&realised["counted_tokens"], &realised["injected_tokens"]);
        assert!(number(counted) > number(injected), "{realised}");
        assert!(number(counted) < number(&realised["tokens"]), "{realised}");
    }

    // An entry of a registry can ask for it, too: the same text, the same runs.
    let files = [File { name: "chats.jsonl", bytes: text.as_bytes(), large: true }];
    lab.server.dataset("me/chats", "main", &commit('a'), &files);
    let registry = lab.path("chats.toml");
    let entry = "[chats]\nabout = 'x'\nrepository = 'me/chats'\nfiles = ['*.jsonl']\n\
                 licence = 'CC0'\nloss = 'answer'\n\
                 instructions = { turns = 'conversations', speaker = 'from', words = 'value', \
                 human = ['system', 'human'], model = ['gpt'] }\n";
    fs::write(&registry, entry).unwrap();
    let target = ["--registry", &registry, "--target", "chat=hub:chats"];
    must_succeed(&mut fig5(&lab, &named, &target));
    assert_eq!(table(&named), table(&answers));
    let list = lab.command(&["data", "list", "--registry", &registry]).output().unwrap();
    assert!(stdout(&list).contains("of answers only"));

    // A model is measured on answers.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/checkpoint/nano-small");
    let eval = ["eval", golden.to_str().unwrap(), "--data", &chats];
    let losses = lab.path("losses.json");
    let measured = |more: &[&str]| {
        must_succeed(with(&eval, &["--json", &losses]).args(more));
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&losses).unwrap()).unwrap();
        (json["loss"].as_f64().unwrap(), json["tokens"].as_u64().unwrap())
    };
    let ((all, of_all), (answers, of_answers)) = (measured(&[]), measured(&["--loss", "answer"]));
    assert!(2 * of_answers < of_all && of_answers > 0, "{of_answers} of {of_all}");
    assert_ne!(all, answers);
}

#[test]
fn answers_that_are_not_there_are_said_in_one_line() {
    let lab = Lab::new();
    let chats = lab.path("chats.jsonl");
    fs::write(&chats, conversations(200, |_| " ".into())).unwrap();
    let out = lab.home.path().join("out");
    let train = |more: &[&str]| {
        let set = ["--target", &format!("chat={chats}"), "--set", "data.loss=answer"];
        refusal(&mut fig5(&lab, &out, &[&set, more].concat()))
    };
    let error = train(&["--set", "data.like=openhermes-2.5"]);
    assert!(error.contains("validation tokens of the target chat = 1024: none"), "{error}");
    let error = train(&["--set", "data.text_field=conversations"]);
    assert!(error.contains("is an array"), "{error}");
    let error = train(&["--set", "data.like=nothing"]);
    assert!(error.contains("must be one of c4, dolly"), "{error}");
    fs::write(&chats, lines(&texts(Synthetic::pretraining(1), 100))).unwrap();
    let error = train(&[]);
    assert!(error.contains("data.loss = answer: no target is of instructions"), "{error}");
    let error = train(&["--set", "data.loss=question"]);
    assert!(error.contains("question") && error.contains("answer"), "{error}");
    let inspect = ["data", "inspect", &chats, "--loss", "answer"];
    let error = refusal(&mut lab.command(&inspect));
    assert!(error.contains("--loss = answer") && error.contains("--like"), "{error}");
}

#[test]
fn a_model_of_the_hub_is_one_like_any_other() {
    let lab = Lab::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/checkpoint/nano-small");
    let names = ["config.json", "model.safetensors", "tokenizer.json"];
    let bytes = names.map(|name| fs::read(golden.join(name)).unwrap());
    let file = |i: usize| File { name: names[i], bytes: &bytes[i], large: i == 1 };
    let other = File { name: "model.onnx", bytes: b"not asked for", large: true };
    let files = [file(0), file(1), file(2), other];
    lab.server.model("we/nano", "main", &commit('c'), &files);
    let text = lab.path("text.txt");
    fs::write(&text, "rik taid faik").unwrap();
    let of =
        |model: &str| stdout(&must_succeed(&mut lab.command(&["eval", model, "--data", &text])));
    // A transfer that breaks off goes on by itself.
    lab.server.fault("/storage/", Fault::Cut(1000));
    assert_eq!(of("hub:we/nano"), of(golden.to_str().unwrap()));
    let asked = lab.server.asked();
    assert!(!asked.iter().any(|asked| asked.path.contains("onnx")));
    let storage = |asked: &&loopback::Asked| asked.path.contains("/storage/");
    assert!(asked.iter().filter(storage).all(|asked| asked.token.is_none()));
    // By its bare name and at its commit too, from the cache.
    assert_eq!(of("we/nano"), of(&format!("hub:we/nano@{}", commit('c'))));
    assert!(!lab.server.asked().iter().any(|asked| asked.path.contains("resolve")));

    let out = lab.path("out");
    let set = ["grid.main.sizes=nano-micro", "data.pretrain_tokens=4096"];
    let mut plan =
        lab.command(&["fig1", "--dry-run", "--pretrained", "hub:we/nano", "--out", &out]);
    let said = stdout(&must_succeed(plan.args(["--set", set[0], "--set", set[1]])));
    assert!(said.contains("nano ") && said.contains("FLOPs left"), "{said}");
    let said = refusal(&mut lab.command(&["sample", "hub:we/none"]));
    assert!(said.contains("we/none"), "{said}");
}

/// A tiny model in the form of OLMo's own code, as DataDecide's are: its configuration and its tensors.
fn datadecide(n_layers: usize) -> [Vec<u8>; 2] {
    let (d, vocab, context) = (16, 512, 64);
    let shape = Shape {
        positions: Positions::Rotary,
        norm: Norm { kind: NormKind::Rms, epsilon: 1e-5 },
        mlp: Mlp { d_ff: Some(4 * d), activation: Activation::Swiglu },
        head: Head::Own,
        ..Shape::gpt2(n_layers, d, 2, vocab, context)
    };
    let config = serde_json::json!({
        "model_type": "hf_olmo", "d_model": d, "n_heads": 2, "n_layers": n_layers, "mlp_ratio": 8,
        "vocab_size": vocab, "embedding_size": vocab, "max_sequence_length": context, "rope": true,
        "rope_theta": 10000, "include_bias": false, "bias_for_layer_norm": false,
        "layer_norm_type": "rms", "layer_norm_with_affine": true, "activation_type": "swiglu",
        "weight_tying": false, "eos_token_id": 0,
    });
    let model = Checkpoint::initial(shape, Key::new(n_layers as u64)).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in shape.layout().tensors() {
        let name = match tensor.name.as_str() {
            "wte" => "wte.weight".to_string(),
            "head.weight" => "ff_out.weight".to_string(),
            other => ["ln_1 attn_norm", "attn.qkv att_proj", "attn.proj attn_out", "ln_2 ff_norm"]
                .into_iter()
                .chain(["mlp.fc ff_proj", "mlp.proj ff_out"])
                .filter_map(|pair| pair.split_once(' '))
                .fold(other.replace("h.", "blocks."), |name, (ours, theirs)| {
                    name.replace(ours, theirs)
                }),
        };
        let mut values = model.theta[tensor.range()].to_vec();
        if name.contains("ff_proj") {
            // The gate is the second half there.
            values.rotate_left(tensor.len() / 2);
        }
        let begin = data.len();
        data.extend(values.into_iter().flat_map(f32::to_le_bytes));
        let place = serde_json::json!({
            "dtype": "F32", "shape": tensor.dims, "data_offsets": [begin, data.len()],
        });
        header.insert(format!("model.transformer.{name}"), place);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let weights = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    [config.to_string().into_bytes(), weights]
}

/// The sizes of DataDecide that were asked for, or those whose parameters were.
fn sizes_asked(asked: &[loopback::Asked], weights: bool) -> BTreeSet<String> {
    let of = |asked: &loopback::Asked| {
        let name = asked.path.split("allenai/DataDecide-c4-").nth(1)?;
        let is_weights = name.contains(".safetensors");
        (is_weights || !weights).then(|| name.split('/').next().unwrap_or_default().to_string())
    };
    asked.iter().filter_map(of).collect()
}

/// The preset on models and texts that are laid out as the Hub's.
#[test]
fn the_grid_on_datadecides_models_is_planned_and_run() {
    let lab = Lab::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/checkpoint/nano-small");
    let tokenizer = fs::read(golden.join("tokenizer.json")).unwrap();
    for (size, layers) in [("60M", 1), ("90M", 2), ("300M", 3), ("750M", 4), ("1B", 5)] {
        let [config, weights] = datadecide(layers);
        let files = [
            File { name: "config.json", bytes: &config, large: false },
            File { name: "tokenizer.json", bytes: &tokenizer, large: false },
            File { name: "model.safetensors", bytes: &weights, large: true },
        ];
        let digit = char::from_digit(layers as u32, 10).unwrap();
        lab.server.model(&format!("allenai/DataDecide-c4-{size}"), "main", &commit(digit), &files);
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&lines(&texts(Synthetic::pretraining(1), 400))).unwrap();
    let c4 = gzip.finish().unwrap();
    let [first, second] =
        ["en/c4-train.00000-of-01024.json.gz", "en/c4-train.00001-of-01024.json.gz"];
    let files = [first, second].map(|name| File { name, bytes: &c4, large: true });
    lab.server.dataset("allenai/c4", "main", &commit('a'), &files);
    let far = Fraction::new(1.0).unwrap();
    let of_subset = |(i, text): (usize, &String)| {
        let subset = ["ArXiv", "Github"][i % 2];
        let record = serde_json::json!({ "text": text, "meta": { "pile_set_name": subset } });
        record.to_string() + "\n"
    };
    let code = texts(Synthetic::target(Domain::Code, far, 1), 400);
    let pile: String = code.iter().enumerate().map(of_subset).collect();
    let pile = zstd::encode_all(pile.as_bytes(), 1).unwrap();
    let file = File { name: "train/00.jsonl.zst", bytes: &pile, large: true };
    lab.server.dataset("monology/pile-uncopyrighted", "main", &commit('b'), &[file]);

    let out = lab.path("out");
    let settings = [
        "model.context=16",
        "data.pretrain_tokens=1024",
        "data.injection_tokens=4000",
        "data.validation_tokens=1024",
        "finetuning.batch=4",
        "grid.main.d_ft_tokens=512,1024",
        "grid.main.p=0,0.05",
        "grid.main.steps=4",
        "run.threads=1",
    ];
    let command = |name: &str, more: &[&str]| {
        let mut command = lab.command(&[name, "--preset", "datadecide", "--block", "main"]);
        for setting in settings.iter().chain(more) {
            command.args(["--set", setting]);
        }
        command.args(["--out", &out]);
        command
    };
    // A plan asks for configurations and tokenizers, and for nothing that is large.
    let plan = stdout(&must_succeed(&mut command("plan", &["run.device_memory=80GB"])));
    assert!(plan.contains("\n225 runs, 0 done"), "{plan}");
    assert!(plan.contains("memory: at most ") && plan.contains("of 80.000"), "{plan}");
    for size in ["60M", "90M", "300M", "750M", "1B"] {
        assert!(plan.contains(&format!("\n{size} ")), "{size}: {plan}");
    }
    let asked = lab.server.asked();
    assert!(!asked.iter().any(|asked| asked.path.contains("/storage/")));
    // Nor for the sizes of other blocks.
    let of_main = ["60M", "90M", "300M", "750M", "1B"].map(String::from);
    assert_eq!(sizes_asked(&asked, false), BTreeSet::from(of_main));
    let here = ["run.engine=cpu", "model.precision=f32"];
    let target = ["--target", "arxiv=hub:pile-uncopyrighted/arxiv"];
    let mut run = command("run", &here);
    let said = refusal(run.args(["--size", "4M"]));
    assert!(said.contains("--size = 4M: is not a size of these blocks"), "{said}");
    let mut run = command("run", &[&here[..], &["run.device_memory=1MB"]].concat());
    let little = refusal(run.args(target).args(["--size", "1B"]));
    assert!(little.contains("run.device_memory = 0.001 GB for "), "{little}");
    // One size has one model's parameters downloaded, two have two.
    let mut fetched = BTreeSet::new();
    for (sizes, runs) in [(&["1B"][..], 5), (&["1B", "60M"], 10)] {
        let mut run = command("run", &here);
        run.args(target).args(sizes.iter().flat_map(|size| ["--size", size]));
        let said = stdout(&must_succeed(&mut run));
        assert!(said.contains(&format!("{runs} of {runs} runs done")), "{said}");
        fetched.append(&mut sizes_asked(&lab.server.asked(), true));
        assert!(fetched.iter().eq(sizes), "{fetched:?}");
        // They are not read a second time: what is known of each is kept from the first run on.
        let kept = fs::read_dir(Path::new(&out).join("data")).unwrap();
        let kept = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
        assert_eq!(kept.filter(|name| name.starts_with("model-")).count(), sizes.len());
    }
    // Nor do results of all blocks fetch the parameters of sizes without a run.
    let mut export = lab.command(&["export", "--preset", "datadecide", "--out", &out]);
    let few = ["grid.small.sizes=60M", "grid.fig5.d_ft_tokens=512", "grid.seeds.d_ft_tokens=512"];
    for setting in settings.iter().chain(&here).chain(&few) {
        export.args(["--set", setting]);
    }
    must_succeed(export.args(target));
    let losses = fs::read_to_string(Path::new(&out).join("losses.csv")).unwrap();
    let sizes: BTreeSet<&str> =
        losses.lines().skip(1).filter_map(|line| line.split(',').nth(1)).collect();
    assert_eq!(sizes, BTreeSet::from(["1B", "60M"]), "{losses}");
    let asked = sizes_asked(&lab.server.asked(), true);
    assert!(asked.is_empty(), "{asked:?}");
}
