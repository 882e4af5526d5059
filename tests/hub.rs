//! The Hub's client against a server on loopback: every way in which a transfer can fail.

#![cfg(feature = "hub")]

mod loopback;

use forgetting_laws::data::registry::Registry;
use forgetting_laws::hub::{Fetched, Hash, Hub, HubError, Kind, Patience, Progress, Repository};
use forgetting_laws::hub::{Settings, Snapshot, Token};
use forgetting_laws::store::sha256;
use forgetting_laws::{Error, Result};
use loopback::{Fault, File, Loopback, commit};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

const ID: &str = "someone/texts";
const TOKEN: &str = "hf_very_secret";

/// A server with a repository of a large and a small file, and a home for the client.
struct Lab {
    server: Loopback,
    home: TempDir,
    large: Vec<u8>,
}

impl Lab {
    fn new() -> Self {
        let server = Loopback::start();
        let large: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let lab = Self { server, home: tempfile::tempdir().unwrap(), large };
        lab.server.dataset(ID, "main", &commit('a'), &lab.files());
        lab
    }

    fn files(&self) -> [File<'_>; 2] {
        [
            File { name: "data/large 1.bin", bytes: &self.large, large: true },
            File { name: "README.md", bytes: b"# Texts\n", large: false },
        ]
    }

    fn settings(&self) -> Settings {
        let home = self.home.path().to_str().unwrap().to_string();
        let endpoint = self.server.endpoint.clone();
        let mut settings = Settings::of(|name| match name {
            "HF_HOME" => Some(home.clone()),
            "HF_ENDPOINT" => Some(endpoint.clone()),
            "HF_TOKEN" => Some(TOKEN.into()),
            _ => None,
        })
        .unwrap();
        settings.patience.pause = Duration::from_millis(1);
        settings.patience.attempts = 3;
        settings
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings())
    }

    fn offline(&self) -> Hub {
        Hub::new(Settings { offline: true, ..self.settings() })
    }

    /// A client that gives up at once.
    fn impatient(&self) -> Hub {
        let patience = Patience { attempts: 1, ..self.settings().patience };
        Hub::new(Settings { patience, ..self.settings() })
    }

    fn snapshot(&self, hub: &Hub) -> Result<Snapshot> {
        hub.snapshot(&repository("main"), &())
    }

    fn fetch(&self, hub: &Hub) -> Result<Fetched> {
        hub.fetch(&self.snapshot(hub)?, "data/large 1.bin", &())
    }

    /// The error, after a look that it is one line without the secrets.
    #[track_caller]
    fn refusal(&self, hub: &Hub) -> HubError {
        refusal(self.fetch(hub))
    }

    fn folder(&self) -> std::path::PathBuf {
        self.home.path().join("hub/datasets--someone--texts")
    }
}

fn repository(revision: &str) -> Repository {
    Repository::new(ID, Kind::Dataset, revision).unwrap()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T>) -> HubError {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    for secret in [TOKEN, "signature"] {
        assert!(!format!("{text} {error:?}").contains(secret), "{error:?}");
    }
    match error {
        Error::Hub(error) => error,
        other => panic!("{other:?}"),
    }
}

/// The ranges of the requests for bytes at the storage.
fn ranges(lab: &Lab) -> Vec<Option<String>> {
    let asked = lab.server.asked();
    let gets = asked.into_iter().filter(|a| a.method == "GET" && a.path.starts_with("/storage/"));
    gets.map(|asked| asked.range).collect()
}

