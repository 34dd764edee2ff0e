// A device kind whose back end is not built: every operation says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hadal/ops/elementwise.h"
#include "hadal/ops/linear.h"
#include "tests/support/said.h"

namespace hadal {
namespace {

using test::said;

// Any memory will do: nothing comes to computing.
class FarMemory : public DeviceMemory {
 public:
  Device device() const override { return {Device::Kind::kGpu, 0}; }
  void* allocate(std::size_t bytes) override { return host_memory().allocate(bytes); }
  void free(void* p) noexcept override { host_memory().free(p); }
  void copy_from_host(void*, const void*, std::size_t) override {}
  void copy_to_host(void*, const void*, std::size_t) override {}
  void copy_within(void*, const void*, std::size_t) override {}
};

TEST(Stub, OperationsOnADeviceThatThisBuildHasNotAreAnError) {
  FarMemory memory;
  Context ctx(1, Numerics{}, memory);
  const auto sentence = ::testing::HasSubstr("this build has no GPU back end; configure it with -DHADAL_BACKENDS=");
  const TensorRef x = ctx.workspace.floats({2, 4}), w = ctx.workspace.floats({3, 4});
  EXPECT_THAT(said([&] { ops::linear(ctx, x, {.values = w}); }), sentence);
  EXPECT_THAT(said([&] { ops::swiglu(ctx, x, x); }), sentence);
  EXPECT_THAT(said([&] { ops::add_in_place(ctx, x, x); }), sentence);
  const std::int32_t ids[] = {1};
  EXPECT_THAT(said([&] { ops::embedding(ctx, {.values = w}, ids); }), sentence);
}

}  // namespace
}  // namespace hadal
