// The safetensors format (https://github.com/huggingface/safetensors): eight bytes of header length, a JSON header,
// then the tensors' bytes. Files are hostile input: every name, dtype, shape, offset, overlap and length is checked
// before use, and a violation is one sentence that names the file and the tensor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hadal/core/tensor.h"
#include "hadal/io/mapped_file.h"

namespace hadal::io {

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t begin = 0;  // bytes from the start of the file
  std::uint64_t end = 0;
};

// The header alone: what `parse` needs is the file's length and its first bytes, so it can be fuzzed without files.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of their data
  std::map<std::string, std::string> metadata;

  // `bytes` is the whole file (or what there is of it); `where` names it in errors.
  static SafetensorsHeader parse(std::span<const std::byte> bytes, std::uint64_t file_size, const std::string& where);
};

// A file opened for reading by mmap. References returned live as long as the object.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const TensorInfo* find(const std::string& name) const;  // nullptr if absent
  // The bytes belong to a read-only mapping; nobody writes through this reference. (A tensor whose address does not
  // suit its element size, as the format pads only its header, is copied at the first call.)
  ConstTensorRef tensor(const TensorInfo& info) const;
  // Where a tensor lies in the mapping, however aligned: its address tells the place in the file; not for reading.
  ConstTensorRef in_place(const TensorInfo& info) const;
  // The byte of the file that an address in the mapping stands for; none if it lies elsewhere.
  std::optional<std::uint64_t> offset_of(const void* address) const;
  // The tensor that a byte of the file belongs to; nullptr for the header's.
  const TensorInfo* tensor_at(std::uint64_t offset) const;
  const FileIdentity& identity() const { return file_.identity(); }
  // Drops what was read so far from this process's resident memory, for tools that walk through a large file; a later
  // access reads it again. All of the file, because a page fault also maps the neighbours of the page that was asked
  // for.
  void release() const { file_.release(); }
  // The file's bytes [begin, begin + bytes) will be used soon.
  void will_need(std::uint64_t begin, std::uint64_t bytes) const { file_.will_need(begin, begin + bytes); }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  SafetensorsHeader header_;
  std::map<std::string, std::size_t> index_;
  struct Realigned {
    std::mutex mutex;
    std::map<std::string, Tensor> copies;
  };
  std::unique_ptr<Realigned> realigned_ = std::make_unique<Realigned>();
};

// Writes one file as a stream: the names, dtypes and shapes are known at the start, the data comes tensor by tensor in
// any sized pieces, memory use is a small buffer. The file has a temporary name until finish(), which fsyncs and
// renames; without finish() nothing remains but the temporary file, which the destructor removes.
class SafetensorsWriter {
 public:
  struct Entry {
    std::string name;
    DType dtype;
    Shape shape;
  };
  // Data follows in the order of `entries`. Fails at once if the disk lacks room where that can be known.
  SafetensorsWriter(std::filesystem::path path, std::vector<Entry> entries,
                    std::map<std::string, std::string> metadata = {});
  ~SafetensorsWriter();
  SafetensorsWriter(SafetensorsWriter&&) noexcept;

  void write(std::span<const std::byte> bytes);
  void write(
      const ConstTensorRef& tensor);    // contiguous; must be the next entry, whole: name order is the caller's promise
  void finish();                        // throws if bytes are missing

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hadal::io