#[test]
fn a_file_is_fetched_verified_and_put_where_the_hubs_clients_look() {
    let lab = Lab::new();
    let snapshot = lab.snapshot(&lab.hub()).unwrap();
    assert_eq!(snapshot.commit, commit('a'));
    assert_eq!(snapshot.files, ["README.md", "data/large 1.bin"]);
    let large = lab.hub().fetch(&snapshot, "data/large 1.bin", &()).unwrap();
    assert_eq!(large.hash, Hash::Sha256(sha256(&lab.large)));
    assert_eq!((fs::read(&large.path).unwrap(), large.size), (lab.large.clone(), 300_000));
    let small = lab.hub().fetch(&snapshot, "README.md", &()).unwrap();
    // `git hash-object` of the text.
    assert_eq!(small.hash, Hash::Git("fc11b3f4529e92079af1db128f64cec4fc772ec8".into()));

    let folder = lab.folder();
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), commit('a'));
    assert_eq!(large.path, folder.join("snapshots").join(commit('a')).join("data/large 1.bin"));
    let blob = folder.join("blobs").join(large.hash.hex());
    assert_eq!(large.path.canonicalize().unwrap(), blob.canonicalize().unwrap());
    assert_eq!(fs::read_dir(folder.join("blobs")).unwrap().count(), 2);
    // hf-hub itself finds it.
    let cache = hf_hub::Cache::new(lab.home.path().join("hub"));
    assert_eq!(cache.dataset(ID.into()).get("data/large 1.bin"), Some(large.path.clone()));

    // Again: no request for the file, none at all by the commit or offline.
    lab.server.asked();
    assert_eq!(lab.fetch(&lab.hub()).unwrap(), large);
    assert_eq!(lab.server.asked().len(), 1);
    let pinned = lab.hub().snapshot(&repository(&commit('a')), &()).unwrap();
    assert_eq!(lab.hub().fetch(&pinned, "README.md", &()).unwrap(), small);
    assert_eq!(lab.fetch(&lab.offline()).unwrap(), large);
    assert_eq!(lab.server.asked(), []);
}

#[test]
fn the_token_goes_to_the_endpoint_alone() {
    let lab = Lab::new();
    lab.server.private(TOKEN);
    lab.fetch(&lab.hub()).unwrap();
    for asked in lab.server.asked() {
        let expected = (!asked.path.starts_with("/storage/")).then(|| format!("Bearer {TOKEN}"));
        assert_eq!(asked.token, expected, "{}", asked.path);
    }
    assert!(!format!("{:?}", lab.hub()).contains(TOKEN));
    let none = Hub::new(Settings { token: None, ..lab.settings() });
    let error = refusal(none.snapshot(&repository("main"), &()));
    assert!(matches!(error, HubError::Refused { status: 401, .. }), "{error}");
    assert!(error.to_string().contains("HF_TOKEN"));
    let wrong = Hub::new(Settings { token: Token::new("hf_wrong").unwrap(), ..lab.settings() });
    refusal(wrong.snapshot(&repository("main"), &()));
}

/// A mirror that redirects to the Hub and names no hash: that of the Hub counts, and the mirror's
/// token does not reach it.
#[test]
fn a_mirror_may_hand_every_request_on() {
    let (lab, mirror) = (Lab::new(), Loopback::start());
    lab.server.mirrored_by(&mirror, ID, &commit('a'), &lab.files());
    mirror.private(TOKEN);
    let hub = Hub::new(Settings { endpoint: mirror.endpoint.clone(), ..lab.settings() });
    let large = lab.fetch(&hub).unwrap();
    assert_eq!(large.hash, Hash::Sha256(sha256(&lab.large)));
    assert_eq!(fs::read(&large.path).unwrap(), lab.large);
    hub.fetch(&lab.snapshot(&hub).unwrap(), "README.md", &()).unwrap();
    assert!(mirror.asked().iter().all(|asked| asked.token.is_some()));
    let asked = lab.server.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.token.is_none()), "{asked:?}");

    // The bytes are compared with the hash as ever.
    let (lab, mirror) = (Lab::new(), Loopback::start());
    lab.server.mirrored_by(&mirror, ID, &commit('a'), &lab.files());
    lab.server.fault("/storage/", Fault::Wrong);
    let hub = Hub::new(Settings { endpoint: mirror.endpoint.clone(), ..lab.settings() });
    assert!(matches!(lab.refusal(&hub), HubError::WrongHash { .. }));
}

