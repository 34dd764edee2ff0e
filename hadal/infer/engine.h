// Generation for many requests, a pass over the model at a time: submit requests, step until they have ended. Knows
// token ids, no text. An answer is the same, bit for bit, whatever shares its passes, in whatever order requests came
// and whoever is cancelled.
#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "hadal/infer/mask_maker.h"
#include "hadal/infer/page_store.h"
#include "hadal/infer/scheduler.h"
#include "hadal/infer/sequence.h"
#include "hadal/infer/speculator.h"
#include "hadal/model/paused_pass.h"

namespace hadal::infer {

// A token that a step sampled: of one request there may be several, in their order.
struct TokenEvent {
  RequestId id = 0;
  Sample sample;
  Index number = 0;    // of tokens that the answer has with it
  bool ended = false;  // it was the request's last one: take() has the answer
};

// Prompt progress: tokens done of all. Returning false cancels.
using OnPrompt = std::function<bool(Index done, Index total)>;

// Not thread-safe: one call at a time. Keeps references to the context and the model.
class Engine {
 public:
  Engine(Context& ctx, const model::Transformer& transformer, EngineOptions options = {});
  ~Engine();

  // Throws InvalidRequest as validate does, and if the request could need more pages than there are. It begins when
  // there is a place for it and pages for its prompt; if others need its pages later, it waits once more and what it
  // had is computed again, as it was (rule 18).
  RequestId submit(Request request);
  // Ends a request, whether it waits or runs. With `keep` the answer's first tokens only are left: a step may bring
  // several, and what came behind a stop string was never said. Of one that has ended just now behind those tokens, or
  // at its limit, the caller's reason is kept; otherwise nothing happens to one that has ended.
  void end(RequestId id, FinishReason reason, std::optional<Index> keep = {});
  void cancel(RequestId id) { end(id, FinishReason::kCancelled); }

  // One pass over the model for those that run; a token or more of each whose prompt is done. Nothing if all have
  // ended. Throws what observers throw, and Error; all requests are then where they were before. Requests may end
  // without a token: at their deadline, those that want none, and those that fail alone (kError). Ask ended().
  std::vector<TokenEvent> step();

  Index unfinished() const { return static_cast<Index>(schedule_.waiting.size() + schedule_.running.size()); }
  bool ended(RequestId id) const { return completions_.contains(id); }
  Index tokens_done(RequestId id) const;  // in the cache; 0 while it waits
  // The answer of a request that has ended; it is forgotten then.
  Completion take(RequestId id);

  // Computes a prompt for whoever asks for it later, while nothing else is to be done: it ends as soon as a request is
  // submitted, and what it has done by then is kept; its completion says whether it was cancelled.
  RequestId prefill(std::vector<TokenId> ids, std::string cache_salt = {}, CacheReuse reuse = CacheReuse::kSameBits);

  // One request from its beginning to its end. Others that were submitted go on meanwhile; what they sample is seen in
  // their answers only. If an observer throws Interrupted, the answer so far is returned as cancelled. Throws Error if
  // the request fails.
  Completion generate(Request request, const OnToken& on_token = {}, const OnPrompt& on_prompt = {});

  const EngineOptions& options() const { return options_; }
  Index context() const { return options_.context; }
  // Memory that prompts which have not ended hold for their next chunk.
  std::uint64_t kept_bytes() const { return pools_.main->kept_keys().taken(); }
  const SpeculationStats& speculation() const { return speculator_.stats(); }
  // Forgets what sequences have left for others.
  void reset() { tree_.clear(); }
  const PageStore* pages_on_disk() const { return options_.pages_on_disk; }
  Index preemptions() const { return preemptions_; }
  Index pages_in_use() const { return pools_.main->in_use(); }  // by those that run, and kept for others

 private:
  // Rows of a pass, and whose.
  struct Rows {
    RequestId id;
    Sequence* sequence;
    Index begin, count;
    Index before;  // tokens that the cache held
    bool prompt;
    Index end() const { return begin + count; }
  };

  // A pass over prompts that pauses while others decode.
  struct Prompts {
    std::vector<Run> runs;
    std::vector<Rows> rows;
    std::unique_ptr<model::PausedPass> pass;
    double seconds = 0, longest = 0;  // in all, and of a layer
  };

  // Pages of a prompt on their way from the disk.
  struct Loading {
    std::shared_ptr<PageStore::Load> load;
    Index first = 0;  // of them in the prompt
    std::vector<model::SharedPage> pages = {};
  };

  void begin_prompts();
  void go_on_with_prompts(std::vector<TokenEvent>& events);
  void drop_prompts();
  bool pauses(RequestId id) const;
  std::vector<TokenEvent> run_pass(bool prompts_paused);
  void check_pages(const Request& request) const;
  void begin_waiting();
  void count_pages();
  Index shared_pages(const ScheduledRequest& next);
  const ScheduledRequest* leader_of(const ScheduledRequest& request, Sequence::Following& following) const;
  void follow(ScheduledRequest& request);
  void release_followers();
  void begin_loading(ScheduledRequest& request);
  bool load(ScheduledRequest& request);
  bool waits_for_disk() const;
  void save_pages();
  std::vector<Run> with_room(std::vector<Run> pass);
  bool make_room(Index pages);
  void preempt(RequestId id);
  const Sequence* find(RequestId id) const;
  Sequence* find(RequestId id) { return const_cast<Sequence*>(std::as_const(*this).find(id)); }
  Sequence& sequence(RequestId id) { return *sequences_.at(id); }
  void leave(RequestId id);
  void end_late();
  std::vector<Rows> rows_of(const std::vector<Run>& pass);
  TensorRef compute(const std::vector<Rows>& rows);
  void begin_masks(const std::vector<Rows>& rows);
  void look_at_prompts(const TensorRef& hidden, const std::vector<Rows>& rows);
  void add_logprobs(const TensorRef& hidden, const Rows& rows);
  std::vector<TokenEvent> sample(const TensorRef& hidden, const std::vector<Rows>& rows);

  void speculate(const TensorRef& hidden, const std::vector<Rows>& rows, double seconds);

  Context& ctx_;
  const model::Transformer& transformer_;
  EngineOptions options_;
  model::CachePools pools_;
  Speculator speculator_;
  PrefixTree tree_;
  std::map<RequestId, std::unique_ptr<Sequence>> sequences_;  // that have not ended
  Schedule schedule_;
  std::map<RequestId, Loading> loading_;
  std::optional<Prompts> prompts_;
  Index paused_rows_;          // of the next such pass
  double decode_seconds_ = 0;  // of a pass without prompts, lately
  std::map<std::string, std::size_t> tenants_;
  std::optional<Request::Clock::time_point> next_deadline_;  // not later than the earliest of all
  MaskMaker masks_;
  std::map<RequestId, Completion> completions_;  // not taken yet
  RequestId last_id_ = 0;
  Index preemptions_ = 0;
  Index most_running_pages_ = 0;
};

// What a caller said to a token. False: the request has ended, and further tokens of it in the same step are void.
bool obey(Engine& engine, const TokenEvent& event, Continue go_on);

}  // namespace hadal::infer
