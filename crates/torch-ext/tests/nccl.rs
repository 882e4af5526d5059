//! NCCL, with the CUDA half of libtorch that the variable FORGETTING_LAWS_TORCH names. What is left out
//! without the variable, or without a GPU, is said. One test: the half is loaded once a process. Ranks
//! are processes, as a group's first operation waits for all of them.
#![cfg(target_os = "linux")]

use std::ffi::{CString, OsStr};
use std::process::Command;
use std::time::Duration;
use tch::{Cuda, Device, Kind, Tensor};
use torch_ext::{Backend, Group, Place, Store, has_nccl};

const PATIENCE: Duration = Duration::from_secs(60);

#[allow(unsafe_code, reason = "a library is loaded that may be missing")]
fn load(folder: &OsStr) {
    let path = format!("{}/lib/libtorch_cuda.so", folder.to_string_lossy());
    let name = CString::new(path.as_str()).unwrap();
    // SAFETY: the path is a C string; the library is the other half of this process's libtorch.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!handle.is_null(), "{path} cannot be loaded");
}

/// The sum and the broadcast of one rank, whose number is also its GPU's.
fn collectives(place: &Place) -> torch_ext::Result<[Vec<f32>; 2]> {
    let store = place.meet(PATIENCE)?;
    let group = Group::open(&store, place, "group", Backend::Nccl, PATIENCE)?;
    let base = Tensor::arange(1_003, (Kind::Float, Device::Cuda(place.rank)));
    let mine = &base * (place.rank as f64 + 1.0);
    let (mut sum, mut first) = (mine.copy(), mine.copy());
    group.all_reduce_sum(&mut sum)?;
    group.broadcast(&mut first, None)?;
    Ok([sum, first].map(|tensor| Vec::try_from(tensor.to_device(Device::Cpu)).unwrap()))
}

#[test]
fn it_is_there_once_libtorchs_cuda_half_is_loaded() {
    let Some(folder) = std::env::var_os("FORGETTING_LAWS_TORCH") else {
        eprintln!("skipped: FORGETTING_LAWS_TORCH names no CUDA libtorch");
        return;
    };
    if let Some(place) = Place::from_env().unwrap() {
        load(&folder);
        let [sum, first] = collectives(&place).unwrap();
        let factor: usize = (1..=place.world).sum();
        assert!(sum.iter().enumerate().all(|(i, &x)| x == (i * factor) as f32));
        assert!(first.iter().enumerate().all(|(i, &x)| x == i as f32));
        return;
    }
    let store = Store::serve(0).unwrap();
    if !has_nccl() {
        let error = collectives(&Place::local(0, 1, store.port())).unwrap_err().to_string();
        assert!(error.ends_with("no libtorch_cuda with NCCL is loaded"), "{error}");
        load(&folder);
    }
    assert!(has_nccl());
    let store = Store::serve(0).unwrap();
    let gpus = usize::try_from(Cuda::device_count()).unwrap().min(4);
    if gpus == 0 {
        // The two constructors are called, and the second one refuses.
        let error = collectives(&Place::local(0, 1, store.port())).unwrap_err().to_string();
        assert!(error.contains("no GPUs found"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        eprintln!("skipped: no GPU ({error})");
        return;
    }
    // A group of one needs no other process.
    let [sum, first] = collectives(&Place::local(0, 1, store.port())).unwrap();
    assert!(sum == first && sum.iter().enumerate().all(|(i, &x)| x == i as f32));
    let store = Store::serve(0).unwrap();
    let start = |rank| {
        let mut call = Command::new(std::env::current_exe().unwrap());
        call.args(std::env::args_os().skip(1));
        call.envs(Place::local(rank, gpus, store.port()).variables()).spawn().unwrap()
    };
    let ranks: Vec<_> = (0..gpus).filter(|_| gpus > 1).map(start).collect();
    ranks.into_iter().for_each(|mut rank| assert!(rank.wait().unwrap().success()));
    eprintln!("{gpus} rank(s) on as many GPUs");
}
