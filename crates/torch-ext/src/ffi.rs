//! The functions of `c10d.h`.

use std::ffi::{c_char, c_int, c_void};

#[repr(C)]
pub struct RawStore {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct RawGroup {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    pub fn torch_ext_free(bytes: *mut c_void);
    pub fn torch_ext_has_nccl() -> bool;
    pub fn torch_ext_cpu_capability() -> *mut c_char;
    pub fn torch_ext_quiet();
    pub fn torch_ext_store_open(
        host: *const c_char,
        port: u16,
        serve: bool,
        timeout: i64,
        store: *mut *mut RawStore,
    ) -> *mut c_char;
    pub fn torch_ext_store_close(store: *mut RawStore);
    pub fn torch_ext_store_port(store: *const RawStore) -> u16;
    pub fn torch_ext_store_add(
        store: *mut RawStore,
        key: *const c_char,
        by: i64,
        sum: *mut i64,
    ) -> *mut c_char;
    pub fn torch_ext_store_set(
        store: *mut RawStore,
        key: *const c_char,
        value: *const c_char,
    ) -> *mut c_char;
    pub fn torch_ext_store_get(
        store: *mut RawStore,
        key: *const c_char,
        timeout: i64,
        value: *mut *mut c_char,
    ) -> *mut c_char;
    pub fn torch_ext_group_open(
        store: *mut RawStore,
        prefix: *const c_char,
        rank: c_int,
        world: c_int,
        on_nccl: bool,
        host: *const c_char,
        interfaces: *const c_char,
        timeout: i64,
        group: *mut *mut RawGroup,
    ) -> *mut c_char;
    pub fn torch_ext_group_close(group: *mut RawGroup);
    pub fn torch_ext_all_reduce(
        group: *mut RawGroup,
        tensor: *mut c_void,
        largest: bool,
        timeout: i64,
    ) -> *mut c_char;
    pub fn torch_ext_broadcast(
        group: *mut RawGroup,
        tensor: *mut c_void,
        timeout: i64,
    ) -> *mut c_char;
    pub fn torch_ext_group_abort(group: *mut RawGroup);
}
