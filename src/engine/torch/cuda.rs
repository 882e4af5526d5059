//! The CUDA half of libtorch, found when the program runs.
//!
//! A program is linked with `libtorch_cpu.so`. The `libtorch_cuda.so` of the same version registers
//! itself when it is loaded, so one program computes on a GPU if that file is there, and on the CPU
//! if it is missing. It is looked for in the folder that [`FOLDER`] names, next to the
//! `libtorch_cpu.so` in use, and in the folders of `LD_LIBRARY_PATH`, in this order. The libraries
//! that it needs are found by its own RPATH (those of `pip install torch` are next to it). Another
//! version is refused before it is loaded.

use crate::{Error, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The variable that names the folder of a CUDA libtorch: Python's `torch`, or its `lib`.
pub const FOLDER: &str = "FORGETTING_LAWS_TORCH";

/// The version of libtorch that this library is compiled against: as libtorch states it, or else as
/// the bindings require it.
pub const VERSION: &str = match option_env!("FORGETTING_LAWS_LIBTORCH") {
    Some(version) => version,
    None => "2.11.0",
};

const LIBRARY: &str = "libtorch_cuda.so";

/// A CUDA half of libtorch that was found and, if it cannot be used, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub library: PathBuf,
    /// Its version, as `2.11.0+cu130`; empty where nothing beside it tells.
    pub version: String,
    /// Why it was not loaded.
    pub refusal: Option<String>,
    /// Whether the user named it.
    asked_for: bool,
}

impl Found {
    /// A sentence about it for messages.
    pub fn words(&self) -> String {
        let Self { library, version, .. } = self;
        let folder = library.parent().unwrap_or(library).display();
        match &self.refusal {
            None => format!("libtorch_cuda {version} of {folder}"),
            Some(why) => format!("libtorch_cuda of {folder} was not loaded: {why}"),
        }
    }
}

static FOUND: OnceLock<Option<Found>> = OnceLock::new();

/// The CUDA half of this process, loaded at the first call; None where there is none. libtorch looks
/// for its devices once, so this comes before anything is computed.
pub fn load() -> Option<&'static Found> {
    FOUND
        .get_or_init(|| {
            // Linked with it, or loaded by someone else.
            if let Some(library) = mapped(LIBRARY) {
                let version = version_beside(&library).unwrap_or_default();
                return Some(Found { library, version, refusal: None, asked_for: false });
            }
            let named = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty());
            let beside = mapped("libtorch_cpu.so");
            let search = std::env::var_os("LD_LIBRARY_PATH");
            find(named.as_deref(), beside.as_deref(), search.as_deref()).map(open)
        })
        .as_ref()
}

/// How many CUDA devices this process can use.
pub fn count() -> usize {
    devices().unwrap_or(0)
}

/// What was found where the CUDA half was looked for; None where nothing was, or nobody looked.
pub fn findings() -> Option<String> {
    let found = FOUND.get()?.as_ref()?;
    Some(devices().err().unwrap_or_else(|| found.words()))
}

/// How many CUDA devices this process can use, or why none.
fn devices() -> std::result::Result<usize, String> {
    let Some(found) = load() else {
        return Err(format!(
            "no CUDA device, as libtorch computes on the CPU alone: set {FOLDER} to the torch folder of \
             a CUDA build of torch {VERSION}"
        ));
    };
    if found.refusal.is_some() {
        return Err(found.words());
    }
    match native::device_count() {
        Ok(0) => Err(format!("{} found, but no CUDA device", found.words())),
        Ok(count) => Ok(count),
        Err(why) => Err(format!("{} found, but no CUDA device ({why})", found.words())),
    }
}

