#include "hadal/train/initial_values.h"

#include <algorithm>

#include "hadal/checkpoint/normal_fill.h"
#include "hadal/checkpoint/values.h"

namespace hadal::train {

void init_values(Context& ctx, Parameters& parameters, std::uint64_t seed, double std) {
  std::uint64_t stream = 0;  // the parameter's place in the model
  for (Parameter& p : parameters.all()) {
    HADAL_CHECK(p.value.dtype() == DType::kF32, "training: initial values are F32, not {}", dtype_name(p.value.dtype()));
    const std::span values(p.value->data<float>(), static_cast<std::size_t>(p.value->num_elements()));
    if (weights::is_matrix(p.info.role))
      checkpoint::fill_normal(ctx, values, seed, stream, 0, std);
    else
      std::fill(values.begin(), values.end(), p.info.role == weights::ParamRole::kNorm ? 1.0f : 0.0f);
    ++stream;
  }
  parameters.publish(ctx);
}

void check_finite(Context& ctx, const Parameters& parameters, const std::string& where) {
  for (const Parameter& p : parameters.all()) {
    const checkpoint::ValueCounts counts = checkpoint::count_values(ctx, p.value);
    HADAL_CHECK(counts.not_finite == 0,
                "{}: {} has {} values that are NaN or infinite, the first at {}; `hadal verify` lists what is damaged",
                where, p.name, counts.not_finite, checkpoint::place_of(counts.first_bad, p.info.shape));
  }
}

}  // namespace hadal::train
