// Reads from large files with several in flight, past the page cache where the system allows it (O_DIRECT): by
// io_uring, or, where the kernel or a sandbox refuses that, by a few threads that call pread. Bytes land in the
// caller's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "hadal/io/mapped_file.h"

namespace hadal::io {

// One thread at a time may call this. Has one thread of its own, or kPreadThreads of them, which sleep between reads.
class AsyncReader {
 public:
  enum class Backend { kAuto, kIoUring, kThreads };
  static constexpr std::uint64_t kAlignment = 4096;  // of offsets, sizes and memory
  static constexpr int kPreadThreads = 4;

  struct Read {
    int file = 0;              // what open returned
    std::uint64_t offset = 0;  // bytes, a multiple of kAlignment like the two below
    std::uint64_t bytes = 0;
    std::byte* to = nullptr;   // must stay until the result came
    std::uint64_t needed = 0;  // at most `bytes`: how many must come, as the last block of a file is a short one
    std::uint64_t tag = 0;     // the caller's; reads that share one can be hastened and cancelled together
  };
  struct Result {
    Read read;
    std::uint64_t done = 0;  // bytes that came
    std::string fault;       // empty, or why the bytes did not come: "the file ends at byte 17", "Input/output error"
  };

  // kAuto takes io_uring if it works here; asking for kIoUring throws if it does not.
  explicit AsyncReader(Backend backend = Backend::kAuto);
  ~AsyncReader();  // waits for what is in flight
  AsyncReader(const AsyncReader&) = delete;
  AsyncReader& operator=(const AsyncReader&) = delete;

  Backend backend() const;
  // Throws Error if the file cannot be opened or is another one than `expected`.
  int open(const std::filesystem::path& path, const FileIdentity& expected);
  // Its size or time of modification are no longer those of its opening.
  bool changed(int file) const;
  // False once reads of the file go through the page cache, because its file system refuses anything else.
  bool direct(int file) const;

  // Never waits for the disk. Urgent reads go first; of the others only a few are in flight at a time.
  void submit(const Read& read, bool urgent);
  void hasten(std::uint64_t tag);         // those that have not started become urgent
  std::size_t cancel(std::uint64_t tag);  // takes back those that have not started; how many
  std::size_t outstanding() const;        // results that will still come
  std::optional<Result> poll();           // one that has come, if any
  Result wait();                          // blocks; something must be outstanding

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hadal::io