/// Whether there is a CUDA device, for those who take what there is.
///
/// # Errors
/// If the user named a CUDA half that cannot be used.
pub(super) fn is_there() -> Result<bool> {
    match load() {
        None => Ok(false),
        Some(Found { asked_for: true, refusal: Some(why), library, .. }) => {
            let folder = library.parent().unwrap_or(library);
            Err(Error::setting(FOLDER, folder.display(), why))
        }
        Some(_) => Ok(devices().is_ok()),
    }
}

/// Refuses a CUDA device that is not there.
pub(super) fn check(name: &str, index: usize) -> Result<()> {
    match devices() {
        Ok(count) if index < count => Ok(()),
        Ok(count) => {
            let requirement = format!("there are {count} CUDA device(s), numbered from 0");
            Err(Error::setting("device", name, requirement))
        }
        Err(why) => Err(Error::setting("device", name, format!("{why}; or use --device cpu"))),
    }
}

/// What a CUDA device is called, as `NVIDIA A100-SXM4-80GB`, where the driver tells.
pub fn name(index: usize) -> Option<String> {
    load().filter(|found| found.refusal.is_none())?;
    native::name(index)
}

/// The bytes of a CUDA device's memory that are in use, by all processes, and the bytes that it
/// has. libtorch keeps memory that it has once taken, so at the end of a run this is the run's
/// peak. The call makes the device the current one of the thread.
pub fn memory(index: usize) -> Option<(u64, u64)> {
    load().filter(|found| found.refusal.is_none())?;
    native::memory(index)
}

/// The address of a function in what the process has loaded; on Linux alone.
pub(super) fn symbol(name: &std::ffi::CStr) -> Option<*mut std::ffi::c_void> {
    native::symbol(name)
}

/// Which file to load: the first that there is. A folder that the user names is the only one.
fn find(named: Option<&OsStr>, beside: Option<&Path>, search: Option<&OsStr>) -> Option<Found> {
    let found = |folder: &Path, asked_for| {
        let library = folder.join(LIBRARY);
        let version = version_beside(&library);
        let refusal = match &version {
            _ if !library.is_file() => Some(format!(
                "there is no {LIBRARY} here: must be the torch folder of a CUDA build of {VERSION}"
            )),
            None => Some(format!(
                "neither version.py nor build-version beside it states its version; {VERSION} is needed"
            )),
            Some(found) if release(found) != release(VERSION) => {
                Some(format!("it is version {found}, and this program needs {VERSION}"))
            }
            Some(_) => None,
        };
        Found { library, version: version.unwrap_or_default(), refusal, asked_for }
    };
    if let Some(named) = named.map(Path::new) {
        let lib = named.join("lib");
        return Some(found(if lib.join(LIBRARY).is_file() { &lib } else { named }, true));
    }
    let beside = beside.and_then(Path::parent).map(Path::to_path_buf);
    let search = search.into_iter().flat_map(std::env::split_paths);
    let mut folders = beside.into_iter().chain(search.filter(|folder| folder.is_absolute()));
    folders.find(|folder| folder.join(LIBRARY).is_file()).map(|folder| found(&folder, false))
}

/// A version without what tells builds of it apart: `2.11.0` of `2.11.0+cu130`.
fn release(version: &str) -> &str {
    version.split('+').next().unwrap_or(version)
}

/// What the package of a library in its folder `lib` says of its version: libtorch has a file
/// `build-version`, Python's torch a `version.py`.
fn version_beside(library: &Path) -> Option<String> {
    let package = library.parent()?.parent()?;
    let read = |name| std::fs::read_to_string(package.join(name)).ok();
    if let Some(version) = read("build-version") {
        return Some(version.trim().to_string());
    }
    let python = read("version.py")?;
    let line = python.lines().find_map(|line| line.strip_prefix("__version__"))?;
    let value = line.trim_start_matches([' ', '=']).trim_end();
    Some(value.trim_matches(['\'', '"']).to_string())
}

/// Where a library lies that this process has loaded.
fn mapped(library: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
    maps.lines().filter_map(path).find(|path| path.file_name() == Some(OsStr::new(library)))
}

