#include "hadal/io/safetensors.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>

#include "hadal/core/error.h"

namespace hadal::io {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kLongestHeader = 100'000'000;  // as in the format's reference implementation

namespace dom = simdjson::dom;

// What people find in place of a model file when a download went wrong.
void check_not_something_else(std::span<const std::byte> bytes, const std::string& where) {
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 64));
  HADAL_CHECK(!start.starts_with("version https://git-lfs"),
              "{}: is a Git LFS pointer, not the tensors themselves; fetch them with `git lfs pull`", where);
  HADAL_CHECK(!start.starts_with("<!DOCTYPE") && !start.starts_with("<html"),
              "{}: is an HTML page, not a safetensors file; download it again", where);
}

std::uint64_t read_length(std::span<const std::byte> bytes, std::uint64_t file_size, const std::string& where) {
  HADAL_CHECK(file_size >= kLengthBytes && bytes.size() >= kLengthBytes,
              "{}: has {} bytes, too few for a safetensors file; download it again", where, file_size);
  check_not_something_else(bytes, where);
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<std::uint64_t>(bytes[static_cast<std::size_t>(i)]);
  HADAL_CHECK(length <= kLongestHeader,
              "{}: says its header has {} bytes, at most {} are allowed; not a safetensors file?", where, length,
              kLongestHeader);
  HADAL_CHECK(length <= file_size - kLengthBytes && length <= bytes.size() - kLengthBytes,
              "{}: its header should have {} bytes, the file has {} in all; it is truncated, download it again", where,
              length, file_size);
  return length;
}

Shape parse_shape(dom::element value, const std::string& what) {
  dom::array dims;
  HADAL_CHECK(value.get_array().get(dims) == simdjson::SUCCESS, "{}: shape is not a list", what);
  Shape shape;
  std::uint64_t elements = 1;
  for (dom::element dim : dims) {
    std::uint64_t size = 0;
    HADAL_CHECK(dim.get_uint64().get(size) == simdjson::SUCCESS, "{}: shape holds something else than sizes", what);
    HADAL_CHECK(shape.rank() < Shape::kMaxRank, "{}: has more than {} dimensions", what, Shape::kMaxRank);
    HADAL_CHECK(!__builtin_mul_overflow(elements, std::max<std::uint64_t>(size, 1), &elements) &&
                    elements < (std::uint64_t{1} << 56),
                "{}: its shape has too many elements", what);
    shape.push_back(static_cast<Index>(size));
  }
  return shape;
}

TensorInfo parse_tensor(std::string_view name, dom::element value, std::uint64_t data_begin, std::uint64_t file_size,
                        const std::string& where) {
  TensorInfo info;
  info.name = name;
  const std::string what = where + ": tensor " + info.name;
  dom::object object;
  HADAL_CHECK(value.get_object().get(object) == simdjson::SUCCESS, "{}: is not described by an object", what);
  std::string_view dtype;
  HADAL_CHECK(object["dtype"].get_string().get(dtype) == simdjson::SUCCESS, "{}: has no dtype", what);
  const auto known = dtype_from_name(dtype);
  HADAL_CHECK(known.has_value(), "{}: dtype {} is not known", what, dtype);
  info.dtype = *known;
  dom::element shape;
  HADAL_CHECK(object["shape"].get(shape) == simdjson::SUCCESS, "{}: has no shape", what);
  info.shape = parse_shape(shape, what);
  dom::array offsets;
  std::uint64_t begin = 0, end = 0;
  HADAL_CHECK(object["data_offsets"].get_array().get(offsets) == simdjson::SUCCESS && offsets.size() == 2 &&
                  offsets.at(0).get_uint64().get(begin) == simdjson::SUCCESS &&
                  offsets.at(1).get_uint64().get(end) == simdjson::SUCCESS,
              "{}: data_offsets are not two offsets", what);
  HADAL_CHECK(begin <= end, "{}: data_offsets {} and {} are reversed", what, begin, end);
  HADAL_CHECK(end <= file_size - data_begin,
              "{}: ends at byte {} of the data, the file has {}; it is truncated, download it again", what, end,
              file_size - data_begin);
  const std::uint64_t wanted = static_cast<std::uint64_t>(info.shape.num_elements()) * dtype_bytes(info.dtype);
  HADAL_CHECK(end - begin == wanted, "{}: has {} bytes, its shape {} of {} needs {}", what, end - begin,
              info.shape.to_string(), dtype, wanted);
  info.begin = data_begin + begin;
  info.end = data_begin + end;
  return info;
}

