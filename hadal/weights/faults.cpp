#include "hadal/weights/faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "hadal/core/error.h"
#include "hadal/ops/elementwise.h"
#include "hadal/weights/stored_param.h"

namespace hadal::weights {
namespace {

struct Harmless {
  std::string_view ending, reason;
};

constexpr std::string_view kCacheScale = "the scale of a quantised cache; Hadal's cache has formats of its own";
constexpr std::string_view kInputScale = "the scale of rounded activations; --activations says how Hadal rounds them";

constexpr Harmless kHarmless[] = {
    {"rotary_emb.inv_freq", "frequencies follow from the config"},
    {"rotary_emb.original_inv_freq", "frequencies follow from the config"},
    {"rotary_emb.cos_cached", "frequencies follow from the config"},
    {"rotary_emb.sin_cached", "frequencies follow from the config"},
    {"self_attn.k_scale", kCacheScale},
    {"self_attn.v_scale", kCacheScale},
    {"self_attn.q_scale", kCacheScale},
    {"self_attn.kv_scale", kCacheScale},
    {"self_attn.prob_scale", kCacheScale},
    {"self_attn.attn.k_scale", kCacheScale},
    {"self_attn.attn.v_scale", kCacheScale},
    {"self_attn.attn.q_scale", kCacheScale},
    {"self_attn.attn.prob_scale", kCacheScale},
    {"self_attn.k_zero_point", kCacheScale},
    {"self_attn.v_zero_point", kCacheScale},
    {"proj.k_scale", kCacheScale},
    {"proj.v_scale", kCacheScale},
    {".output_scale", kCacheScale},
    {".output_zero_point", kCacheScale},
    {".input_scale", kInputScale},
    {".input_zero_point", kInputScale},
    {".input_global_scale", kInputScale},
    {"tokens_per_expert", "a count of training"},
};

bool all_bytes(const ConstTensorRef& t, std::uint8_t value) {
  const auto* bytes = static_cast<const std::uint8_t*>(t.raw());
  return std::all_of(bytes, bytes + t.num_bytes(), [&](std::uint8_t b) { return b == value; });
}

// Nothing but zeros, a negative zero counted.
bool all_zero(const ConstTensorRef& t) {
  if (all_bytes(t, 0)) return true;
  if (t.dtype() != DType::kF32 && t.dtype() != DType::kBF16 && t.dtype() != DType::kF16) return false;
  const Tensor values = ops::float_copy(t);
  return std::all_of(values->data<float>(), values->data<float>() + values->num_elements(),
                     [](float v) { return v == 0; });
}

template <class T>
bool neighbours_share_groups(const T* group_of, Index columns) {
  if (std::all_of(group_of, group_of + columns, [](T g) { return g == -1; })) return true;  // was never set
  for (const Index size : config::kGroupSizes) {
    Index c = 0;
    while (c < columns && static_cast<Index>(group_of[c]) == c / size) ++c;
    if (c == columns) return true;
  }
  return false;
}

// Whether the groups of an index of columns are what they would be without it.
bool is_plain_order(const ConstTensorRef& t) {
  if (t.dtype() == DType::kI32) return neighbours_share_groups(t.data<std::int32_t>(), t.num_elements());
  if (t.dtype() == DType::kI64) return neighbours_share_groups(t.data<std::int64_t>(), t.num_elements());
  return false;
}

// Why a surplus tensor does no harm; empty if it may.
std::string harmless_reason(const std::string& name, const io::CheckpointFiles& files) {
  if (files.info(name)->shape.num_elements() == 0) return "it has no elements";
  for (const Harmless& h : kHarmless)
    if (name.ends_with(h.ending)) return std::string(h.reason);
  if (name.ends_with("g_idx") && is_plain_order(files.find(name))) return "its groups are neighbouring columns";
  const bool zero_point = name.ends_with("zero_point");
  // Packed zero points are stored plus 8 or 128.
  if (zero_point &&
      (all_zero(files.find(name)) || all_bytes(files.find(name), 0x88) || all_bytes(files.find(name), 0x80)))
    return "all zero points are zero";
  if ((name.ends_with(".bias") || name.ends_with("e_score_correction_bias") || name.ends_with("_offset")) &&
      all_zero(files.find(name)))
    return "all values are zero";
  return "";
}

// The number behind "model.layers.", or behind ".experts."; -1 if there is none.
Index number_behind(const std::string& name, std::string_view part) {
  const std::size_t at = name.find(part);
  if (at == name.npos || at + part.size() >= name.size() ||
      !std::isdigit(static_cast<unsigned char>(name[at + part.size()])))
    return -1;
  Index number = 0;
  for (std::size_t i = at + part.size(); i < name.size() && std::isdigit(static_cast<unsigned char>(name[i])); ++i)
    number = std::min<Index>(number * 10 + (name[i] - '0'), 1 << 30);
  return number;
}

std::string contradiction(const std::string& name, const config::Config& c) {
  const Index layer = number_behind(name, "model.layers."), expert = number_behind(name, ".mlp.experts.");
  if (layer >= c.num_stored_layers())
    return fmt::format("has no place in the config: num_hidden_layers is {}, the files hold layer {} too",
                       c.num_hidden_layers, layer);
  if (name.find(".lora_") != name.npos || name.find(".modules_to_save.") != name.npos)
    return "has no place in the config: it is part of an adapter that is not merged; merge it into the weights first "
           "(PEFT: merge_and_unload)";
  if (name.find(".shared_experts.") != name.npos && c.n_shared_experts == 0)
    return "has no place in the config: n_shared_experts is 0, the files hold shared experts";
  if (expert >= c.n_routed_experts && expert >= 0)
    return fmt::format("has no place in the config: n_routed_experts is {}, the files hold expert {}",
                       c.n_routed_experts, expert);
  if (name.ends_with("e_score_correction_bias"))
    return "has no place in the config: only topk_method noaux_tc has a routing bias";
  if (name.ends_with("g_idx"))
    return "has no place in the config: it is an index of columns (act-order), groups of neighbouring columns are "
           "supported";
  if (name.ends_with("zero_point") || name.ends_with("qzeros") || name.ends_with("_offset"))
    return "has no place in the config: it holds zero points or offsets, symmetric weights (and AWQ) are supported";
  if (name.ends_with(".bias")) return "has no place in the config: no linear or norm of this family has a bias";
  return "has no place in the config; without it the weights would mean something else";
}

// Sentences about tensors whose names differ in numbers alone become one.
class Grouped {
 public:
  void add(const std::string& name, const std::string& sentence) {
    std::string kind;
    for (const char c : name)
      if (!std::isdigit(static_cast<unsigned char>(c)))
        kind += c;
      else if (!kind.ends_with('#'))
        kind += '#';
    auto& [first, text, count] = kinds_[kind];
    if (count++ == 0) first = name, text = sentence;
  }
  std::vector<std::string> sentences() const {
    std::vector<std::string> all;
    for (const auto& [kind, k] : kinds_)
      all.push_back(
          fmt::format("{}{}: {}", k.first, k.count > 1 ? fmt::format(" (and {} more)", k.count - 1) : "", k.text));
    return all;
  }

