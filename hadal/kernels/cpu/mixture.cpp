// The mixture of experts in two waves: gate, up and SwiGLU of every network that some token chose, then down and the
// weighted sums. A network's rows are gathered while they are packed, so that nothing is copied in between. With few
// tokens all waves are bound by reading the experts, so every piece says what its thread will read next.
#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "hadal/kernels/cpu/product.h"
#include "hadal/kernels/cpu/schedule.h"
#include "hadal/kernels/elementwise.h"

namespace hadal::kernels::cpu {
namespace {

// An expert (or the shared ones) with the tokens that go to it.
struct Network {
  LinearArgs gate, up, down;
  void* gate_input = nullptr;  // packed
  void* up_input = nullptr;
  void* inner = nullptr;  // the packed input of down
  Index first_row = 0;    // of its rows among all networks'
};

// Columns [begin, end) of a product as a product of its own, written to y from its first column on.
LinearArgs columns_of(LinearArgs a, Index begin, Index end, float* y, Index y_stride) {
  a.w = weight_row(a, begin);
  a.w_first_row += begin;
  a.n = end - begin;
  a.y = y;
  a.y_stride = y_stride;
  return a;
}

// Gate and up of the rows of one network; with few tokens all networks' results.
Index piece_bytes(Index most_rows, Index rows, bool few, Index piece) {
  return std::max(2 * most_rows, few ? rows : 0) * piece * static_cast<Index>(sizeof(float));
}

class FastMixture {
 public:
  FastMixture(Context& ctx, const MixtureArgs& args)
      : ctx_(ctx),
        kernels_(linear_kernels(ctx.numerics.isa)),
        args_(args),
        tokens_(args.x.shape[0]),
        width_(args.x.shape[1]),
        routed_rows_(static_cast<Index>(args.tokens.size())),
        row_of_(rows_of_slots(args.tokens, args.slots, args.weights.shape[1])) {
    for (const NetworkArgs& n : args.networks) add(n, args.tokens.data() + n.begin, n.begin, n.end);
    if (args.shared) add(*args.shared, nullptr, routed_rows_, routed_rows_ + tokens_);
  }

  void run() {
    const Workspace::Scope scope(ctx_.workspace);
    allocate();
    pack_inputs();
    inner_wave();
    if (few())
      outer_wave_few();
    else
      outer_wave_many();
  }

 private:
  // Then the sums over experts are made piece by piece of columns, which saves a wave.
  bool few() const { return tokens_ <= kFewRows; }

  void add(const NetworkArgs& from, const Index* rows, Index begin, Index end) {
    Network n{.gate = from.gate, .up = from.up, .down = from.down, .first_row = begin};
    for (LinearArgs* a : {&n.gate, &n.up}) {
      a->x = args_.x.data;
      a->x_stride = args_.x.stride[0];
      a->x_rows = rows;
    }
    for (LinearArgs* a : {&n.gate, &n.up, &n.down}) a->m = end - begin;
    networks_.push_back(n);
    rounds_blocks_ = rounds_blocks_ || kernels_.rounds_blocks(n.down);
    inner_ = std::max(inner_, n.gate.n);
    rows_ = std::max(rows_, end);
    most_rows_ = std::max(most_rows_, end - begin);
  }

  // Whole blocks where those are rounded when they are packed for down.
  Index piece() const { return few() && !rounds_blocks_ ? kernels_.piece_columns : kernels_.many_rows_piece_columns; }
  Index outer_pieces() const { return (width_ + piece() - 1) / piece(); }

  void* room(const LinearArgs& a) { return room_for_input(ctx_, kernels_, a); }

  void allocate() {
    inner_values_ = ctx_.workspace.floats({rows_, inner_});
    Index scratch = 0;
    for (Network& n : networks_) {
      piece_end_.push_back((piece_end_.empty() ? 0 : piece_end_.back()) + (n.gate.n + piece() - 1) / piece());
      n.down.x = inner_values_.view<float, 2>().row(n.first_row);
      n.down.x_stride = inner_;
      // A token alone is the same input for every expert.
      const Network& first = networks_[0];
      const bool same = &n != &first && tokens_ == 1 && same_packing(n.gate, first.gate);
      n.gate_input = same ? first.gate_input : room(n.gate);
      n.up_input = same_packing(n.up, n.gate) ? n.gate_input : room(n.up);
      n.inner = room(n.down);
      for (const LinearArgs* a : {&n.gate, &n.up, &n.down}) scratch = std::max(scratch, kernels_.scratch_bytes(*a));
    }
    kernel_scratch_ = (scratch + 63) / 64 * 64;
    scratch_.emplace(ctx_, kernel_scratch_ + piece_bytes(most_rows_, rows_, few(), piece()));
  }

