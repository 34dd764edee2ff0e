#include "hadal/train/batch_file.h"

#include "hadal/core/error.h"
#include "hadal/io/safetensors.h"

namespace hadal::train {
namespace {

template <class T>
std::vector<std::int64_t> widened(const ConstTensorRef& t) {
  const auto* p = static_cast<const T*>(t.raw());
  return {p, p + t.num_elements()};
}

std::vector<std::int64_t> integers(const ConstTensorRef& t, const std::string& where) {
  switch (t.dtype()) {
    case DType::kI8:
      return widened<std::int8_t>(t);
    case DType::kU8:
      return widened<std::uint8_t>(t);
    case DType::kI16:
      return widened<std::int16_t>(t);
    case DType::kU16:
      return widened<std::uint16_t>(t);
    case DType::kI32:
      return widened<std::int32_t>(t);
    case DType::kU32:
      return widened<std::uint32_t>(t);
    case DType::kI64:
      return widened<std::int64_t>(t);
    default:
      fail("{} is {}; token ids are integers", where, dtype_name(t.dtype()));
  }
}

std::vector<TokenId> tokens(const io::SafetensorsFile& file, const std::string& name, Index vocab_size, bool targets,
                            Shape& shape) {
  const std::string where = file.path().string() + ": " + name;
  const io::TensorInfo* info = file.find(name);
  HADAL_CHECK(info, "{} is missing; a batch has ids and targets, or step0.ids, step0.targets and so on", where);
  HADAL_CHECK(info->shape.rank() == 2 && info->shape.num_elements() > 0, "{} has shape {}, not [B, S]", where,
              info->shape.to_string());
  shape = info->shape;
  std::vector<TokenId> ids;
  for (const std::int64_t id : integers(file.tensor(*info), where)) {
    HADAL_CHECK((id >= 0 && id < vocab_size) || (targets && id == kIgnored), "{} has {}; ids are from 0 to {}{}", where,
                id, vocab_size - 1, targets ? ", or -100 for no target" : "");
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

}  // namespace

std::vector<Batch> read_batches(const std::filesystem::path& path, Index steps, Index vocab_size) {
  const io::SafetensorsFile file(path);
  std::vector<Batch> batches;
  for (Index i = 0; i < steps; ++i) {
    const std::string prefix = i == 0 && file.find("ids") ? "" : "step" + std::to_string(i) + ".";
    Shape ids, targets;
    Batch b;
    b.ids = tokens(file, prefix + "ids", vocab_size, false, ids);
    b.targets = tokens(file, prefix + "targets", vocab_size, true, targets);
    HADAL_CHECK(ids == targets, "{}: {}ids has shape {}, {}targets {}; they must be equal", path.string(), prefix,
                ids.to_string(), prefix, targets.to_string());
    b.sequences = ids[0];
    b.length = ids[1];
    batches.push_back(std::move(b));
  }
  return batches;
}

}  // namespace hadal::train
