#include "hadal/data/token_ids.h"

#include <cstdint>
#include <cstring>

namespace hadal::data {
namespace {

template <class T>
std::int64_t element(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  // Beyond int64 it is no id either way, and must not become one by wrapping round.
  if constexpr (sizeof(T) == 8 && std::is_unsigned_v<T>)
    if (value > static_cast<T>(INT64_MAX)) return INT64_MAX;
  return static_cast<std::int64_t>(value);
}

using Element = std::int64_t (*)(const std::byte*);

Element element_of(DType dtype) {
  switch (dtype) {
    case DType::kU8:
      return element<std::uint8_t>;
    case DType::kI8:
      return element<std::int8_t>;
    case DType::kU16:
      return element<std::uint16_t>;
    case DType::kI16:
      return element<std::int16_t>;
    case DType::kU32:
      return element<std::uint32_t>;
    case DType::kI32:
      return element<std::int32_t>;
    case DType::kU64:
      return element<std::uint64_t>;
    case DType::kI64:
      return element<std::int64_t>;
    default:
      return nullptr;
  }
}

// "[3, 17]"
std::string place(const Shape& shape, Index i) {
  Shape at = shape;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    at[d] = i % shape[d];
    i /= shape[d];
  }
  return at.to_string();
}

Index offset(const ConstTensorRef& tensor, Index i) {
  Index at = 0;
  for (int d = tensor.rank() - 1; d >= 0; --d) {
    at += i % tensor.size(d) * tensor.stride(d);
    i /= tensor.size(d);
  }
  return at;
}

std::vector<TokenId> read(const ConstTensorRef& tensor, std::int64_t vocab_size, const std::string& where,
                          bool may_ignore) {
  const Element get = element_of(tensor.dtype());
  HADAL_CHECK(get, "{}: has dtype {}, token ids are integers (I8, I16, I32, I64 or unsigned)", where,
              dtype_name(tensor.dtype()));
  const Index count = tensor.num_elements();
  std::vector<TokenId> out(static_cast<std::size_t>(count));
  if (count == 0) return out;
  const auto* bytes = static_cast<const std::byte*>(tensor.raw());
  const Index width = static_cast<Index>(dtype_bytes(tensor.dtype()));
  const bool contiguous = tensor.is_contiguous();
  for (Index i = 0; i < count; ++i) {
    const std::int64_t id = get(bytes + (contiguous ? i : offset(tensor, i)) * width);
    const bool known = (id >= 0 && id < vocab_size) || (may_ignore && id == kIgnored);
    HADAL_CHECK(known, "{}: holds {} at {}, ids are below vocab_size {}{}", where, id, place(tensor.shape(), i),
                vocab_size, may_ignore ? " (-100: ignored)" : "");
    out[static_cast<std::size_t>(i)] = static_cast<TokenId>(id);
  }
  return out;
}

}  // namespace

std::vector<TokenId> token_ids(const ConstTensorRef& tensor, std::int64_t vocab_size, const std::string& where) {
  return read(tensor, vocab_size, where, false);
}

std::vector<TokenId> target_ids(const ConstTensorRef& tensor, std::int64_t vocab_size, const std::string& where) {
  return read(tensor, vocab_size, where, true);
}

}  // namespace hadal::data