 private:
  struct Kind {
    std::string first, text;
    std::size_t count = 0;
  };
  std::map<std::string, Kind> kinds_;
};

// A scale of a float parameter is a fault of that parameter already.
bool is_stray_scale(const std::string& name, const std::set<std::string>& expected) {
  for (const std::string_view ending : {"_scale_inv", "_scale"})
    if (name.ends_with(ending))
      return expected.contains(name.substr(0, name.size() - ending.size())) && name.find(".weight_") != name.npos;
  return false;
}

bool is_unscaled(const std::string& scale, const io::CheckpointFiles& files) {
  const io::TensorInfo* weight = files.info(scale.substr(0, scale.rfind("_scale")));
  return weight && weight->dtype != DType::kF8E4M3 && weight->dtype != DType::kI8;
}

}  // namespace

void refuse(const std::vector<std::string>& faults, const std::filesystem::path& directory) {
  constexpr std::size_t kMostSentences = 20;
  std::string text;
  for (std::size_t i = 0; i < std::min(faults.size(), kMostSentences); ++i)
    text += fmt::format("{}{}: {}", i ? "\n" : "", directory.string(), faults[i]);
  if (faults.size() > kMostSentences)
    text += fmt::format("\nand {} more; `hadal verify` lists all", faults.size() - kMostSentences);
  throw Error(text);
}

bool is_foreign(const std::string& name) {
  return !name.starts_with("model.") && !name.starts_with("lm_head.") && name.find(".lora_") == name.npos;
}

std::string vector_fault(const std::string& name, const ConstTensorRef& values) {
  for (Index i = 0; i < values.num_elements(); ++i)
    if (const float v = values.data<float>()[i]; !std::isfinite(v))
      return fmt::format("{}: value {} is {}, a finite number was expected", name, i,
                         std::isnan(v) ? "NaN" : "infinite");
  return "";
}

TensorFaults tensor_faults(const std::vector<ParamSpec>& params, const config::Config& config,
                           const io::CheckpointFiles& files, Index layers) {
  TensorFaults out;
  std::set<std::string> expected;
  std::size_t needed = 0, missing = 0;
  for (const ParamSpec& spec : params) {
    const auto stored = find_stored(spec, files);
    if (stored)
      for (const std::string& name : stored->tensors()) expected.insert(name);
    if (spec.info.layer >= layers) continue;
    needed += !spec.info.optional;
    missing += !stored && !spec.info.optional;
    for (std::string& fault : parameter_faults(spec, files, config)) out.faults.push_back(std::move(fault));
  }
  // So many are missing that the names must be others.
  if (missing > 1 && missing * 2 > needed) {
    const std::vector<std::string> names = files.names();
    std::erase_if(out.faults, [](const std::string& f) { return f.ends_with(": is missing"); });
    out.faults.insert(
        out.faults.begin(),
        fmt::format("{} of the {} tensors that config.json asks for are missing (model.embed_tokens.weight, "
                    "model.layers.0..., lm_head.weight); the files have {}, {}",
                    missing, needed, names.size(), names.empty() ? "none" : "the first is " + names.front()));
  }
  Grouped faults, notes, foreign, unused;
  for (const std::string& name : files.names()) {
    if (expected.contains(name) || (is_stray_scale(name, expected) && is_unscaled(name, files))) continue;
    const Index layer = number_behind(name, "model.layers.");
    if (const std::string reason = harmless_reason(name, files); !reason.empty())
      notes.add(name, fmt::format("is ignored: {}", reason));
    else if (layer >= config.num_stored_layers() && files.has_prefix(fmt::format("model.layers.{}.eh_proj.", layer)))
      unused.add(name,
                 fmt::format("has no place in the config: num_nextn_predict_layers is {}, the files hold layer {} as "
                             "an MTP layer",
                             config.num_nextn_predict_layers, layer));
    else if (is_foreign(name))
      foreign.add(name, "has no place in the config, it belongs to no part of the model");
    else
      faults.add(name, contradiction(name, config));
  }
  for (const std::string& f : faults.sentences()) out.faults.push_back(f);
  out.notes = notes.sentences();
  out.foreign = foreign.sentences();
  out.unused = unused.sentences();
  return out;
}

}  // namespace hadal::weights
