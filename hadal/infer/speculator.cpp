#include "hadal/infer/speculator.h"

#include <algorithm>
#include <chrono>

#include "hadal/core/transfer.h"
#include "hadal/ops/elementwise.h"

namespace hadal::infer {
namespace {

using Clock = std::chrono::steady_clock;

// Rows that may wait for the MTP layer before it has to see them: steps without drafts are cheap, memory is not.
constexpr Index kMostPending = 256;
// Found text is right in long stretches or not at all.
constexpr Index kLookupMost = 8;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Speculator::Speculator(const EngineOptions& options, const model::Transformer& transformer)
    : speculate_(options.speculate),
      most_(std::max(options.most_drafts, options.fixed_drafts)),
      fixed_(options.fixed_drafts),
      mtp_length_(most_),
      lookup_length_(kLookupMost) {
  if (!transformer.mtp.empty()) drafter_.emplace(transformer);
}

void Speculator::passed(Context& ctx, const TensorRef& hidden, std::span<const Passed> passed, double seconds) {
  if (speculate_ == Speculate::kOff) return;
  const auto start = Clock::now();
  std::vector<Sequence*> decoding;
  for (const Passed& p : passed)
    if (p.sequence.decodes()) decoding.push_back(&p.sequence);
  if (std::none_of(passed.begin(), passed.end(), [](const Passed& p) { return p.prompt; })) {
    mtp_length_.pass_took(hidden.size(0), seconds);
    lookup_length_.pass_took(hidden.size(0), seconds);
  }
  look_up(decoding);
  if (mtp()) {
    remember(ctx, hidden, passed);
    run_mtp(ctx, passed, decoding);
  }
  count_time(passed, seconds, seconds_since(start));
}

// A pass of decoding sequences alone, and the drafts behind it, beside the plain passes that would have brought as
// much.
void Speculator::count_time(std::span<const Passed> passed, double seconds, double draft_seconds) {
  Index tokens = 0;
  for (const Passed& p : passed) {
    if (p.prompt) return;
    tokens += p.kept;
  }
  const auto sequences = static_cast<Index>(passed.size());
  const double plain = sequences > 0 ? mtp_length_.pass_seconds(sequences) : 0;
  if (plain == 0) return;
  stats_.seconds += seconds + draft_seconds;
  stats_.plain_seconds += plain * static_cast<double>(tokens) / static_cast<double>(sequences);
}

void Speculator::look_up(std::span<Sequence* const> decoding) {
  if (!lookup() || decoding.empty()) return;
  const Index length = fixed_ > 0 ? fixed_ : lookup_length_.choose(static_cast<Index>(decoding.size()));
  for (Sequence* s : decoding) s->look_up(length);
}

void Speculator::remember(Context& ctx, const TensorRef& hidden, std::span<const Passed> passed) const {
  const OnHost rows(ctx, hidden);
  for (const Passed& p : passed)
    if (!p.sequence.ended())
      p.sequence.mtp().remember(p.sequence.state(), p.first, rows->rows(p.begin, p.begin + p.kept));
}

void Speculator::run_mtp(Context& ctx, std::span<const Passed> passed, std::span<Sequence* const> decoding) {
  const Index length = decoding.empty() ? 0
                       : fixed_ > 0     ? fixed_
                                        : mtp_length_.choose(static_cast<Index>(decoding.size()));
  std::vector<MtpDrafter::Wish> wishes;
  std::vector<Sequence*> whose;
  bool usual = true;  // nothing but what every step with drafts has to do
  for (const Passed& p : passed) {
    Sequence& s = p.sequence;
    const MtpTrack& track = s.mtp();
    if (s.ended() || !track.able() || track.tokens() == 0) continue;
    const Index drafts = s.decodes() && s.drafts() == 0 ? length : 0;
    if (drafts == 0 && !p.prompt && track.tokens() < kMostPending) continue;
    usual = usual && !p.prompt && track.tokens() <= 1 + most_;
    whose.push_back(&s);
    wishes.push_back(s.wish(p.prompt ? model::Form::kExpanded : model::Form::kAbsorbed, drafts));
  }
  if (wishes.empty()) return;
  try {
    const auto start = Clock::now();
    auto drafts = drafter_->draft(ctx, wishes);
    if (usual && length > 0) mtp_length_.drafts_took(length, seconds_since(start));
    for (std::size_t i = 0; i < whose.size(); ++i)
      if (wishes[i].drafts > 0) whose[i]->draft(std::move(drafts[i]), Speculate::kMtp);
  } catch (const InvalidRequest&) {
    for (Sequence* s : whose) s->mtp().give_up();  // no room in the cache
  } catch (const Interrupted&) {
  }
}

void Speculator::verified(Speculate source, Index drafted, Index accepted) {
  if (accepted < 0) return;
  stats_.verified(drafted, accepted);
  if (drafted > 0) (source == Speculate::kLookup ? lookup_length_ : mtp_length_).verified(drafted, accepted);
}

}  // namespace hadal::infer
