// A mixture of experts (DeepSeek-V3 report, equation 12): for every token the weighted sum of what its experts make of
// it, in the order of its slots, and the shared experts' output.
#pragma once

#include <span>
#include <vector>

#include "hadal/kernels/linear.h"

namespace hadal::kernels {

// down(silu(gate(x)) * up(x)) and the rows that go to it.
struct NetworkArgs {
  LinearArgs gate, up, down;  // weights, activations and sizes n and k; what concerns x and y is left empty
  Index begin = 0, end = 0;   // of MixtureArgs::tokens
};

struct MixtureArgs {
  View<const float, 2> x;                      // [T, D]
  View<const float, 2> weights;                // [T, K]
  std::span<const NetworkArgs> networks = {};  // experts that some token chose; their rows follow one another
  std::span<const Index> tokens = {};          // [T * K]: row of x, and which of that token's slots it is
  std::span<const Index> slots = {};
  const NetworkArgs* shared = nullptr;  // for all rows of x; may be absent
  bool ue8m0 = false;                   // see Backend::linear
  View<float, 2> out;                   // [T, D]
};

// What is known of a mixture before tokens have chosen.
struct MixtureSizes {
  Index tokens = 0, width = 0, chosen = 0;  // T, D, K
  Index networks = 0;                       // that can be chosen
  std::span<const NetworkArgs> forms = {};  // one of each size, format and layout among them
  const NetworkArgs* shared = nullptr;
  Index rows() const { return tokens * chosen; }
};

// out[t] = sum over slots s of weights[t, s] * outputs[row of (t, s)], in the order of the slots; rows of `outputs` lie
// as `tokens` and `slots` say.
struct CombineArgs {
  View<const float, 2> outputs;
  View<const float, 2> weights;
  std::span<const Index> tokens = {};
  std::span<const Index> slots = {};
  View<float, 2> out;
};

// For every token and slot the row that `tokens` and `slots` give it.
inline std::vector<Index> rows_of_slots(std::span<const Index> tokens, std::span<const Index> slots, Index per_token) {
  std::vector<Index> row_of(tokens.size());
  for (std::size_t row = 0; row < tokens.size(); ++row)
    row_of[static_cast<std::size_t>(tokens[row] * per_token + slots[row])] = static_cast<Index>(row);
  return row_of;
}

}  // namespace hadal::kernels
