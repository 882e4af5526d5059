//! The set-up that plain cargo does: `tools/libtorch`, and one build for both commands.
//!
//! The provisioning script runs here in a folder of its own, with a stand-in for pip.
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/libtorch");

/// Writes a wheel with a file for each pattern that the script looks for.
const GOOD_PIP: &str = r#"
import os, sys, zipfile
folder = sys.argv[sys.argv.index("--dest") + 1]
name = open(os.path.join(folder, "requirements.txt")).read().split("==")[0]
with open(os.environ["PIP_CALLS"], "a") as calls:
    calls.write(name + "\n")
with zipfile.ZipFile(os.path.join(folder, name + ".whl"), "w") as wheel:
    for path in ["torch/include/c10/a.h", "torch/lib/libtorch_cpu.so", "torch/lib/libother.so",
                 "nvidia/cu13/lib/libcudart.so.13", "scipy.libs/libopenblasp.so",
                 "scipy/.dylibs/libopenblas.0.dylib", "scipy/.dylibs/libgfortran.5.dylib"]:
        wheel.writestr(path, name)
"#;

/// A workspace that has nothing but the tools.
struct Clone {
    folder: TempDir,
}

impl Clone {
    fn with_pip(pip: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("a clone ").tempdir().unwrap();
        let tools = folder.path().join("tools/libtorch");
        fs::create_dir_all(&tools).unwrap();
        for file in ["cxx", "provision.py"] {
            fs::copy(Path::new(TOOLS).join(file), tools.join(file)).unwrap();
        }
        let clone = Self { folder };
        clone.set_pip(pip);
        clone
    }

