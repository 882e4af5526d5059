// What of libtorch's c10d the Rust side calls. Functions return null, or what went wrong as text
// that torch_ext_free takes back. Times are in milliseconds.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct torch_ext_store;
struct torch_ext_group;

void torch_ext_free(void *bytes);
// Whether a libtorch_cuda with NCCL is loaded.
bool torch_ext_has_nccl();
// The vector instructions of libtorch's CPU kernels, by its own name for them.
char *torch_ext_cpu_capability();
// Only what is fatal is still written to standard error by libtorch itself.
void torch_ext_quiet();

// A TCPStore: the server of a port (0: any free one) or its client.
char *torch_ext_store_open(const char *host, uint16_t port, bool serve, int64_t timeout,
                           torch_ext_store **store);
void torch_ext_store_close(torch_ext_store *store);
uint16_t torch_ext_store_port(const torch_ext_store *store);
char *torch_ext_store_add(torch_ext_store *store, const char *key, int64_t by, int64_t *sum);
char *torch_ext_store_set(torch_ext_store *store, const char *key, const char *value);
// Waits for the key; the value ends with a zero.
char *torch_ext_store_get(torch_ext_store *store, const char *key, int64_t timeout, char **value);

// A process group over a store, all of whose keys start with `prefix`. `host`: the address that Gloo
// listens at, or null for the one of this machine's name; `interfaces`: in its place those of some network
// interfaces, their names between commas, or null.
char *torch_ext_group_open(torch_ext_store *store, const char *prefix, int rank, int world,
                           bool on_nccl, const char *host, const char *interfaces,
                           int64_t timeout, torch_ext_group **group);
void torch_ext_group_close(torch_ext_group *group);
// `tensor` is an at::Tensor *. A time-out of 0 is that of the group.
char *torch_ext_all_reduce(torch_ext_group *group, void *tensor, bool largest, int64_t timeout);
char *torch_ext_broadcast(torch_ext_group *group, void *tensor, int64_t timeout);
void torch_ext_group_abort(torch_ext_group *group);
}
