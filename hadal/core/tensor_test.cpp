#include "hadal/core/tensor.h"

#include <gtest/gtest.h>

#include <memory>

#include "hadal/core/out_of_memory.h"
#include "hadal/core/workspace.h"
#include "tests/support/memory_limit.h"

namespace hadal {
namespace {

Tensor counted(Shape shape) {
  Tensor t(DType::kF32, shape);
  for (Index i = 0; i < shape.num_elements(); ++i) t->data<float>()[i] = static_cast<float>(i);
  return t;
}

TEST(Tensor, SlicesAreViewsOfTheSameMemory) {
  const Tensor t = counted({4, 6});
  const TensorRef part = t->rows(1, 3).columns(2, 5);
  EXPECT_EQ(part.shape(), (Shape{2, 3}));
  EXPECT_FALSE(part.is_contiguous());
  EXPECT_EQ((part.view<float, 2>()(1, 2)), 16.0f);
  part.view<float, 2>()(0, 0) = -1;
  EXPECT_EQ((t->view<float, 2>()(1, 2)), -1.0f);
  const Tensor copy = Tensor::copy_of(part);
  EXPECT_EQ(copy->data<float>()[5], 16.0f);
}

TEST(Tensor, SplittingTheLastDimensionNeedsNoCopy) {
  const Tensor t = counted({3, 8});
  const TensorRef heads = t->columns(2, 8).split_last(2, 3);
  EXPECT_EQ(heads.shape(), (Shape{3, 2, 3}));
  EXPECT_EQ((heads.view<float, 3>()(1, 1, 2)), 15.0f);
}

TEST(Tensor, ChecksItsBorders) {
  const Tensor t = counted({2, 3});
  EXPECT_THROW(t->rows(1, 3), Error);
  EXPECT_THROW(t->columns(-1, 2), Error);
  EXPECT_THROW(t->reshape({7}), Error);
  EXPECT_THROW((t->view<float, 3>()), Error);
  EXPECT_THROW((t->view<double, 2>()), Error);
  EXPECT_THROW(t->columns(0, 2).reshape({4}), Error);
}

TEST(Tensor, TheHostReachesNoElementOfAnotherDevice) {
  const Tensor t = counted({2, 3});
  const Device gpu{Device::Kind::kGpu, 0};
  const TensorRef far(t->raw(), DType::kF32, {2, 3}, gpu);
  const ConstTensorRef part = far.columns(1, 3)[0];
  EXPECT_THROW(far.data<float>(), Error);
  EXPECT_THROW((far.view<float, 2>()), Error);
  EXPECT_THROW(far.reshape({6}).raw(), Error);
  EXPECT_THROW(part.data<float>(), Error);
  EXPECT_THROW(Tensor::copy_of(part), Error);
  EXPECT_THROW(t->data_on<float>(gpu), Error);
  EXPECT_EQ(part.data_on<float>(gpu)[1], 2.0f);
}

TEST(Workspace, ScopesGiveMemoryBackAndSteadyUseAllocatesNothing) {
  Workspace workspace;
  const auto step = [&] {
    const Workspace::Scope scope(workspace);
    for (int i = 0; i < 50; ++i) {
      const TensorRef t = workspace.floats({1000 + i, 37});
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.raw()) % 64, 0u);
      t.data<float>()[t.num_elements() - 1] = 1;
    }
  };
  step();
  step();
  const std::size_t before = workspace.allocated_bytes();
  for (int i = 0; i < 10; ++i) step();
  EXPECT_EQ(workspace.allocated_bytes(), before);
}

TEST(Tensor, SaysThatThereIsNotEnoughMemory) {
  EXPECT_THROW(Tensor(DType::kU8, {Index{1} << 60}), OutOfMemory);
}

TEST(Workspace, AScopeEndsWithoutAnErrorAlsoWhenThereIsNoMemory) {
  if (!test::MemoryLimit::works()) GTEST_SKIP() << "sanitizers do not go on without memory";
  // Several blocks: one of their size is to replace them when the scope ends.
  auto full = std::make_unique<Workspace>();
  auto scope = std::make_unique<Workspace::Scope>(*full);
  for (int i = 0; i < 4; ++i) full->tensor(DType::kU8, {Index{48} << 20});
  {
    const test::MemoryLimit limit(-(std::int64_t{64} << 20));
    scope.reset();  // would end the program if it threw
    EXPECT_EQ(full->allocated_bytes(), 0u);
    EXPECT_THROW(full->tensor(DType::kU8, {Index{1} << 30}), OutOfMemory);
  }
  EXPECT_EQ(full->tensor(DType::kU8, {Index{1} << 20}).num_bytes(), Index{1} << 20);
}

TEST(Workspace, NestedScopesKeepWhatIsOutside) {
  Workspace workspace;
  const Workspace::Scope outer(workspace);
  const TensorRef kept = workspace.floats({100});
  kept.data<float>()[99] = 5;
  for (int i = 0; i < 20; ++i) {
    const Workspace::Scope inner(workspace);
    workspace.floats({100000}).data<float>()[0] = 1;
  }
  EXPECT_EQ(kept.data<float>()[99], 5.0f);
}

}  // namespace
}  // namespace hadal
