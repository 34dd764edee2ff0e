#include "hadal/io/free_memory.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temporary_directory.h"

namespace hadal::io {
namespace {

class FreeMemory : public ::testing::Test {
 protected:
  void write(const std::string& file, const std::string& text) {
    std::filesystem::create_directories((root.path() / file).parent_path());
    std::ofstream(root.path() / file) << text;
  }
  void SetUp() override { write("proc/meminfo", "MemTotal: 2000 kB\nMemAvailable:    1000 kB\n"); }
  test::TemporaryDirectory root;
};

TEST_F(FreeMemory, WithoutGroupsItIsWhatTheMachineHas) {
  EXPECT_EQ(free_memory(root.path()), 1000u * 1024);
}

TEST_F(FreeMemory, TheTightestGroupOfVersion2Counts) {
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  write("sys/fs/cgroup/a/memory.max", "500000\n");
  write("sys/fs/cgroup/a/memory.stat", "anon 100000\nfile 300000\n");
  EXPECT_EQ(free_memory(root.path()), 400000u);
}

TEST_F(FreeMemory, Version1AndAGroupThatIsFull) {
  write("proc/self/cgroup", "4:cpu,memory:/x\n1:cpuset:/\n");
  write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "700000\n");
  write("sys/fs/cgroup/memory/x/memory.stat", "rss 1\ntotal_rss 600000\n");
  EXPECT_EQ(free_memory(root.path()), 100000u);
  write("sys/fs/cgroup/memory/x/memory.stat", "total_rss 900000\n");
  EXPECT_EQ(free_memory(root.path()), 0u);
}

TEST_F(FreeMemory, AGroupWithoutALimitOrAFolderChangesNothing) {
  write("proc/self/cgroup", "0::/not/there\ngarbage\n");
  EXPECT_EQ(free_memory(root.path()), 1000u * 1024);
}

TEST(FreeMemoryOfThisMachine, IsSomething) {
  EXPECT_GT(free_memory(), 0u);
}

}  // namespace
}  // namespace hadal::io
