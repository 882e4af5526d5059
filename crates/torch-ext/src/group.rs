//! Process groups: collective operations on flat tensors.

use crate::{Place, Result, Store, c_text, check, ffi, millis};
use std::ffi::c_char;
use std::ptr::NonNull;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// Who carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// TCP, for tensors on the CPU.
    Gloo,
    /// NVLink and InfiniBand, for tensors on CUDA devices.
    Nccl,
}

/// Whether NCCL can be used: a libtorch with CUDA and NCCL is linked, or was loaded before this call.
pub fn has_nccl() -> bool {
    // SAFETY: looks for two names in what is loaded.
    unsafe { ffi::torch_ext_has_nccl() }
}

/// A group of ranks. All must call the same operations in the same order, with tensors of the same
/// size and kind. Once one of them has failed the group is of no more use.
#[derive(Debug)]
pub struct Group {
    raw: NonNull<ffi::RawGroup>,
}

// SAFETY: a process group may be used from any thread.
unsafe impl Send for Group {}
// SAFETY: c10d's groups lock their queues; the order of calls is the caller's promise.
unsafe impl Sync for Group {}

impl Group {
    /// Connects all ranks, which call this with the same name. An operation that takes longer than
    /// `timeout` fails. Gloo uses the network interfaces that the variable GLOO_SOCKET_IFNAME names, if
    /// it does; otherwise that of the machine's name, or loopback where all ranks are on one machine.
    ///
    /// # Errors
    /// If a rank cannot be reached, or for NCCL no libtorch with CUDA is loaded, or no GPU there.
    pub fn open(
        store: &Store,
        place: &Place,
        name: &str,
        backend: Backend,
        timeout: Duration,
    ) -> Result<Self> {
        let prefix = c_text(&store.key(name));
        // A machine's own name often leads to none of its addresses.
        let loopback = c_text("127.0.0.1");
        let named = std::env::var("GLOO_SOCKET_IFNAME").ok().filter(|name| !name.is_empty());
        let interfaces = named.map(|names| c_text(&names));
        let host = if place.is_local() && interfaces.is_none() {
            loopback.as_ptr()
        } else {
            std::ptr::null()
        };
        let mut raw = std::ptr::null_mut();
        // SAFETY: the texts outlive the call; the handle is written only where it succeeds.
        let returned = store.with(|store| unsafe {
            ffi::torch_ext_group_open(
                store,
                prefix.as_ptr(),
                place.rank as i32,
                place.world as i32,
                backend == Backend::Nccl,
                host,
                interfaces.as_ref().map_or(std::ptr::null(), |names| names.as_ptr()),
                millis(timeout),
                &mut raw,
            )
        });
        check(|| format!("rank {} cannot connect to the others", place.rank), returned)?;
        Ok(Self { raw: NonNull::new(raw).expect("a group where there is no error") })
    }

    /// Replaces a tensor by the sum over all ranks. On CUDA it is put in the queue of the current
    /// stream, and nothing waits for it here.
    ///
    /// # Errors
    /// If another rank is gone or too late.
    pub fn all_reduce_sum(&self, tensor: &mut Tensor) -> Result<()> {
        self.all_reduce(tensor, false, 0)
    }

    /// Replaces a tensor by the largest of all ranks, element by element; `timeout` in place of the
    /// group's, if given.
    ///
    /// # Errors
    /// If another rank is gone or too late.
    pub fn all_reduce_max(&self, tensor: &mut Tensor, timeout: Option<Duration>) -> Result<()> {
        self.all_reduce(tensor, true, timeout.map_or(0, millis))
    }

    fn all_reduce(&self, tensor: &mut Tensor, largest: bool, timeout: i64) -> Result<()> {
        // SAFETY: the group is open as long as self, and tch's pointer is that of an at::Tensor.
        let returned = unsafe {
            let tensor = tensor.as_mut_ptr().cast();
            ffi::torch_ext_all_reduce(self.raw.as_ptr(), tensor, largest, timeout)
        };
        lost("all-reduce", returned)
    }

    /// Replaces a tensor by that of rank 0; `timeout` in place of the group's, if given.
    ///
    /// # Errors
    /// If another rank is gone or too late.
    pub fn broadcast(&self, tensor: &mut Tensor, timeout: Option<Duration>) -> Result<()> {
        // SAFETY: as above.
        let returned = unsafe {
            let tensor = tensor.as_mut_ptr().cast();
            ffi::torch_ext_broadcast(self.raw.as_ptr(), tensor, timeout.map_or(0, millis))
        };
        lost("broadcast", returned)
    }

    /// Waits for all ranks, of a group of Gloo's.
    ///
    /// # Errors
    /// If another rank is gone or too late.
    pub fn barrier(&self) -> Result<()> {
        self.all_reduce_max(&mut Tensor::zeros([1], (Kind::Int64, Device::Cpu)), None)
    }

    /// Ends what is under way, in NCCL; Gloo's operations end when a rank's group is dropped.
    pub fn abort(&self) {
        // SAFETY: the group is open as long as self.
        unsafe {
            ffi::torch_ext_group_abort(self.raw.as_ptr());
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: the handle was opened by us and is not used again.
        unsafe {
            ffi::torch_ext_group_close(self.raw.as_ptr());
        }
    }
}

fn lost(what: &str, returned: *mut c_char) -> Result<()> {
    check(|| format!("another rank ended or did not answer in time ({what})"), returned)
}