    fn set_pip(&self, pip: &str) {
        fs::create_dir_all(self.path("python/pip")).unwrap();
        fs::write(self.path("python/pip/__init__.py"), "").unwrap();
        fs::write(self.path("python/pip/__main__.py"), pip).unwrap();
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// A command that sees the stand-in, and no settings of whoever runs the test.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("PYTHONPATH", self.path("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PIP_CALLS", self.path("calls"))
            .env("LIBTORCH", self.path(".libtorch/2.11.0"))
            .env_remove("LIBTORCH_USE_PYTORCH")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn provision(&self, component: &str) -> Command {
        let mut command = self.command("python3");
        command.arg(self.path("tools/libtorch/provision.py")).arg(component);
        command
    }

    /// The packages that pip was asked for, in order.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// What lies in `.libtorch`, the lock aside.
    fn components(&self) -> Vec<String> {
        let Ok(folder) = fs::read_dir(self.path(".libtorch")) else { return Vec::new() };
        let mut names: Vec<_> =
            folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }

    /// Compiles a file with a compiler of two words, which only says how it was called.
    fn compile(&self, file: &str) -> Command {
        let mut command = self.command(self.path("tools/libtorch/cxx"));
        command.args(["-c", file]).env("CXX", "echo compiled");
        command
    }
}

/// The output of a command that ended well.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line with which a command failed.
fn fail(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

const ALL: [&str; 3] = ["nvidia-cuda-runtime", "nvidia-cuda-cupti", "torch"];

#[test]
fn a_component_is_fetched_once() {
    let clone = Clone::with_pip(GOOD_PIP);
    succeed(&mut clone.provision("libtorch"));
    assert_eq!(clone.calls(), ALL);
    assert_eq!(clone.components(), ["2.11.0"]);
    let read = |file: &str| fs::read_to_string(clone.path(".libtorch").join(file)).ok();
    assert_eq!(read("2.11.0/build-version").unwrap(), "2.11.0\n");
    assert_eq!(read("2.11.0/lib/libtorch_cpu.so").unwrap(), "torch");
    assert_eq!(read("2.11.0/include/c10/a.h").unwrap(), "torch");
    assert_eq!(read("2.11.0/lib/libtorch.so").unwrap(), "INPUT(-ltorch_cpu -lc10)\n");
    assert_eq!(read("2.11.0/lib/libother.so"), None);

    succeed(&mut clone.provision("libtorch"));
    assert_eq!(clone.calls(), ALL);
    succeed(&mut clone.provision("openblas"));
    assert_eq!(read("openblas-0.3.27/lib/libopenblasp.so").unwrap(), "scipy");
    assert_eq!(clone.components(), ["2.11.0", "openblas-0.3.27"]);
}

#[test]
fn other_machines_have_their_own_openblas() {
    for (machine, library, tag) in [
        ("aarch64 Linux", "libopenblasp.so", "manylinux2014_aarch64"),
        ("arm64 Darwin", "libopenblas.dylib", "macosx_12_0_arm64"),
    ] {
        let clone = Clone::with_pip(&format!(
            "import os, sys\n\
             assert sys.argv[sys.argv.index('--platform') + 1] == '{tag}', sys.argv\n{GOOD_PIP}"
        ));
        succeed(clone.provision("openblas").arg(machine));
        let file = clone.path(".libtorch/openblas-0.3.27/lib").join(library);
        assert_eq!(fs::read_to_string(file).unwrap(), "scipy");
        assert_eq!(clone.components(), ["openblas-0.3.27"]);
        // libtorch is fetched for one kind of machine.
        let message = fail(clone.provision("libtorch").arg(machine));
        assert!(message.contains(machine) && message.contains("set LIBTORCH"), "{message}");
    }
    let clone = Clone::with_pip(GOOD_PIP);
    let message = fail(clone.provision("openblas").arg("riscv64 Linux"));
    assert!(message.contains("riscv64 Linux") && message.contains("arm64 Darwin"), "{message}");
    assert_eq!(clone.calls().len(), 0);
}

#[test]
fn two_at_once_wait_for_each_other() {
    let clone = Clone::with_pip(&format!("import time; time.sleep(0.2)\n{GOOD_PIP}"));
    let running: Vec<_> = (0..3).map(|_| clone.provision("libtorch").spawn().unwrap()).collect();
    for process in running {
        assert!(process.wait_with_output().unwrap().status.success());
    }
    assert_eq!(clone.calls(), ALL);
}

#[test]
fn what_was_interrupted_is_done_again() {
    let clone = Clone::with_pip(
        r#"
import os, sys, time
open(os.path.join(sys.argv[sys.argv.index("--dest") + 1], "half.whl"), "w").close()
time.sleep(5)
"#,
    );
    let mut process = clone.provision("libtorch").spawn().unwrap();
    let begun = Instant::now();
    let half = || {
        let names = clone.components();
        names.len() == 1 && clone.path(".libtorch").join(&names[0]).join("half.whl").exists()
    };
    while !half() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", clone.components());
        std::thread::sleep(Duration::from_millis(10));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(clone.components()[0].starts_with(".partial-"));
    // A folder under the final name without the file that is written last: someone else's doing.
    fs::create_dir_all(clone.path(".libtorch/2.11.0/lib/old")).unwrap();

    clone.set_pip(GOOD_PIP);
    succeed(&mut clone.provision("libtorch"));
    assert_eq!(clone.components(), ["2.11.0"]);
    assert!(!clone.path(".libtorch/2.11.0/lib/old").exists());
}

#[test]
fn each_failure_is_one_line_with_a_remedy() {
    let says = |output: &str| format!("print({output:?}); raise SystemExit(1)");
    let own = "; or set LIBTORCH to a libtorch 2.11.0 of your own\n";
    // What pip 20 to 25 print.
    let offline = "WARNING: Retrying (Retry(total=0)) after connection broken by \
        'NewConnectionError('Failed to establish a new connection')': /simple/torch/\n\
        ERROR: Could not find a version that satisfies the requirement torch==2.11.0\n\
        ERROR: No matching distribution found for torch==2.11.0";
    let hash = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.";
    let full = "ERROR: Could not install packages: [Errno 28] No space left on device";
    let other = "WARNING: noise\nERROR: first\nERROR: the last reason";
    for (pip, expected) in [
        (says(offline), "pip's index is out of reach: connect and try again".to_owned()),
        (says(hash), "pip's index offers another nvidia-cuda-runtime==13.0.96 than".into()),
        (says(full), "no space left on the device of ".into()),
        (says(other), "pip could not download nvidia-cuda-runtime==13.0.96: the last".into()),
        ("raise SystemExit('No module named pip')".into(), "fetched by pip, which ".into()),
        ("".into(), "pip could not download nvidia-cuda-runtime==13.0.96: pip gives".into()),
    ] {
        let clone = Clone::with_pip(&pip);
        let message = fail(&mut clone.provision("libtorch"));
        let start = format!("libtorch 2.11.0: {expected}");
        assert!(message.starts_with(&start) && message.ends_with(own), "{message}");
        assert!(clone.components().is_empty(), "{:?}", clone.components());
        assert!(fail(&mut clone.provision("openblas")).contains("FORGETTING_LAWS_OPENBLAS"));
    }
}

#[test]
fn a_transfer_that_breaks_off_is_tried_again() {
    let broken = format!(
        "import os\n\
         if not os.path.exists(os.environ['PIP_CALLS']):\n    \
             open(os.environ['PIP_CALLS'], 'w').write('broken\\n')\n    \
             print('Downloading torch.whl (500 MB)', 'ReadTimeoutError: Read timed out.')\n    \
             raise SystemExit(1)\n{GOOD_PIP}"
    );
    let clone = Clone::with_pip(&broken);
    succeed(&mut clone.provision("libtorch"));
    assert_eq!(clone.calls()[..2], ["broken", ALL[0]]);
}

#[test]
fn the_compiler_fetches_libtorch_before_torch_sys_and_nothing_else() {
    let clone = Clone::with_pip(GOOD_PIP);
    let compiled = succeed(&mut clone.compile("some.cpp"));
    assert_eq!(compiled, "compiled -c some.cpp\n");
    assert_eq!(clone.calls().len(), 0);

    let compiled = succeed(&mut clone.compile("libtch/torch_api.cpp"));
    assert_eq!(compiled, "compiled -c libtch/torch_api.cpp\n");
    assert_eq!(clone.calls(), ALL);
}

#[test]
fn the_users_own_libtorch_is_left_alone() {
    let clone = Clone::with_pip(GOOD_PIP);
    let file = "libtch/torch_api_generated.cpp";
    succeed(clone.compile(file).env("LIBTORCH", "/opt/libtorch"));
    succeed(clone.compile(file).env_remove("LIBTORCH"));
    succeed(clone.compile(file).env("LIBTORCH_USE_PYTORCH", "1"));
    assert_eq!(clone.calls().len(), 0);
    assert!(clone.components().is_empty());
}

#[test]
fn without_python_there_is_one_line() {
    let clone = Clone::with_pip(GOOD_PIP);
    let bin = clone.path("bin");
    fs::create_dir(&bin).unwrap();
    let which = Command::new("sh").args(["-c", "command -v dirname"]).output().unwrap();
    let dirname = String::from_utf8(which.stdout).unwrap();
    std::os::unix::fs::symlink(dirname.trim(), bin.join("dirname")).unwrap();
    let message = fail(clone.compile("libtch/torch_api.cpp").env("PATH", &bin));
    assert!(message.starts_with("libtorch 2.11.0 is fetched by python3"), "{message}");
}

/// Where the feature `openblas-fetched` looks is where `.cargo/config.toml` does.
#[test]
fn one_openblas_has_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = fs::read_to_string(root.join(".cargo/config.toml")).unwrap();
    let script = fs::read_to_string(root.join("build.rs")).unwrap();
    let named = config.split("FORGETTING_LAWS_OPENBLAS = { value = ").nth(1).unwrap();
    let folder = named.split(',').next().unwrap();
    assert!(script.contains(&format!("const OPENBLAS: &str = {folder};")), "{folder}");
}

/// `cargo test` and `cargo run -p replication` ask for the same features of every package that
/// both need: neither builds anew what the other has built.
#[test]
fn both_commands_share_one_build() {
    let tree = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.args(["tree", "--offline", "--prefix", "none", "--format", "{p} [{f}]"]);
        let mut lines: Vec<_> = succeed(command.args(arguments))
            .lines()
            .map(|line| line.trim_end_matches(" (*)").to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        lines.sort();
        lines.dedup();
        lines
    };
    let name = |line: &String| line.split(" [").next().unwrap().to_owned();
    let run = tree(&["--edges", "normal,build", "--package", "replication"]);
    let packages: Vec<_> = run.iter().map(name).collect();
    assert!(packages.iter().any(|package| package.starts_with("ndarray-linalg v")), "{run:#?}");
    // The first figure needs no libtorch and no C++ compiler.
    assert!(!packages.iter().any(|package| package.starts_with("torch-sys v")), "{run:#?}");
    let mut test = tree(&["--edges", "normal,build,dev"]);
    test.retain(|line| packages.contains(&name(line)));
    assert_eq!(run, test);
}
