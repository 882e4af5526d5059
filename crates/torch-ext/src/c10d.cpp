#include "c10d.h"

#include <ATen/Version.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/version.h>

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

using std::chrono::milliseconds;

struct torch_ext_store {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

struct torch_ext_group {
  c10::intrusive_ptr<c10d::Backend> backend;
};

namespace {

char *copy(const std::string &text) {
  auto *bytes = static_cast<char *>(std::malloc(text.size() + 1));
  std::memcpy(bytes, text.c_str(), text.size() + 1);
  return bytes;
}

// No exception may cross into Rust.
template <class Work>
char *guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const c10::Error &error) {
    return copy(error.what_without_backtrace());
  } catch (const std::exception &error) {
    return copy(error.what());
  } catch (...) {
    return copy("an unknown exception");
  }
}

std::vector<uint8_t> bytes(const char *text) {
  return {text, text + std::strlen(text)};
}

milliseconds limit(int64_t timeout) {
  return timeout > 0 ? milliseconds(timeout) : c10d::kUnsetTimeout;
}

// c10d notes every collective in a record of the whole process, whose map of groups takes new ones
// without a lock: two threads that begin one at the same time would break it.
std::mutex beginning;

template <class Begin>
void carry_out(Begin begin) {
  c10::intrusive_ptr<c10d::Work> work;
  {
    const std::lock_guard<std::mutex> one_at_a_time(beginning);
    work = begin();
  }
  work->wait();
}

// ProcessGroupNCCL is in libtorch_cuda, which is loaded when the program runs, if at all, and its header
// asks for those of CUDA and NCCL. Of the class only two constructors are needed: all else is virtual in
// Backend. They are found by their names, and their objects get more room than they take in libtorch 2.11
// (1,112 and 248 bytes). Both classes have one base, at their start.
namespace nccl {

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11,
              "compare names and sizes with ProcessGroupNCCL.hpp");

using Options = c10::intrusive_ptr<c10d::Backend::Options>;

// ProcessGroupNCCL::Options(bool is_high_priority_stream)
constexpr const char *kOptions = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb";
using ConstructOptions = void (*)(void *self, bool);
constexpr size_t kOptionsRoom = 4096;

// ProcessGroupNCCL(intrusive_ptr<Store>, int rank, int size, intrusive_ptr<Options>)
constexpr const char *kGroup =
    "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_"
    "default_null_typeIS3_EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE";
using ConstructGroup = void (*)(void *self, c10::intrusive_ptr<c10d::Store>, int, int, Options);
constexpr size_t kGroupRoom = 16384;

template <class Function>
Function find(const char *name) {
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

bool is_there() {
  return find<ConstructOptions>(kOptions) != nullptr && find<ConstructGroup>(kGroup) != nullptr;
}

template <class Base, class Construct>
c10::intrusive_ptr<Base> make(size_t room, Construct construct) {
  void *memory = ::operator new(room);
  try {
    construct(memory);
  } catch (...) {
    ::operator delete(memory);
    throw;
  }
  return c10::intrusive_ptr<Base>::unsafe_steal_from_new(static_cast<Base *>(memory));
}

c10::intrusive_ptr<c10d::Backend> open(c10::intrusive_ptr<c10d::Store> store, int rank, int world,
                                       milliseconds timeout) {
  const auto options = find<ConstructOptions>(kOptions);
  const auto group = find<ConstructGroup>(kGroup);
  if (options == nullptr || group == nullptr) {
    throw std::runtime_error("no libtorch_cuda with NCCL is loaded");
  }
  auto set = make<c10d::Backend::Options>(kOptionsRoom, [&](void *self) { options(self, false); });
  set->timeout = timeout;
  return make<c10d::Backend>(kGroupRoom, [&](void *self) { group(self, store, rank, world, set); });
}

}  // namespace nccl

}  // namespace

void torch_ext_free(void *bytes) { std::free(bytes); }

bool torch_ext_has_nccl() { return nccl::is_there(); }

char *torch_ext_cpu_capability() { return copy(at::get_cpu_capability()); }

void torch_ext_quiet() { FLAGS_caffe2_log_level = 3; }

char *torch_ext_store_open(const char *host, uint16_t port, bool serve, int64_t timeout,
                           torch_ext_store **store) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serve;
    // Who has come is counted by the caller, who can then say who is missing.
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout);
    *store = new torch_ext_store{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

void torch_ext_store_close(torch_ext_store *store) {
  guarded([&] { delete store; });
}

uint16_t torch_ext_store_port(const torch_ext_store *store) { return store->store->getPort(); }

char *torch_ext_store_add(torch_ext_store *store, const char *key, int64_t by, int64_t *sum) {
  return guarded([&] { *sum = store->store->add(key, by); });
}

char *torch_ext_store_set(torch_ext_store *store, const char *key, const char *value) {
  return guarded([&] { store->store->set(key, bytes(value)); });
}

char *torch_ext_store_get(torch_ext_store *store, const char *key, int64_t timeout, char **value) {
  return guarded([&] {
    store->store->wait({key}, milliseconds(timeout));
    const auto found = store->store->get(key);
    *value = copy(std::string(found.begin(), found.end()));
  });
}

char *torch_ext_group_open(torch_ext_store *store, const char *prefix, int rank, int world,
                           bool on_nccl, const char *host, const char *interfaces,
                           int64_t timeout, torch_ext_group **group) {
  return guarded([&] {
    auto keys = c10::make_intrusive<c10d::PrefixStore>(prefix, store->store);
    c10::intrusive_ptr<c10d::Backend> backend;
    if (on_nccl) {
      backend = nccl::open(keys, rank, world, milliseconds(timeout));
    } else {
      auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout));
      if (interfaces != nullptr) {
        std::istringstream names(interfaces);
        for (std::string name; std::getline(names, name, ',');) {
          options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(name));
        }
      } else if (host != nullptr) {
        options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(host));
      } else {
        options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
      }
      backend = c10::make_intrusive<c10d::ProcessGroupGloo>(keys, rank, world, options);
    }
    *group = new torch_ext_group{std::move(backend)};
  });
}

void torch_ext_group_close(torch_ext_group *group) {
  guarded([&] { delete group; });
}

char *torch_ext_all_reduce(torch_ext_group *group, void *tensor, bool largest, int64_t timeout) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*static_cast<at::Tensor *>(tensor)};
    c10d::AllreduceOptions options;
    options.reduceOp = largest ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
    options.timeout = limit(timeout);
    carry_out([&] { return group->backend->allreduce(tensors, options); });
  });
}

char *torch_ext_broadcast(torch_ext_group *group, void *tensor, int64_t timeout) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*static_cast<at::Tensor *>(tensor)};
    c10d::BroadcastOptions options;
    options.timeout = limit(timeout);
    carry_out([&] { return group->backend->broadcast(tensors, options); });
  });
}

void torch_ext_group_abort(torch_ext_group *group) {
  guarded([&] { group->backend->abort(); });
}
