// Operations that go over rows, the same loops for the scalar kernels and for the fast ones.
#pragma once

#include <cstring>

#include "hadal/kernels/backend.h"
#include "hadal/kernels/elementwise.h"
#include "hadal/kernels/work.h"

namespace hadal::kernels {

// Kernels for one row: see elementwise.h.
struct RowKernels {
  float (*rms_norm)(const float* x, const float* weight, float* y, Index n, float eps);
  void (*swiglu)(const float* gate, const float* up, float* y, Index n);
  void (*axpy)(float a, const float* x, float* y, Index n);
  void (*to_float)(const void* x, DType dtype, float* y, Index n);
};

template <class Body>
void for_each_row(Context& ctx, Index rows, Index work, const Body& body) {
  ctx.threads.parallel_for(rows, piece_size(ctx, rows, work, 1), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) body(r);
  });
}

template <const RowKernels& kRows>
struct RowOps {
  static constexpr Index kElementWork = 4;  // an element of a memory-bound loop costs about as much as 4 multiply-adds
  static constexpr Index kExpWork = 16;
  static constexpr Index kConversionWork = 8;
  static constexpr Index kGateWork = 32;

  static void rms_norm(Context& ctx, View<const float, 2> x, const float* weight, float eps, View<float, 2> y,
                       float* inverse_rms) {
    const Index n = x.shape[1];
    for_each_row(ctx, x.shape[0], n * kElementWork, [&](Index r) {
      const float inverse = kRows.rms_norm(x.row(r), weight, y.row(r), n, eps);
      if (inverse_rms) inverse_rms[r] = inverse;
    });
  }

  static void swiglu(Context& ctx, View<const float, 2> gate, View<const float, 2> up, View<float, 2> y) {
    const Index n = gate.shape[1];
    for_each_row(ctx, gate.shape[0], n * kExpWork, [&](Index r) { kRows.swiglu(gate.row(r), up.row(r), y.row(r), n); });
  }

  static void add(Context& ctx, View<const float, 2> x, View<float, 2> y) {
    const Index n = x.shape[1];
    for_each_row(ctx, x.shape[0], n * kElementWork, [&](Index r) { kRows.axpy(1.0f, x.row(r), y.row(r), n); });
  }

  static void rope(Context& ctx, View<const float, 3> x, View<const double, 2> cos, View<const double, 2> sin,
                   View<float, 3> y) {
    const Index heads = x.shape[1];
    for_each_row(ctx, x.shape[0], heads * x.shape[2] * kElementWork, [&](Index t) {
      for (Index h = 0; h < heads; ++h) ref::rope(&x(t, h, 0), cos.row(t), sin.row(t), &y(t, h, 0), cos.shape[1]);
    });
  }

  static void copy(Context& ctx, View<const float, 3> x, View<float, 3> y) {
    const auto bytes = static_cast<std::size_t>(x.shape[2]) * sizeof(float);
    for_each_row(ctx, x.shape[0], x.shape[1] * x.shape[2] * kElementWork, [&](Index t) {
      for (Index h = 0; h < x.shape[1]; ++h) std::memcpy(&y(t, h, 0), &x(t, h, 0), bytes);
    });
  }

  static void gather(Context& ctx, View<const float, 2> x, std::span<const Index> rows, View<float, 2> y) {
    const auto bytes = static_cast<std::size_t>(x.shape[1]) * sizeof(float);
    for_each_row(ctx, y.shape[0], x.shape[1] * kElementWork,
                 [&](Index r) { std::memcpy(y.row(r), x.row(rows[static_cast<std::size_t>(r)]), bytes); });
  }

  static void embedding(Context& ctx, const StoredRows<const std::byte>& table, std::span<const std::int32_t> ids,
                        View<float, 2> y) {
    for_each_row(ctx, y.shape[0], table.width * kElementWork, [&](Index r) {
      ref::to_float(table.row(ids[static_cast<std::size_t>(r)]), table.dtype, y.row(r), table.width);
    });
  }

  static void to_float(Context& ctx, const StoredRows<const std::byte>& from, View<float, 2> to) {
    for_each_row(ctx, from.rows, from.width * kElementWork,
                 [&](Index r) { kRows.to_float(from.row(r), from.dtype, to.row(r), from.width); });
  }

  static void from_float(Context& ctx, View<const float, 2> from, const StoredRows<std::byte>& to) {
    for_each_row(ctx, to.rows, to.width * kElementWork,
                 [&](Index r) { ref::from_float(from.row(r), to.dtype, to.row(r), to.width); });
  }

  static void pack_entries(Context& ctx, View<const float, 2> entries, const PackedEntries& p, std::uint8_t* stored) {
    for_each_row(ctx, p.rows, entries.shape[1] * kConversionWork, [&](Index r) {
      ref::pack_entry(entries.row(r), p.latent, p.rope, p.scales_at, p.rope_at, stored + r * p.row_bytes);
    });
  }

  static void unpack_entries(Context& ctx, const std::uint8_t* stored, const PackedEntries& p, View<float, 2> entries) {
    for_each_row(ctx, p.rows, entries.shape[1] * kConversionWork, [&](Index r) {
      ref::unpack_entry(stored + r * p.row_bytes, p.latent, p.rope, p.scales_at, p.rope_at, entries.row(r));
    });
  }

  static void gate(Context& ctx, const GateArgs& args, View<const float, 2> logits, View<std::int32_t, 2> experts,
                   View<float, 2> weights) {
    check_scores(args, logits);
    const Workspace::Scope scope(ctx.workspace);
    const Index floats = gate_scratch(args.n_routed_experts);
    const TensorRef scratch = ctx.workspace.tensor(DType::kF64, {ctx.threads.num_threads(), floats});
    for_each_row(ctx, logits.shape[0], args.n_routed_experts * kGateWork, [&](Index t) {
      double* mine = scratch.data<double>() + ThreadPool::current_thread() * floats;
      ref::gate(args, logits.row(t), mine, experts.row(t), weights.row(t));
    });
  }

  static WorkspaceNeed gate_need(const Context& ctx, Index n_routed_experts) {
    WorkspaceNeed need;
    need.tensor(DType::kF64, ctx.threads.num_threads() * gate_scratch(n_routed_experts));
    return need;
  }
  static Index gate_scratch(Index n_routed_experts) { return 3 * n_routed_experts; }

  static void combine(Context& ctx, const CombineArgs& a) {
    const Index k = a.weights.shape[1], width = a.out.shape[1];
    const std::vector<Index> row_of = rows_of_slots(a.tokens, a.slots, k);
    for_each_row(ctx, a.out.shape[0], k * width, [&](Index t) {
      std::memset(a.out.row(t), 0, static_cast<std::size_t>(width) * sizeof(float));
      for (Index s = 0; s < k; ++s)
        kRows.axpy(a.weights(t, s), a.outputs.row(row_of[static_cast<std::size_t>(t * k + s)]), a.out.row(t), width);
    });
  }
};

}  // namespace hadal::kernels
