// A CUDA runtime and cuBLAS that compute nothing: memory is the host's, and what is asked for is
// counted. README.md says what for.

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cxxabi.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <string>

namespace {

constexpr int MULTIPROCESSORS = 108;
constexpr int SHARED_MEMORY = 49152;
constexpr int SHARED_MEMORY_AT_MOST = 166912;
constexpr size_t MEMORY = size_t(80) << 30;
constexpr size_t LARGE = size_t(1) << 30;

enum class Where { Pageable, Pinned, Device };

struct Block {
  size_t bytes;
  Where where;
};

struct Counts {
  std::mutex lock;
  std::map<const void *, std::string> kernels;
  std::map<std::string, long> calls;
  std::map<uintptr_t, Block> blocks;
  size_t used = 0, peak = 0;
  double flops = 0;
};

// Never destroyed: libraries call until the process is gone.
Counts &counts() {
  static auto *counts = new Counts;
  return *counts;
}

cudaError_t counted(const std::string &call) {
  const std::lock_guard<std::mutex> locked(counts().lock);
  ++counts().calls[call];
  return cudaSuccess;
}

cudaError_t launched(const void *kernel) {
  const std::lock_guard<std::mutex> locked(counts().lock);
  ++counts().calls["launches"];
  ++counts().calls["kernel " + counts().kernels[kernel]];
  return cudaSuccess;
}

cublasStatus_t multiplied(int m, int n, int k, int batch) {
  const std::lock_guard<std::mutex> locked(counts().lock);
  ++counts().calls["launches"];
  ++counts().calls["matrix products"];
  counts().flops += 2.0 * m * n * k * batch;
  return CUBLAS_STATUS_SUCCESS;
}

// Memory of the host that nobody touches takes no room.
cudaError_t allocate(void **pointer, size_t bytes, Where where) {
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const std::lock_guard<std::mutex> locked(counts().lock);
  const bool on_device = where == Where::Device;
  if (on_device && counts().used + bytes > MEMORY) return cudaErrorMemoryAllocation;
  if (posix_memalign(pointer, 512, bytes) != 0) return cudaErrorMemoryAllocation;
  counts().blocks[uintptr_t(*pointer)] = {bytes, where};
  if (on_device) counts().used += bytes;
  if (counts().used > counts().peak) counts().peak = counts().used;
  return cudaSuccess;
}

cudaError_t release(void *pointer) {
  const std::lock_guard<std::mutex> locked(counts().lock);
  const auto block = counts().blocks.find(uintptr_t(pointer));
  if (block == counts().blocks.end()) return cudaSuccess;
  if (block->second.where == Where::Device) counts().used -= block->second.bytes;
  counts().blocks.erase(block);
  std::free(pointer);
  return cudaSuccess;
}

Where where(const void *pointer) {
  const std::lock_guard<std::mutex> locked(counts().lock);
  const auto address = uintptr_t(pointer);
  const auto after = counts().blocks.upper_bound(address);
  if (after == counts().blocks.begin()) return Where::Pageable;
  const auto &[start, block] = *std::prev(after);
  return address < start + block.bytes ? block.where : Where::Pageable;
}

// Nobody computes with what is on the device. The parameters of a large model stay where they are, so that
// the host needs no room for a second copy.
void copy(void *to, const void *from, size_t bytes) {
  if (bytes < LARGE || where(to) != Where::Device) std::memcpy(to, from, bytes);
}

std::string name(const void *pointer) {
  const char *names[] = {"pageable", "pinned", "device"};
  return names[int(where(pointer))];
}

template <class Handle>
void make(Handle *handle) {
  *handle = reinterpret_cast<Handle>(std::calloc(1, 512));
}

// A line a count, kernels by their names, in the file that COUNTS names with the process's number
// behind it.
__attribute__((destructor)) void report() {
  const char *path = std::getenv("COUNTS");
  if (path == nullptr || counts().calls.empty()) return;
  std::ofstream file(std::string(path) + "." + std::to_string(getpid()));
  file << counts().peak / 1e9 << " GB of memory at most\n";
  file << counts().flops / 1e12 << " TFLOP of matrix products\n";
  for (const auto &[call, times] : counts().calls) {
    const auto kernel = call.rfind("kernel ", 0) == 0 ? call.substr(7) : "";
    int status = 0;
    char *plain = abi::__cxa_demangle(kernel.c_str(), nullptr, nullptr, &status);
    file << times << ' ' << (plain == nullptr ? call : std::string("kernel ") + plain) << '\n';
    std::free(plain);
  }
}

}  // namespace