#[test]
fn a_transfer_that_breaks_off_goes_on_with_the_rest_alone() {
    let lab = Lab::new();
    // Within one call...
    lab.server.fault("/storage/", Fault::Cut(100_000));
    lab.server.fault("/storage/", Fault::Cut(50_000));
    let fetched = lab.fetch(&lab.hub()).unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), lab.large);
    let expected = [None, Some("bytes=100000-".to_string()), Some("bytes=150000-".to_string())];
    assert_eq!(ranges(&lab), expected);

    // ... and in the next one.
    let lab = Lab::new();
    lab.server.fault("/storage/", Fault::Cut(123_456));
    let error = lab.refusal(&lab.impatient());
    assert!(
        matches!(error, HubError::Interrupted { got: 123_456, size: Some(300_000), .. }),
        "{error}"
    );
    lab.server.asked();
    let fetched = lab.fetch(&lab.impatient()).unwrap();
    assert_eq!(ranges(&lab), [Some("bytes=123456-".to_string())]);
    assert_eq!(fs::read(&fetched.path).unwrap(), lab.large);
    assert_eq!(fs::read_dir(lab.folder().join("blobs")).unwrap().count(), 1);
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_of_it_again() {
    let lab = Lab::new();
    lab.server.fault("/storage/", Fault::Cut(1_000));
    lab.server.fault("/storage/", Fault::NoRange);
    assert_eq!(fs::read(lab.fetch(&lab.hub()).unwrap().path).unwrap(), lab.large);
}

#[test]
fn more_than_there_is_is_forgotten() {
    let lab = Lab::new();
    let blobs = lab.folder().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{}.incomplete", sha256(&lab.large)));
    fs::write(&partial, vec![0; 300_001]).unwrap();
    assert_eq!(fs::read(lab.fetch(&lab.hub()).unwrap().path).unwrap(), lab.large);
    assert_eq!(ranges(&lab), [None]);
}

