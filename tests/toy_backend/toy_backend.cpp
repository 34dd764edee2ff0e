#include "tests/toy_backend/toy_backend.h"

#include <sys/mman.h>

#include <cstring>

#include "hadal/core/context.h"
#include "hadal/core/out_of_memory.h"
#include "hadal/kernels/backend.h"

namespace hadal::test {
namespace {

// One reservation, handed out from front to back, and anew when everything has been given back: opening it takes as
// long as it has pages in use.
class ToyMemory : public DeviceMemory {
 public:
  ToyMemory() {
    void* mapped = ::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    HADAL_CHECK(mapped != MAP_FAILED, "toy: no address space");
    begin_ = static_cast<std::byte*>(mapped);
  }

  // Its pages can be read and written until the scope closes.
  class Open {
   public:
    explicit Open(ToyMemory& memory) : memory_(memory) {
      if (memory_.opened_++ == 0) memory_.protect(PROT_READ | PROT_WRITE);
    }
    ~Open() {
      if (--memory_.opened_ == 0) memory_.protect(PROT_NONE);
    }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;

   private:
    ToyMemory& memory_;
  };

  Device device() const override { return {Device::Kind::kGpu, 0}; }
  void* allocate(std::size_t bytes) override {
    const std::size_t at = used_;
    used_ += (bytes / kLine + 1) * kLine;
    if (used_ > kBytes) throw OutOfMemory("toy: the device is full");
    ++pieces_;
    return begin_ + at;
  }
  void free(void*) noexcept override {
    if (--pieces_ == 0) used_ = 0;
  }
  void copy_from_host(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy_within(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }

 private:
  static constexpr std::size_t kBytes = std::size_t{4} << 30, kLine = 64, kPage = 4096;

  void protect(int how) const {
    HADAL_CHECK(::mprotect(begin_, (used_ + kPage - 1) / kPage * kPage, how) == 0, "toy: mprotect failed");
  }
  void copy(void* to, const void* from, std::size_t bytes) {
    const Open open(*this);
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

  std::byte* begin_ = nullptr;
  std::size_t used_ = 0;
  int pieces_ = 0;
  int opened_ = 0;
};

ToyMemory& memory() {
  static ToyMemory toy;
  return toy;
}

}  // namespace

DeviceMemory& toy_memory() {
  return memory();
}

// One operation of the reference, with scratch of the host's and the device's memory open.
template <auto kOperation>
struct OnToy;
template <class... Args, void (*kernels::Backend::*kOperation)(Context&, Args...)>
struct OnToy<kOperation> {
  static void run(Context& ctx, Args... args) {
    Context host(1, Numerics{Isa::kRef, ctx.numerics.activations});
    const ToyMemory::Open open(memory());
    (kernels::ref::kBackend.*kOperation)(host, args...);
  }
};

// Nothing of ctx.workspace: run() has scratch of its own.
template <class... Args, WorkspaceNeed (*kernels::Backend::*kNeed)(const Context&, Args...)>
struct OnToy<kNeed> {
  static WorkspaceNeed run(const Context&, Args...) { return {}; }
};

}  // namespace hadal::test

namespace hadal::kernels::gpu {

using test::OnToy;

const Backend kBackend = {.packed_layout = [](const Numerics&) { return Layout::kDevice; },
                          .linear = OnToy<&Backend::linear>::run,
                          .absorb = OnToy<&Backend::absorb>::run,
                          .expand = OnToy<&Backend::expand>::run,
                          .pack_keys = OnToy<&Backend::pack_keys>::run,
                          .attend_expanded = OnToy<&Backend::attend_expanded>::run,
                          .attend_absorbed = OnToy<&Backend::attend_absorbed>::run,
                          .pack_entries = OnToy<&Backend::pack_entries>::run,
                          .unpack_entries = OnToy<&Backend::unpack_entries>::run,
                          .gate = OnToy<&Backend::gate>::run,
                          .mixture = OnToy<&Backend::mixture>::run,
                          .combine = OnToy<&Backend::combine>::run,
                          .rms_norm = OnToy<&Backend::rms_norm>::run,
                          .swiglu = OnToy<&Backend::swiglu>::run,
                          .add = OnToy<&Backend::add>::run,
                          .rope = OnToy<&Backend::rope>::run,
                          .copy = OnToy<&Backend::copy>::run,
                          .gather = OnToy<&Backend::gather>::run,
                          .embedding = OnToy<&Backend::embedding>::run,
                          .to_float = OnToy<&Backend::to_float>::run,
                          .from_float = OnToy<&Backend::from_float>::run,
                          .linear_need = OnToy<&Backend::linear_need>::run,
                          .expand_need = OnToy<&Backend::expand_need>::run,
                          .attend_expanded_need = OnToy<&Backend::attend_expanded_need>::run,
                          .attend_absorbed_need = OnToy<&Backend::attend_absorbed_need>::run,
                          .mixture_need = OnToy<&Backend::mixture_need>::run,
                          .gate_need = OnToy<&Backend::gate_need>::run};

}  // namespace hadal::kernels::gpu
