// /v1/embeddings: the hidden state behind the last token of a text, after the final norm, or the mean over all tokens;
// of length 1 unless "normalize" is false.
#pragma once

#include <memory>

#include "hadal/serve/api/answer.h"

namespace hadal::serve {

struct EmbeddingRequest {
  Generation generation;  // its prompts, and what to do with them
  bool base64 = false, normalize = true;
};

// Throws ApiError.
EmbeddingRequest read_embeddings(Fields& fields, const ServedModel& model, const ApiOptions& options);

class EmbeddingAnswer : public PendingAnswer {
 public:
  EmbeddingAnswer(const ServedModel& model, EngineLoop& loop, EmbeddingRequest request,
                  std::unique_ptr<Account> account);
  ~EmbeddingAnswer() override;
  void begin(const Wake& wake);

  Output advance(bool begun) override;
  bool streams() const override { return false; }
  Tally tally() const override;

 private:
  const ServedModel& model_;
  EngineLoop& loop_;
  EmbeddingRequest request_;
  std::unique_ptr<Account> account_;
  std::vector<std::shared_ptr<Channel>> channels_;
  std::vector<std::optional<infer::Completion>> completions_;
};

}  // namespace hadal::serve