#[test]
fn wrong_bytes_get_no_place() {
    let lab = Lab::new();
    lab.server.fault("/storage/", Fault::Wrong);
    let error = lab.refusal(&lab.hub());
    let HubError::WrongHash { expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!(expected.hex(), sha256(&lab.large));
    assert_ne!(expected, found);
    assert_eq!(fs::read_dir(lab.folder().join("blobs")).unwrap().count(), 0);
    assert!(!lab.folder().join("snapshots").exists());
    // Also where the beginning was right.
    lab.server.fault("/storage/", Fault::Cut(1_000));
    lab.server.fault("/storage/", Fault::Wrong);
    assert!(matches!(lab.refusal(&lab.hub()), HubError::WrongHash { .. }));
    let fetched = lab.fetch(&lab.hub()).unwrap();
    fetched.verify().unwrap();
    // And what changes later is noticed.
    let blob = fetched.path.canonicalize().unwrap();
    fs::write(&blob, &lab.large[1..]).unwrap();
    let error = fetched.verify().unwrap_err().to_string();
    assert!(error.contains("large 1.bin is damaged: its hash is sha256:"), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let lab = Lab::new();
    let coded = |code: &str| vec![("X-Error-Code", code.to_string())];
    let cases = [
        (401, vec![], "refuses access (401)"),
        (403, vec![], "HF_TOKEN"),
        (404, coded("EntryNotFound"), "there is no such file at 127.0.0.1:"),
        (404, coded("RevisionNotFound"), "there is no such revision at 127.0.0.1:"),
        (418, vec![], "status 418"),
    ];
    for (status, headers, expected) in cases {
        lab.server.fault_of_head("/resolve/", Fault::Status(status, headers));
        lab.server.asked();
        let error = lab.refusal(&lab.hub()).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.starts_with("datasets/someone/texts/data/large 1.bin: "), "{error}");
        // No second attempt: it would fail in the same way.
        assert_eq!(lab.server.asked().iter().filter(|asked| asked.method == "HEAD").count(), 1);
    }
    for status in [401, 403] {
        lab.server.fault_of_head("/resolve/", Fault::Status(status, coded("GatedRepo")));
        let error = lab.refusal(&lab.hub());
        let HubError::Gated { page, .. } = &error else { panic!("{error}") };
        assert_eq!(*page, format!("{}/datasets/{ID}", lab.server.endpoint));
    }
    let missing = Repository::new("someone/else", Kind::Dataset, "main").unwrap();
    let error = refusal(lab.hub().snapshot(&missing, &()));
    assert!(matches!(error, HubError::NotFound { kind: "repository", .. }), "{error}");
}

/// Takes down what is waited for.
#[derive(Default)]
struct Waits(Mutex<Vec<(String, Duration)>>);

impl Progress for Waits {
    fn started(&self, _what: &str, _here: u64, _size: Option<u64>) {}
    fn advanced(&self, _bytes: u64) {}
    fn waiting(&self, _what: &str, why: &HubError, pause: Duration) {
        self.0.lock().unwrap().push((why.to_string(), pause));
    }
    fn finished(&self) {}
}

#[test]
fn faults_that_pass_are_waited_for_as_long_as_the_server_asks() {
    let lab = Lab::new();
    let after = |seconds: &str| vec![("Retry-After", seconds.to_string())];
    lab.server.fault("/revision/", Fault::Status(429, after("1")));
    lab.server.fault("/storage/", Fault::Status(500, vec![]));
    lab.server.fault("/storage/", Fault::Status(503, after("0")));
    let waits = Waits::default();
    let hub = lab.hub();
    let snapshot = hub.snapshot(&repository("main"), &waits).unwrap();
    hub.fetch(&snapshot, "data/large 1.bin", &waits).unwrap();
    let waits = waits.0.into_inner().unwrap();
    let pauses: Vec<u64> = waits.iter().map(|(_, pause)| pause.as_millis() as u64).collect();
    assert_eq!(pauses, [1000, 1, 1], "{waits:?}");
    assert!(waits[0].0.contains("limits the rate of requests and asks to wait 1 s"), "{waits:?}");

    // Three attempts, and no more.
    let lab = Lab::new();
    for _ in 0..3 {
        lab.server.fault_of_head("/resolve/", Fault::Status(502, vec![]));
    }
    let error = lab.refusal(&lab.hub());
    assert!(matches!(error, HubError::Server { status: 502, .. }), "{error}");
    // Nobody waits for an hour.
    lab.server.fault_of_head("/resolve/", Fault::Status(429, after("3600")));
    let error = lab.refusal(&lab.hub());
    assert!(matches!(error, HubError::RateLimited { wait: Some(3600), .. }), "{error}");
}

#[test]
fn nobody_there_is_said() {
    let lab = Lab::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let hub = Hub::new(Settings { endpoint, ..lab.settings() });
    let error = refusal(hub.snapshot(&repository("main"), &()));
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    // One that listens and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let silence = Duration::from_millis(50);
    let patience = Patience { silence, ..lab.settings().patience };
    let hub = Hub::new(Settings { endpoint, patience, ..lab.settings() });
    let error = refusal(hub.snapshot(&repository("main"), &()));
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
}

#[test]
fn offline_only_what_is_here_is_used() {
    let lab = Lab::new();
    let error = refusal(lab.snapshot(&lab.offline()));
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    let snapshot = lab.snapshot(&lab.hub()).unwrap();
    lab.server.asked();
    assert_eq!(lab.snapshot(&lab.offline()).unwrap(), snapshot);
    let error = refusal(lab.offline().fetch(&snapshot, "README.md", &()));
    assert!(
        error.to_string().contains("datasets/someone/texts/README.md is not in the cache"),
        "{error}"
    );
    let url = format!("{}/listing.txt", lab.server.storage);
    assert!(matches!(refusal(lab.offline().fetch_url(&url, "x", &())), HubError::Offline { .. }));
    assert_eq!(lab.server.asked(), []);
}

/// A device that is always full stands in for the disk.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_said_and_the_next_call_goes_on() {
    let lab = Lab::new();
    let blobs = lab.folder().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{}.incomplete", sha256(&lab.large)));
    std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
    let error = lab.refusal(&lab.hub());
    assert!(matches!(&error, HubError::DiskFull { path, .. } if *path == partial), "{error}");
    assert!(error.to_string().contains("HF_HOME"), "{error}");
    fs::remove_file(&partial).unwrap();
    lab.fetch(&lab.hub()).unwrap();
}