std::map<std::string, std::string> parse_metadata(dom::element value, const std::string& where) {
  dom::object object;
  HADAL_CHECK(value.get_object().get(object) == simdjson::SUCCESS, "{}: __metadata__ is not an object", where);
  std::map<std::string, std::string> metadata;
  for (const auto [key, entry] : object) {
    std::string_view text;
    HADAL_CHECK(entry.get_string().get(text) == simdjson::SUCCESS, "{}: __metadata__ {} is not a string", where, key);
    metadata[std::string(key)] = text;
  }
  return metadata;
}

// The format demands that the tensors cover the data without gap or overlap.
void check_coverage(std::vector<TensorInfo>& tensors, std::uint64_t data_begin, std::uint64_t file_size,
                    const std::string& where) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t at = data_begin;
  for (const TensorInfo& t : tensors) {
    HADAL_CHECK(t.begin >= at, "{}: tensor {} overlaps the one before it", where, t.name);
    HADAL_CHECK(t.begin == at, "{}: there are {} bytes before tensor {} that belong to none", where, t.begin - at,
                t.name);
    at = t.end;
  }
  HADAL_CHECK(at == file_size, "{}: there are {} bytes at the end that belong to no tensor", where, file_size - at);
}

void check_unique(const std::vector<TensorInfo>& tensors, const std::string& where) {
  std::vector<std::string_view> names;
  for (const TensorInfo& t : tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail("{}: tensor {} occurs twice", where, *twice);
}

}  // namespace

SafetensorsHeader SafetensorsHeader::parse(std::span<const std::byte> bytes, std::uint64_t file_size,
                                           const std::string& where) {
  const std::uint64_t length = read_length(bytes, file_size, where);
  dom::parser parser;
  dom::element document;
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  const auto status = parser.parse(text, length).get(document);
  HADAL_CHECK(status == simdjson::SUCCESS, "{}: its header is not valid JSON: {}", where,
              simdjson::error_message(status));
  dom::object object;
  HADAL_CHECK(document.get_object().get(object) == simdjson::SUCCESS, "{}: its header is not a JSON object", where);
  SafetensorsHeader header;
  for (const auto [name, value] : object) {
    if (name == "__metadata__")
      header.metadata = parse_metadata(value, where);
    else
      header.tensors.push_back(parse_tensor(name, value, kLengthBytes + length, file_size, where));
  }
  check_unique(header.tensors, where);
  check_coverage(header.tensors, kLengthBytes + length, file_size, where);
  return header;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path), file_(path) {
  header_ = SafetensorsHeader::parse(file_.bytes(), file_.bytes().size(), path.string());
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) index_[header_.tensors[i].name] = i;
}

const TensorInfo* SafetensorsFile::find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &header_.tensors[it->second];
}

ConstTensorRef SafetensorsFile::in_place(const TensorInfo& info) const {
  return ConstTensorRef(file_.bytes().data() + info.begin, info.dtype, info.shape);
}

ConstTensorRef SafetensorsFile::tensor(const TensorInfo& info) const {
  if (info.begin % dtype_bytes(info.dtype) == 0) return in_place(info);
  const std::lock_guard lock(realigned_->mutex);
  Tensor& copy = realigned_->copies[info.name];
  if (!copy) {
    copy = Tensor(info.dtype, info.shape);
    if (info.end > info.begin) std::memcpy(copy->raw(), file_.bytes().data() + info.begin, info.end - info.begin);
  }
  return copy;
}

std::optional<std::uint64_t> SafetensorsFile::offset_of(const void* address) const {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  const auto begin = reinterpret_cast<std::uintptr_t>(file_.bytes().data());
  if (at < begin || at >= begin + file_.bytes().size()) return std::nullopt;
  return at - begin;
}

const TensorInfo* SafetensorsFile::tensor_at(std::uint64_t offset) const {
  const auto after = std::upper_bound(header_.tensors.begin(), header_.tensors.end(), offset,
                                      [](std::uint64_t at, const TensorInfo& t) { return at < t.end; });
  return after != header_.tensors.end() && offset >= after->begin ? &*after : nullptr;
}

}  // namespace hadal::io
