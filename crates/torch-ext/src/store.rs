//! Where processes meet: c10d's TCPStore.

use crate::{Result, c_text, check, ffi, millis, taken};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::time::Duration;

/// A key-value store that one process serves and all use.
#[derive(Debug)]
pub struct Store {
    raw: Mutex<NonNull<ffi::RawStore>>,
    /// Before every key, so that a second attempt of the same processes meets none of the first's.
    prefix: String,
}

// SAFETY: c10d's store may be used from any thread, one at a time: the mutex.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Serves the store at a port of this machine; 0 is any free one.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub fn serve(port: u16) -> Result<Self> {
        Self::open("localhost", port, true, Duration::from_secs(300), String::new())
    }

    /// Connects to the store at `host`, or serves it there; waits up to `timeout` for its server.
    pub(crate) fn open(
        host: &str,
        port: u16,
        serve: bool,
        timeout: Duration,
        prefix: String,
    ) -> Result<Self> {
        let mut raw = std::ptr::null_mut();
        let returned = {
            let host = c_text(host);
            // SAFETY: the text outlives the call, which writes the handle only where it succeeds.
            unsafe {
                ffi::torch_ext_store_open(host.as_ptr(), port, serve, millis(timeout), &mut raw)
            }
        };
        check(|| format!("the store at {host}:{port}"), returned)?;
        let raw = NonNull::new(raw).expect("a store where there is no error");
        Ok(Self { raw: Mutex::new(raw), prefix })
    }

    /// The port that it is served at.
    pub fn port(&self) -> u16 {
        // SAFETY: the handle is open as long as self.
        self.with(|raw| unsafe { ffi::torch_ext_store_port(raw) })
    }

    /// Adds to a number, which starts at 0; returns the sum.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn add(&self, key: &str, by: i64) -> Result<i64> {
        let name = c_text(&self.key(key));
        let mut sum = 0;
        // SAFETY: the handle is open as long as self; the text outlives the call.
        let returned =
            self.with(|raw| unsafe { ffi::torch_ext_store_add(raw, name.as_ptr(), by, &mut sum) });
        check(|| format!("the store's {key}"), returned).map(|()| sum)
    }

    /// Sets a text.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let (name, value) = (c_text(&self.key(key)), c_text(value));
        // SAFETY: the handle is open as long as self; the texts outlive the call.
        let returned = self
            .with(|raw| unsafe { ffi::torch_ext_store_set(raw, name.as_ptr(), value.as_ptr()) });
        check(|| format!("the store's {key}"), returned)
    }

    /// The text of a key, once somebody has set it.
    ///
    /// # Errors
    /// If nobody has in this time, or the server is gone.
    pub fn get(&self, key: &str, timeout: Duration) -> Result<String> {
        let name = c_text(&self.key(key));
        let mut value = std::ptr::null_mut();
        // SAFETY: the handle is open as long as self; the text outlives the call; what is returned
        // is a text of malloc's.
        let returned = self.with(|raw| unsafe {
            ffi::torch_ext_store_get(raw, name.as_ptr(), millis(timeout), &mut value)
        });
        check(|| format!("the store's {key}"), returned)?;
        Ok(taken(value).unwrap_or_default())
    }

    /// The name of a key in the server.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(*mut ffi::RawStore) -> T) -> T {
        let raw = self.raw.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        work(raw.as_ptr())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the handle was opened by us and is not used again; groups hold it by themselves.
        self.with(|raw| unsafe { ffi::torch_ext_store_close(raw) });
    }
}
