//! NCCL, with the CUDA half of libtorch that the variable FORGETTING_LAWS_TORCH names. What is left out
//! without the variable, or without a GPU, is said. One test: the half is loaded once a process.
#![cfg(target_os = "linux")]

use std::ffi::CString;
use std::time::Duration;
use tch::{Cuda, Device, Kind, Tensor};
use torch_ext::{Backend, Group, Place, Store, has_nccl};

const PATIENCE: Duration = Duration::from_secs(60);

#[allow(unsafe_code, reason = "a library is loaded that may be missing")]
fn load(path: &str) {
    let name = CString::new(path).unwrap();
    // SAFETY: the path is a C string; the library is the other half of this process's libtorch.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!handle.is_null(), "{path} cannot be loaded");
}

/// The sum and the broadcast of one rank, whose number is also its GPU's.
fn collectives(rank: usize, world: usize, port: u16) -> torch_ext::Result<[Vec<f32>; 2]> {
    let place = Place {
        rank,
        local_rank: rank,
        world,
        host: "127.0.0.1".into(),
        port,
        serves: false,
        attempt: 0,
    };
    let store = place.meet(PATIENCE)?;
    let group = Group::open(&store, &place, "group", Backend::Nccl, PATIENCE)?;
    let base = Tensor::arange(1_003, (Kind::Float, Device::Cuda(rank)));
    let mine = &base * (rank as f64 + 1.0);
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
    let store = Store::serve(0).unwrap();
    if !has_nccl() {
        let error = collectives(0, 1, store.port()).unwrap_err().to_string();
        assert!(error.ends_with("no libtorch_cuda with NCCL is loaded"), "{error}");
        load(&format!("{}/lib/libtorch_cuda.so", folder.to_string_lossy()));
    }
    assert!(has_nccl());
    let store = Store::serve(0).unwrap();
    let world = usize::try_from(Cuda::device_count()).unwrap().min(4);
    if world == 0 {
        // The two constructors are called, and the second one refuses.
        let error = collectives(0, 1, store.port()).unwrap_err().to_string();
        assert!(error.contains("no GPUs found"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        eprintln!("skipped: no GPU ({error})");
        return;
    }
    let port = store.port();
    std::thread::scope(|scope| {
        let ranks: Vec<_> =
            (0..world).map(|rank| scope.spawn(move || collectives(rank, world, port))).collect();
        for rank in ranks {
            let [sum, first] = rank.join().unwrap().unwrap();
            let factor: usize = (1..=world).sum();
            assert!(sum.iter().enumerate().all(|(i, &x)| x == (i * factor) as f32));
            assert!(first.iter().enumerate().all(|(i, &x)| x == i as f32));
        }
    });
    eprintln!("{world} rank(s) on as many GPUs");
}
