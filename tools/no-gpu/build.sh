#!/usr/bin/env bash
# Builds the runtime that computes nothing for the torch of a Python, and prints what to set for a program
# to run on it.  build.sh PYTHON FOLDER
set -euo pipefail
python=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
include=$packages/nvidia/cu13/include
halves=("$packages"/torch/lib/{libc10_cuda,libtorch_cuda,libtorch_cuda_linalg}.so)

g++ -std=c++17 -O1 -Wall -fPIC -shared "-I$include" "-I$include/cccl" "$here/runtime.cpp" -o "$out/libruntime.so"

# Whatever else libtorch asks for succeeds and does nothing.
asked() { nm -D --undefined-only "$@" | awk '{print $NF}' | sed 's/@.*//' | grep -E "$pattern" | sort -u; }
defined() { nm -D --defined-only "$1" | awk '{print $NF}' | sort -u; }
stubs() { sed 's/.*/long &(void) { return 0; }/'; }
library() { gcc -x c -w -fPIC -shared - -o "$1"; }
pattern='^(cuda[A-Z]|__cuda|cublas)'
comm -23 <(asked "${halves[@]}") <(defined "$out/libruntime.so") | stubs | library "$out/librest.so"

# The driver, which is asked for the device's name, and whether somebody uses it.
pattern='^cu[A-Z]'
{
    asked "${halves[@]}" "$packages/torch/lib/libcaffe2_nvrtc.so" |
        grep -vxE 'cuDeviceGet|cuDevicePrimaryCtxGetState|cuCtxGetCurrent' | stubs
    cat <<'DRIVER'
int cuDeviceGet(int *device, int index) { return *device = index; }
int cuDeviceGetName(char *name, int length, int device) { return __builtin_strncpy(name, "no GPU", length), 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { return *flags = 0, *active = 1, 0; }
int cuCtxGetCurrent(void **context) { return *context = context, 0; }
DRIVER
} | library "$out/libcuda.so.1"

echo "FORGETTING_LAWS_TORCH=$packages/torch LD_LIBRARY_PATH=$out LD_PRELOAD=$out/libruntime.so:$out/librest.so"
