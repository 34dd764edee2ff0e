#include "hadal/grammar/structured.h"

#include "hadal/core/error.h"
#include "hadal/grammar/lark.h"
#include "hadal/io/json.h"

#ifdef HADAL_STRUCTURED_OUTPUT
#include <array>
#include <list>
#include <mutex>

#include "hadal/grammar/llguidance_c.h"
#endif

namespace hadal::grammar {

GrammarText any_json_object() {
  return {GrammarText::Kind::kJsonSchema, R"({"type":"object"})"};
}

GrammarText choice(const std::vector<std::string>& texts) {
  if (texts.empty()) throw InvalidRequest("a list of choices has none");
  std::string lark = "start: ";
  for (std::size_t i = 0; i < texts.size(); ++i) (lark += i ? " | " : "") += lark_text(texts[i]);
  return {GrammarText::Kind::kLark, std::move(lark)};
}

#ifdef HADAL_STRUCTURED_OUTPUT
namespace llg {

struct FreeGrammar {
  void operator()(hadal_llg_grammar_t* g) const { hadal_llg_free(g); }
};
struct FreeVocabulary {
  void operator()(hadal_llg_vocabulary_t* v) const { hadal_llg_free_vocabulary(v); }
};
using GrammarHandle = std::unique_ptr<hadal_llg_grammar_t, FreeGrammar>;
using VocabularyHandle = std::unique_ptr<hadal_llg_vocabulary_t, FreeVocabulary>;

}  // namespace llg

namespace {

using llg::GrammarHandle;

constexpr std::size_t kRemembered = 64;

// Room for the sentence of a C function that fails.
class Sentence {
 public:
  char* data() { return text_.data(); }
  std::size_t size() const { return text_.size(); }
  std::string text() const { return text_.data(); }

 private:
  std::array<char, 2048> text_{};
};

GrammarHandle copy_of(const hadal_llg_grammar_t* g) {
  Sentence error;
  GrammarHandle copy(hadal_llg_clone(g, error.data(), error.size()));
  HADAL_CHECK(copy, "a grammar could not be copied: {}", error.text());
  return copy;
}

class GrammarConstraint : public TokenConstraint {
 public:
  explicit GrammarConstraint(GrammarHandle grammar) : grammar_(std::move(grammar)) {}

  bool mask(std::span<std::uint32_t> allowed) override {
    Sentence error;
    HADAL_CHECK(hadal_llg_mask(grammar_.get(), allowed.data(), allowed.size(), error.data(), error.size()),
                "the grammar of this answer cannot go on: {}", error.text());
    return true;
  }
  void accept(TokenId token) override {
    Sentence error;
    HADAL_CHECK(hadal_llg_accept(grammar_.get(), static_cast<std::uint32_t>(token), error.data(), error.size()),
                "the grammar of this answer does not take token {}: {}", token, error.text());
  }
  bool complete() const override { return hadal_llg_stopped(grammar_.get()); }
  std::unique_ptr<TokenConstraint> clone() const override {
    return std::make_unique<GrammarConstraint>(copy_of(grammar_.get()));
  }

 private:
  GrammarHandle grammar_;
};

const char* kind_name(GrammarText::Kind kind) {
  return kind == GrammarText::Kind::kJsonSchema ? "json_schema" : kind == GrammarText::Kind::kRegex ? "regex" : "lark";
}
const char* noun(GrammarText::Kind kind) {
  return kind == GrammarText::Kind::kJsonSchema ? "JSON schema"
         : kind == GrammarText::Kind::kRegex    ? "regular expression"
                                                : "grammar";
}

// The library's sentence with what a caller can act upon.
std::string readable(std::string said) {
  const auto replace = [&](std::string_view from, std::string_view to) {
    if (const auto at = said.find(from); at != std::string::npos) said.replace(at, from.size(), to);
  };
  replace("Unimplemented keys:", "it uses keywords that are not supported:");
  replace("Unknown format:", "it uses a format that is not supported:");
  replace("oneOf constraints are not supported. Enable 'coerce_one_of' option to approximate oneOf with anyOf",
          "it uses oneOf with alternatives that may overlap, which is not supported; anyOf is");
  replace(" without 'referencing' feature", "");
  return said;
}

}  // namespace

struct GrammarCompiler::Impl {
  llg::VocabularyHandle vocabulary;
  GrammarLimits limits;
  struct Remembered {
    GrammarText text;
    std::shared_ptr<const llg::GrammarHandle> grammar;
  };
  std::mutex mutex;
  std::list<Remembered> remembered;  // the one used last first