  void* kernel_scratch() const { return scratch_->mine(); }
  float* piece_scratch() const {
    return reinterpret_cast<float*>(static_cast<std::byte*>(scratch_->mine()) + kernel_scratch_);
  }

  void pack_inputs() {
    std::vector<std::pair<const LinearArgs*, void*>> inputs;
    for (const Network& n : networks_) {
      if (inputs.empty() || n.gate_input != networks_[0].gate_input) inputs.emplace_back(&n.gate, n.gate_input);
      if (n.up_input != n.gate_input) inputs.emplace_back(&n.up, n.up_input);
    }
    const auto pack = [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const auto& [args, packed] = inputs[static_cast<std::size_t>(i)];
        kernels_.pack(*args, 0, kernels_.num_tiles(*args), 0, args->k, packed);
      }
    };
    const auto count = static_cast<Index>(inputs.size());
    ctx_.threads.parallel_for(count, few() ? count : 1, pack);
  }

  // gate, up and SwiGLU of `piece()` columns of one network, packed for down.
  void inner_wave() {
    const Index pieces = piece_end_.back();
    ctx_.threads.parallel_for(pieces, 1, [&](Index p, Index) {
      const auto e =
          static_cast<std::size_t>(std::upper_bound(piece_end_.begin(), piece_end_.end(), p) - piece_end_.begin());
      const Network& n = networks_[e];
      const Index begin = (p - (e ? piece_end_[e - 1] : 0)) * piece(), end = std::min(begin + piece(), n.gate.n);
      float* gate = piece_scratch();
      float* up = gate + n.gate.m * piece();
      const LinearArgs g = columns_of(n.gate, begin, end, gate, piece()), u = columns_of(n.up, begin, end, up, piece());
      kernels_.multiply(g, n.gate_input, 0, g.n, u.w, kernel_scratch());
      kernels_.multiply(u, n.up_input, 0, u.n, read_after(p, e, end), kernel_scratch());
      for (Index i = 0; i < n.gate.m; ++i)
        avx2::swiglu(gate + i * piece(), up + i * piece(), inner_values_.view<float, 2>().row(n.first_row + i) + begin,
                     end - begin);
      kernels_.pack(n.down, 0, kernels_.num_tiles(n.down), begin, end, n.inner);
    });
  }

  // What a thread reads after columns up to `end` of network e: the next piece, or at the end of its share the first
  // one of its share of the next wave.
  const void* read_after(Index p, std::size_t e, Index end) const {
    if (!few()) return nullptr;
    const Index threads = ctx_.threads.num_threads();
    const int me = ThreadPool::current_thread();
    if (p + 1 == ThreadPool::share_begin(piece_end_.back(), threads, me + 1))
      return weight_row(networks_[0].down, ThreadPool::share_begin(outer_pieces(), threads, me) * piece());
    if (end < networks_[e].gate.n) return weight_row(networks_[e].gate, end);
    return e + 1 < networks_.size() ? networks_[e + 1].gate.w : nullptr;
  }

  void outer_wave_few() {
    ctx_.threads.parallel_for(outer_pieces(), 1, [&](Index p, Index) {
      const Index begin = p * piece(), end = std::min(begin + piece(), width_);
      float* y = piece_scratch();
      for (std::size_t e = 0; e < networks_.size(); ++e) {
        const Network& n = networks_[e];
        const LinearArgs d = columns_of(n.down, begin, end, y + n.first_row * piece(), piece());
        const bool last = e + 1 == networks_.size();
        const void* next = !last          ? weight_row(networks_[e + 1].down, begin)
                           : end < width_ ? weight_row(networks_[0].down, end)
                                          : nullptr;
        kernels_.multiply(d, n.inner, 0, d.n, next, kernel_scratch());
      }
      for (Index t = 0; t < tokens_; ++t) combine(t, y, piece(), args_.out.row(t) + begin, end - begin);
    });
  }

  void outer_wave_many() {
    const TensorRef y = ctx_.workspace.floats({rows_, width_});
    const Index per_network = outer_pieces();
    ctx_.threads.parallel_for(per_network * static_cast<Index>(networks_.size()), 1, [&](Index p, Index) {
      const Network& n = networks_[static_cast<std::size_t>(p / per_network)];
      const Index begin = p % per_network * piece(), end = std::min(begin + piece(), width_);
      const LinearArgs d = columns_of(n.down, begin, end, y.view<float, 2>().row(n.first_row) + begin, width_);
      kernels_.multiply(d, n.inner, 0, d.n, nullptr, kernel_scratch());
    });
    ctx_.threads.parallel_for(tokens_, 8, [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) combine(t, y.data<float>(), width_, args_.out.row(t), width_);
    });
  }