/// Loads what was found, if it is of use.
fn open(mut found: Found) -> Found {
    if found.refusal.is_none() {
        found.refusal = native::open(&found.library).err();
    }
    found
}

/// Calls of the loader, and of the CUDA runtime and driver that it has loaded, by their C names.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "libraries that may be missing are called through the loader")]
mod native {
    use std::ffi::{CStr, CString, c_char, c_int, c_void};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    /// Loads a library for the whole process, all its symbols at once: what is missing is said
    /// here.
    pub fn open(library: &Path) -> Result<(), String> {
        let path = CString::new(library.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: the path is a C string. The library's initialisers run: it is the half that was
        // built with the libtorch of this process, by its version.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if !handle.is_null() {
            return Ok(());
        }
        // SAFETY: after a failure it is a C string of the loader's, valid until its next call here.
        let why = unsafe { libc::dlerror() };
        if why.is_null() {
            return Err("the loader refused it".into());
        }
        // SAFETY: as above.
        let why = unsafe { CStr::from_ptr(why) }.to_string_lossy();
        Err(why.lines().next().unwrap_or_default().to_string())
    }

    /// The address of a function in what the process has loaded.
    pub fn symbol(name: &CStr) -> Option<*mut c_void> {
        // SAFETY: the name is a C string.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }

    /// A function of a C type, by its name.
    macro_rules! function {
        ($name:literal: $type:ty) => {
            // SAFETY: the type is that of the function's declaration in CUDA's headers, which is the
            // same in every version.
            symbol($name).map(|address| unsafe { std::mem::transmute::<*mut c_void, $type>(address) })
        };
    }

    type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
    type Set = unsafe extern "C" fn(c_int) -> c_int;
    type Memory = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
    type Words = unsafe extern "C" fn(c_int) -> *const c_char;
    type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;

    /// The devices that the CUDA runtime sees, asked before libtorch, which would warn on stderr.
    pub fn device_count() -> Result<usize, String> {
        let Some(get) = function!(c"cudaGetDeviceCount": Count) else {
            return Ok(usize::try_from(tch::Cuda::device_count()).unwrap_or(0));
        };
        let mut count = 0;
        // SAFETY: the pointer is to a number that lives through the call.
        let status = unsafe { get(&mut count) };
        if status == 0 {
            return Ok(usize::try_from(count).unwrap_or(0));
        }
        let words = function!(c"cudaGetErrorString": Words).map(|words| {
            // SAFETY: it returns a C string that is never freed, for any number.
            unsafe { CStr::from_ptr(words(status)) }.to_string_lossy().into_owned()
        });
        Err(words.unwrap_or_else(|| format!("CUDA's status {status}")))
    }

    pub fn memory(index: usize) -> Option<(u64, u64)> {
        let set_device = function!(c"cudaSetDevice": Set)?;
        let get = function!(c"cudaMemGetInfo": Memory)?;
        let index = c_int::try_from(index).ok()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the pointers are to numbers that live through the call. The thread stays on this
        // device, as to go back to another one would take up memory there.
        let status = unsafe {
            match set_device(index) {
                0 => get(&mut free, &mut total),
                status => status,
            }
        };
        (status == 0).then(|| (total.saturating_sub(free) as u64, total as u64))
    }

    pub fn name(index: usize) -> Option<String> {
        // Loaded by the runtime for itself; here to find its symbols. It stays.
        open(Path::new("libcuda.so.1")).ok()?;
        let handle = function!(c"cuDeviceGet": unsafe extern "C" fn(*mut c_int, c_int) -> c_int)?;
        let name = function!(c"cuDeviceGetName": Name)?;
        let (mut device, mut words) = (0, [0u8; 256]);
        // SAFETY: the pointers are to a number and to a buffer of the length that is given.
        let status = unsafe {
            if handle(&mut device, c_int::try_from(index).ok()?) != 0 {
                return None;
            }
            name(words.as_mut_ptr().cast(), words.len() as c_int, device)
        };
        let words = CStr::from_bytes_until_nul(&words).ok()?;
        (status == 0).then(|| words.to_string_lossy().into_owned())
    }
}

/// Elsewhere there is only what the program was linked with.
#[cfg(not(target_os = "linux"))]
mod native {
    use std::ffi::{CStr, c_void};
    use std::path::Path;