#[test]
fn names_that_climb_out_of_the_folder_are_refused() {
    for name in ["../../../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", ""] {
        let lab = Lab::new();
        lab.server.dataset(ID, "main", &commit('b'), &[File { name, bytes: b"x", large: false }]);
        let error = refusal(lab.snapshot(&lab.hub()));
        assert!(matches!(&error, HubError::UnsafeName { name: n, .. } if n == name), "{error}");
        let snapshot = Snapshot {
            repository: repository("main"),
            commit: commit('b'),
            files: vec![name.into()],
        };
        assert!(matches!(
            refusal(lab.hub().fetch(&snapshot, name, &())),
            HubError::UnsafeName { .. }
        ));
        assert!(!lab.home.path().join("hub").exists());
        lab.server.file("/listing.txt", format!("good\n{name} \n../bad\n").as_bytes(), None);
        let error = lab.hub().listing(&format!("{}/listing.txt", lab.server.endpoint), &());
        assert!(matches!(refusal(error), HubError::UnsafeName { .. }));
    }
}

#[test]
fn answers_that_are_none_are_refused() {
    let lab = Lab::new();
    let path = format!("/api/datasets/{ID}/revision/main");
    for (text, expected) in [
        ("<html>", "not understood: expected value"),
        ("{\"siblings\":[]}", "missing field `sha`"),
        ("{\"sha\":\"../../x\",\"siblings\":[]}", "names no commit"),
    ] {
        lab.server.text(&path, text);
        let error = refusal(lab.snapshot(&lab.hub())).to_string();
        assert!(error.contains(expected), "{error}");
    }
    // Without a hash that can be checked.
    let lab = Lab::new();
    let moved = |to: &str| Fault::Status(302, vec![("Location", to.to_string())]);
    let path = format!("/datasets/{ID}/resolve/{}/plain", commit('a'));
    lab.server.file(&path, b"x", Some("some-tag"));
    let snapshot = lab.snapshot(&lab.hub()).unwrap();
    let error = refusal(lab.hub().fetch(&snapshot, "plain", &())).to_string();
    assert!(error.contains("announces no hash"), "{error}");
    // In a circle.
    (0..10).for_each(|_| lab.server.fault_of_head("/plain", moved(&path)));
    let error = refusal(lab.hub().fetch(&snapshot, "plain", &())).to_string();
    assert!(error.contains("redirects more than 10 times"), "{error}");
    lab.server.fault_of_head("/plain", moved("gopher:///x"));
    let error = refusal(lab.hub().fetch(&snapshot, "plain", &())).to_string();
    assert!(error.contains("no address"), "{error}");
}

#[test]
fn a_listing_and_its_files_come_by_the_same_code() {
    let lab = Lab::new();
    let at = |path: &str| format!("{}{path}", lab.server.storage);
    lab.server.file("/v1/listing.txt", b"2023/b\n\n 2023/a \n2023/a\n", Some("l"));
    lab.server.file("/v1/documents/2023/a.json.gz", &lab.large, Some("v1"));
    let hub = lab.impatient();
    assert_eq!(hub.listing(&at("/v1/listing.txt"), &()).unwrap(), ["2023/a", "2023/b"]);
    let url = at("/v1/documents/2023/a.json.gz");
    lab.server.fault("a.json.gz", Fault::Cut(7_000));
    let error = refusal(hub.fetch_url(&url, "2023/a", &()));
    assert!(matches!(error, HubError::Interrupted { got: 7_000, .. }), "{error}");
    lab.server.asked();
    let fetched = hub.fetch_url(&url, "2023/a", &()).unwrap();
    let asked = lab.server.asked();
    assert_eq!(asked.last().unwrap().range.as_deref(), Some("bytes=7000-"));
    assert!(asked.iter().all(|asked| asked.token.is_none()));
    assert_eq!(fs::read(&fetched.path).unwrap(), lab.large);
    assert_eq!(fetched.hash, Hash::Sha256(sha256(&lab.large)));
    assert!(fetched.path.starts_with(lab.home.path().join("forgetting-laws/https")));
    fetched.verify().unwrap();
    // From here on without the network.
    assert_eq!(lab.offline().fetch_url(&url, "2023/a", &()).unwrap(), fetched);
    assert_eq!(lab.offline().listing(&at("/v1/listing.txt"), &()).unwrap().len(), 2);
    assert_eq!(lab.server.asked(), []);
    assert!(matches!(
        refusal(hub.fetch_url(&at("/a/../b"), "b", &())),
        HubError::UnsafeName { .. }
    ));
    assert!(matches!(
        refusal(hub.fetch_url(&at("/missing"), "b", &())),
        HubError::NotFound { kind: "file", .. }
    ));
}