  // out = sum over the slots of token t, in their order, of weight * row; then the shared experts' row.
  void combine(Index t, const float* rows, Index stride, float* out, Index n) const {
    const Index k = args_.weights.shape[1];
    std::memset(out, 0, static_cast<std::size_t>(n) * sizeof(float));
    for (Index s = 0; s < k; ++s)
      avx2::axpy(args_.weights(t, s), rows + row_of_[static_cast<std::size_t>(t * k + s)] * stride, out, n);
    if (args_.shared) avx2::axpy(1.0f, rows + (routed_rows_ + t) * stride, out, n);
  }

  Context& ctx_;
  const LinearKernels& kernels_;
  const MixtureArgs& args_;
  Index tokens_, width_, routed_rows_;
  std::vector<Index> row_of_;                   // of (token, slot)
  Index rows_ = 0, most_rows_ = 0, inner_ = 0;  // of all networks, of one; columns between gate and down
  bool rounds_blocks_ = false;
  std::vector<Network> networks_;
  std::vector<Index> piece_end_;  // of each network's columns, counted over all of them
  TensorRef inner_values_;
  Index kernel_scratch_ = 0;
  std::optional<ThreadScratch> scratch_;
};

// Whatever tokens choose: packed inputs of all rows, and for each network that can have some a tile that is not full.
WorkspaceNeed fast_mixture_need(const Context& ctx, const MixtureSizes& s) {
  const LinearKernels& k = linear_kernels(ctx.numerics.isa);
  const Index rows = s.rows() + (s.shared ? s.tokens : 0);
  Index inner = 0, scratch = 0, packed = 0, packed_one = 0, packed_shared = 0;
  const auto packed_inputs = [&](const NetworkArgs& n, Index m) {
    Index bytes = 0;
    for (LinearArgs a : {n.gate, n.up, n.down}) {
      a.m = m;
      bytes += (k.packed_bytes(a) + 63) / 64 * 64;
      scratch = std::max(scratch, k.scratch_bytes(a));
    }
    // Gate and up mostly share it.
    LinearArgs up = n.up;
    up.m = m;
    return same_packing(n.gate, n.up) ? bytes - (k.packed_bytes(up) + 63) / 64 * 64 : bytes;
  };
  for (const NetworkArgs& n : s.forms) {
    // Few rows may be packed in other tiles than many.
    packed = std::max({packed, packed_inputs(n, s.rows()),
                       (s.rows() + kFewRows - 1) / kFewRows * packed_inputs(n, kFewRows)});
    packed_one = std::max(packed_one, packed_inputs(n, 1));
    inner = std::max(inner, n.gate.n);
  }
  if (s.shared) {
    packed_shared = packed_inputs(*s.shared, s.tokens);
    inner = std::max(inner, s.shared->gate.n);
  }
  const Index most_networks = std::min(s.networks, s.rows());
  const bool few = s.tokens <= kFewRows;
  WorkspaceNeed need;
  need.floats(rows * inner);
  // All networks with a row each need no more than their tiles.
  if (most_networks < s.rows()) need.tensor(DType::kU8, packed);
  need.tensor(DType::kU8, most_networks * packed_one);
  need.tensor(DType::kU8, packed_shared);
  const Index piece = std::max(k.piece_columns, k.many_rows_piece_columns);
  need.then(ThreadScratch::need(ctx, (scratch + 63) / 64 * 64 + piece_bytes(s.tokens, rows, few, piece)));
  if (!few) need.floats(rows * s.width);
  return need;
}

}  // namespace

WorkspaceNeed mixture_need(const Context& ctx, const MixtureSizes& sizes) {
  const LinearArgs& first = sizes.forms.empty() ? sizes.shared->gate : sizes.forms[0].gate;
  return first.activations == Activations::kFp8 ? plain_mixture_need(ctx, kBackend, sizes)
                                                : fast_mixture_need(ctx, sizes);
}

void mixture(Context& ctx, const MixtureArgs& args) {
  const LinearArgs& first = args.networks.empty() ? args.shared->gate : args.networks[0].gate;
  if (first.activations == Activations::kFp8)
    plain_mixture(ctx, kBackend, args);
  else
    FastMixture(ctx, args).run();
}

}  // namespace hadal::kernels::cpu