  std::shared_ptr<const GrammarHandle> find(const GrammarText& text) {
    const std::lock_guard lock(mutex);
    for (auto it = remembered.begin(); it != remembered.end(); ++it) {
      if (it->text.kind != text.kind || it->text.text != text.text) continue;
      remembered.splice(remembered.begin(), remembered, it);
      return remembered.front().grammar;
    }
    return nullptr;
  }
  void remember(const GrammarText& text, std::shared_ptr<const GrammarHandle> grammar) {
    const std::lock_guard lock(mutex);
    remembered.push_front({text, std::move(grammar)});
    if (remembered.size() > kRemembered) remembered.pop_back();
  }
};

GrammarCompiler::GrammarCompiler(std::span<const TokenText> tokens, std::span<const TokenId> ends, GrammarLimits limits)
    : impl_(std::make_unique<Impl>()) {
  HADAL_CHECK(!ends.empty(), "a vocabulary without an end token cannot have grammars: no answer would end");
  impl_->limits = limits;
  std::string bytes;
  std::vector<std::uint32_t> lengths;
  std::vector<std::uint8_t> control;
  for (const TokenText& token : tokens) {
    bytes += token.bytes;
    lengths.push_back(static_cast<std::uint32_t>(token.bytes.size()));
    control.push_back(token.control ? 1 : 0);
  }
  std::vector<std::uint32_t> end_ids;
  for (const TokenId id : ends) {
    HADAL_CHECK(id >= 0 && static_cast<std::size_t>(id) < tokens.size(), "end token {} is none of {} tokens", id,
                tokens.size());
    end_ids.push_back(static_cast<std::uint32_t>(id));
  }
  Sentence error;
  impl_->vocabulary.reset(hadal_llg_vocabulary(reinterpret_cast<const std::uint8_t*>(bytes.data()), lengths.data(),
                                               control.data(), tokens.size(), end_ids.data(), end_ids.size(),
                                               error.data(), error.size()));
  HADAL_CHECK(impl_->vocabulary, "the vocabulary cannot be used for grammars: {}", error.text());
}

bool GrammarCompiler::available() {
  return true;
}

std::unique_ptr<TokenConstraint> GrammarCompiler::compile(const GrammarText& grammar) const {
  const char* what = noun(grammar.kind);
  if (grammar.text.size() > impl_->limits.bytes)
    throw InvalidRequest(
        fmt::format("the {} has {} bytes, at most {} are taken", what, grammar.text.size(), impl_->limits.bytes));
  if (const auto known = impl_->find(grammar)) return std::make_unique<GrammarConstraint>(copy_of(known->get()));
  const std::string_view kind = kind_name(grammar.kind);
  const std::string text = grammar.kind == GrammarText::Kind::kJsonSchema ? bounded_schema(grammar.text) : grammar.text;
  Sentence error;
  GrammarHandle compiled(hadal_llg_compile(impl_->vocabulary.get(), kind.data(), kind.size(), text.data(), text.size(),
                                           impl_->limits.milliseconds, error.data(), error.size()));
  if (!compiled) throw InvalidRequest(fmt::format("the {} cannot be enforced: {}", what, readable(error.text())));
  const auto shared = std::make_shared<const GrammarHandle>(std::move(compiled));
  impl_->remember(grammar, shared);
  return std::make_unique<GrammarConstraint>(copy_of(shared->get()));
}

#else

struct GrammarCompiler::Impl {};

GrammarCompiler::GrammarCompiler(std::span<const TokenText>, std::span<const TokenId>, GrammarLimits) {}

bool GrammarCompiler::available() {
  return false;
}

std::unique_ptr<TokenConstraint> GrammarCompiler::compile(const GrammarText&) const {
  throw InvalidRequest(
      "this build has no structured output (JSON schemas, regular expressions, grammars, strict tools): it was made "
      "without cargo or crates.io; install cargo-web and rustc-web and build again");
}

#endif

GrammarCompiler::~GrammarCompiler() = default;
GrammarCompiler::GrammarCompiler(GrammarCompiler&&) noexcept = default;
GrammarCompiler& GrammarCompiler::operator=(GrammarCompiler&&) noexcept = default;

}  // namespace hadal::grammar