/// A file that changed between two attempts is not glued together.
#[test]
fn another_version_begins_anew() {
    let lab = Lab::new();
    let url = format!("{}/a.txt", lab.server.storage);
    lab.server.file("/a.txt", b"the first version", Some("1"));
    lab.server.fault("/a.txt", Fault::Cut(5));
    refusal(lab.impatient().fetch_url(&url, "a", &()));
    lab.server.file("/a.txt", b"and the second one", Some("2"));
    let fetched = lab.impatient().fetch_url(&url, "a", &()).unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), b"and the second one");
    // Nor where the server names no version.
    let url = format!("{}/b.txt", lab.server.storage);
    lab.server.file("/b.txt", b"the first version", None);
    lab.server.fault("/b.txt", Fault::Cut(5));
    refusal(lab.impatient().fetch_url(&url, "b", &()));
    lab.server.file("/b.txt", b"and the second one", None);
    let fetched = lab.impatient().fetch_url(&url, "b", &()).unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), b"and the second one");
}

#[test]
fn two_that_want_the_same_file_fetch_it_once() {
    let lab = Lab::new();
    std::thread::scope(|scope| {
        let all = [0, 1, 2].map(|_| scope.spawn(|| lab.fetch(&lab.hub()).unwrap()));
        let paths = all.map(|thread| thread.join().unwrap().path);
        assert!(paths.iter().all(|path| Path::exists(path) && *path == paths[0]));
    });
    assert_eq!(ranges(&lab), [None]);
}

#[test]
fn a_data_set_is_fetched_by_its_name_and_written_down() {
    let lab = Lab::new();
    let table = lab.home.path().join("registry.toml");
    let text = format!(
        "[mine]\nabout = 'x'\nrepository = '{ID}'\nfiles = ['data/*.bin']\nlicence = 'CC0'\n\
         [listed]\nabout = 'x'\nlicence = 'CC0'\nfiles = ['2023/[a-b]']\n\
         listing = {{ url = '{0}/list.txt', base = '{0}/v1/', suffix = '.txt' }}\n",
        lab.server.storage
    );
    fs::write(&table, text).unwrap();
    let registry = Registry::with_file(&table).unwrap();
    let mine = registry.find("mine").unwrap();
    assert_eq!(mine.here(&lab.hub()).unwrap(), None);
    let manifest = mine.get(&lab.hub(), &()).unwrap();
    assert_eq!((manifest.source.as_str(), manifest.commit.clone()), (ID, Some(commit('a'))));
    assert_eq!(manifest.files.len(), 1);
    assert_eq!(fs::read(&manifest.paths(&lab.hub())[0]).unwrap(), lab.large);
    let written = fs::read_to_string(mine.manifest_path(&lab.hub())).unwrap();
    assert!(written.contains(&sha256(&lab.large)) && !written.contains(TOKEN));
    assert!(!written.contains(lab.home.path().to_str().unwrap()), "{written}");
    manifest.verify(&lab.hub(), &manifest.files[0]).unwrap();
    // What was pinned stays so, without the network, until it is fetched anew.
    lab.server.dataset(ID, "main", &commit('b'), &lab.files());
    lab.server.asked();
    assert_eq!(mine.get(&lab.hub(), &()).unwrap(), manifest);
    assert_eq!(lab.server.asked(), []);
    assert_eq!(mine.fetch(&lab.hub(), &()).unwrap().commit, Some(commit('b')));
    // The bytes were here under their hash.
    assert_eq!(ranges(&lab), []);
    let listed = registry.find("listed").unwrap();
    lab.server.file("/list.txt", b"2023/a\n2023/b\n2024/a\n", None);
    lab.server.file("/v1/2023/a.txt", b"a", None);
    lab.server.file("/v1/2023/b.txt", b"b", None);
    let manifest = listed.fetch(&lab.hub(), &()).unwrap();
    let names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!((names, &manifest.commit), (vec!["2023/a", "2023/b"], &None));
    fs::remove_file(&manifest.paths(&lab.hub())[1]).unwrap();
    assert_eq!(listed.here(&lab.offline()).unwrap(), None);
    assert!(matches!(refusal(listed.get(&lab.offline(), &())), HubError::Offline { .. }));
}