    pub fn symbol(_name: &CStr) -> Option<*mut c_void> {
        None
    }

    pub fn open(_library: &Path) -> Result<(), String> {
        Err("a CUDA half is loaded on Linux alone".into())
    }

    pub fn device_count() -> Result<usize, String> {
        Ok(usize::try_from(tch::Cuda::device_count()).unwrap_or(0))
    }

    pub fn memory(_index: usize) -> Option<(u64, u64)> {
        None
    }

    pub fn name(_index: usize) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package with a file in the library's place.
    fn package(version_file: &str, version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lib")).unwrap();
        std::fs::write(folder.path().join("lib").join(LIBRARY), "no library").unwrap();
        if !version_file.is_empty() {
            std::fs::write(folder.path().join(version_file), version).unwrap();
        }
        folder
    }

    #[test]
    fn versions_are_read_and_compared() {
        let python = "from typing import Optional\n\n__version__ = '2.11.0+cu130'\ncuda = '13.0'\n";
        for (file, text) in [("version.py", python), ("build-version", "2.11.0+cu130\n")] {
            let package = package(file, text);
            let library = package.path().join("lib").join(LIBRARY);
            assert_eq!(version_beside(&library).as_deref(), Some("2.11.0+cu130"), "{file}");
        }
        assert_eq!(release("2.11.0+cu130"), release("2.11.0"));
        assert_ne!(release("2.11.1"), release("2.11.0"));
    }

    #[test]
    fn the_named_folder_comes_first_and_another_version_is_refused() {
        let (good, other) = (package("build-version", VERSION), package("build-version", "1.2.3"));
        let (good, other) = (good.path(), other.path());
        let lib = good.join("lib");
        let beside = other.join("lib").join("libtorch_cpu.so");
        // The package and its lib are the same; nothing else is looked at.
        for named in [good, &lib] {
            let found = find(Some(named.as_os_str()), Some(&beside), None).unwrap();
            assert_eq!((found.library, found.refusal), (lib.join(LIBRARY), None));
        }
        let found = find(Some(other.as_os_str()), None, Some(lib.as_os_str())).unwrap();
        let why = found.refusal.unwrap();
        assert!(why.contains("1.2.3") && why.contains(VERSION) && found.asked_for, "{why}");
        let found = find(Some(OsStr::new("/nonexistent")), None, Some(lib.as_os_str())).unwrap();
        assert!(found.refusal.unwrap().contains("no libtorch_cuda.so"));
        // Beside the CPU half before the loader's folders, among which the first that has it.
        let found = find(None, Some(&beside), Some(lib.as_os_str())).unwrap();
        assert!(found.refusal.is_some() && !found.asked_for);
        let search = std::env::join_paths([good, &lib]).unwrap();
        let found = find(None, None, Some(&search)).unwrap();
        assert_eq!((found.library, found.refusal), (lib.join(LIBRARY), None));
        assert_eq!(find(None, None, Some(good.as_os_str())), None);
        let unknown = package("", "");
        let found = find(Some(unknown.path().as_os_str()), None, None).unwrap();
        assert!(found.refusal.unwrap().contains("version.py"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_no_library_is_refused_by_the_loader() {
        let package = package("build-version", VERSION);
        let found = open(find(Some(package.path().as_os_str()), None, None).unwrap());
        let words = found.words();
        assert!(words.contains("was not loaded: ") && words.contains(LIBRARY), "{words}");
        assert!(!words.contains('\n'));
    }
}
