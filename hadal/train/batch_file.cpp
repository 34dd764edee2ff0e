#include "hadal/train/batch_file.h"

#include "hadal/core/error.h"
#include "hadal/data/token_ids.h"
#include "hadal/io/safetensors.h"

namespace hadal::train {
namespace {

std::vector<TokenId> tokens(const io::SafetensorsFile& file, const std::string& name, Index vocab_size, bool targets,
                            Shape& shape) {
  const std::string where = file.path().string() + ": " + name;
  const io::TensorInfo* info = file.find(name);
  HADAL_CHECK(info, "{} is missing; a batch has ids and targets, or step0.ids, step0.targets and so on", where);
  HADAL_CHECK(info->shape.rank() == 2 && info->shape.num_elements() > 0, "{} has shape {}, not [B, S]", where,
              info->shape.to_string());
  shape = info->shape;
  const ConstTensorRef ids = file.tensor(*info);
  return targets ? data::target_ids(ids, vocab_size, where) : data::token_ids(ids, vocab_size, where);
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