extern "C" {

// What the compiler puts into programs with kernels.

void **__cudaRegisterFatBinary(void *) {
  return static_cast<void **>(std::calloc(1, sizeof(void *)));
}

char __cudaInitModule(void **) {
  return 1;
}

void __cudaRegisterFunction(void **, const char *host, char *, const char *name, int, void *, void *, void *, void *,
                            int *) {
  const std::lock_guard<std::mutex> locked(counts().lock);
  counts().kernels[host] = name;
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host) {
  *kernel = cudaKernel_t(host);
  return cudaSuccess;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  *grid = *block = dim3{1, 1, 1};
  *shared = 0;
  *static_cast<void **>(stream) = nullptr;
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void **, size_t, cudaStream_t) {
  return launched(kernel);
}

cudaError_t cudaLaunchKernel(const void *kernel, dim3, dim3, void **, size_t, cudaStream_t) {
  return launched(kernel);
}

cudaError_t cudaLaunchCooperativeKernel(const void *kernel, dim3, dim3, void **, size_t, cudaStream_t) {
  return launched(kernel);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *, const void *kernel, void **) {
  return launched(kernel);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->maxDynamicSharedSizeBytes = SHARED_MEMORY;
  attributes->numRegs = 32;
  attributes->binaryVersion = attributes->ptxVersion = 80;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int, size_t) {
  *blocks = 2;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *, int, size_t, unsigned) {
  *blocks = 2;
  return cudaSuccess;
}

// The device: an A100 of 80 GB, as far as libtorch asks.

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *device, int) {
  *device = {};
  std::strcpy(device->name, "no GPU");
  device->major = 8;
  device->multiProcessorCount = MULTIPROCESSORS;
  device->totalGlobalMem = MEMORY;
  device->sharedMemPerBlock = SHARED_MEMORY;
  device->sharedMemPerBlockOptin = SHARED_MEMORY_AT_MOST;
  device->sharedMemPerMultiprocessor = 167936;
  device->regsPerBlock = device->regsPerMultiprocessor = 65536;
  device->warpSize = 32;
  device->maxThreadsPerBlock = device->maxThreadsDim[0] = device->maxThreadsDim[1] = 1024;
  device->maxThreadsDim[2] = 64;
  device->maxThreadsPerMultiProcessor = 2048;
  device->maxBlocksPerMultiProcessor = 32;
  device->maxGridSize[0] = 2147483647;
  device->maxGridSize[1] = device->maxGridSize[2] = 65535;
  device->textureAlignment = 512;
  device->l2CacheSize = 40 << 20;
  device->concurrentKernels = device->unifiedAddressing = device->cooperativeLaunch = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
  const std::map<cudaDeviceAttr, int> known = {
      {cudaDevAttrComputeCapabilityMajor, 8},
      {cudaDevAttrCooperativeLaunch, 1},
      {cudaDevAttrMaxBlockDimX, 1024},
      {cudaDevAttrMaxBlockDimY, 1024},
      {cudaDevAttrMaxBlockDimZ, 64},
      {cudaDevAttrMaxBlocksPerMultiprocessor, 32},
      {cudaDevAttrMaxGridDimX, 2147483647},
      {cudaDevAttrMaxGridDimY, 65535},
      {cudaDevAttrMaxGridDimZ, 65535},
      {cudaDevAttrMaxRegistersPerBlock, 65536},
      {cudaDevAttrMaxSharedMemoryPerBlock, SHARED_MEMORY},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, SHARED_MEMORY_AT_MOST},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 167936},
      {cudaDevAttrMaxThreadsPerBlock, 1024},
      {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
      {cudaDevAttrMultiProcessorCount, MULTIPROCESSORS},
      {cudaDevAttrWarpSize, 32},
  };
  const auto found = known.find(attribute);
  *value = found == known.end() ? 0 : found->second;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  return cudaDriverGetVersion(version);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *, void **function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *result) {
  *function = nullptr;
  if (result != nullptr) *result = cudaDriverEntryPointSymbolNotFound;
  return cudaErrorSymbolNotFound;
}

const char *cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "an error of the runtime that computes nothing";
}

// Memory.

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
  counted("allocations on the device");
  return allocate(pointer, bytes, Where::Device);
}

cudaError_t cudaFree(void *pointer) {
  return release(pointer);
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned) {
  return allocate(pointer, bytes, Where::Pinned);
}

cudaError_t cudaFreeHost(void *pointer) {
  return release(pointer);
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  const std::lock_guard<std::mutex> locked(counts().lock);
  *total = MEMORY;
  *free = MEMORY - counts().used;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
  const cudaMemoryType types[] = {cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice};
  *attributes = {};
  attributes->type = types[int(where(pointer))];
  attributes->hostPointer = attributes->devicePointer = const_cast<void *>(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  copy(to, from, bytes);
  return counted("copies, " + name(from) + " to " + name(to));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind) {
  copy(to, from, bytes);
  return counted("waits");
}

cudaError_t cudaMemsetAsync(void *, int, size_t, cudaStream_t) {
  return counted("launches");
}

// Waits, streams, events.

cudaError_t cudaDeviceSynchronize() {
  return counted("waits");
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return counted("waits");
}

cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return counted("waits");
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  make(event);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  make(event);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int) {
  make(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *, const cudaGraphNode_t **, const cudaGraphEdgeData **, size_t *) {
  *status = cudaStreamCaptureStatusNone;
  if (id != nullptr) *id = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

// Matrix products.

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
  make(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t, cublasMath_t *mode) {
  *mode = CUBLAS_DEFAULT_MATH;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t, cublasPointerMode_t *mode) {
  *mode = CUBLAS_POINTER_MODE_HOST;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k, const float *,
                              const float *, int, const float *, int, const float *, float *, int) {
  return multiplied(m, n, k, 1);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k,
                                         const float *, const float *, int, long long, const float *, int, long long,
                                         const float *, float *, int, long long, int batch) {
  return multiplied(m, n, k, batch);
}

cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k, const void *,
                            const void *, cudaDataType, int, const void *, cudaDataType, int, const void *, void *,
                            cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t) {
  return multiplied(m, n, k, 1);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k,
                                          const void *, const void *, cudaDataType, int, long long, const void *,
                                          cudaDataType, int, long long, const void *, void *, cudaDataType, int,
                                          long long, int batch, cublasComputeType_t, cublasGemmAlgo_t) {
  return multiplied(m, n, k, batch);
}

// Those with a bias, of unknown size.

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t *,
                                              int *found) {
  *found = 1;
  return multiplied(0, 0, 0, 0);
}

}  // extern "C"
