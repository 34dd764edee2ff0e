#define PCRE2_CODE_UNIT_WIDTH 8
#include "hadal/tokenizer/regex.h"

#include <pcre2.h>

#include <array>

#include "hadal/core/error.h"

namespace hadal::tokenizer {
namespace {

constexpr const char* kWhiteSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// General categories and other properties keep their meaning; what is left inside \p{...} is a script.
bool is_script(std::string_view name) {
  static constexpr std::array kNotScripts = {"L&", "Any", "Xan", "Xps", "Xsp", "Xwd"};
  if (name.size() <= 2) return false;
  for (std::string_view other : kNotScripts)
    if (name == other) return false;
  return name.find(':') == name.npos && name.find('=') == name.npos;
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) {
      if (in_[at_] == '\\')
        out_ += escape(false);
      else if (in_[at_] == '[')
        out_ += char_class();
      else
        out_ += in_[at_++];
    }
    return out_;
  }

 private:
  // One escape sequence; inside a class \s is a list of ranges.
  std::string escape(bool in_class) {
    if (at_ + 1 >= in_.size()) return std::string(1, in_[at_++]);
    const char c = in_[at_ + 1];
    if (c == 's' || (c == 'S' && !in_class)) {
      at_ += 2;
      if (in_class) return kWhiteSpace;
      return std::string(c == 's' ? "[" : "[^") + kWhiteSpace + "]";
    }
    if ((c == 'p' || c == 'P') && at_ + 2 < in_.size() && in_[at_ + 2] == '{') {
      const std::size_t close = in_.find('}', at_);
      if (close != in_.npos) {
        const std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
        at_ = close + 1;
        return std::string("\\") + c + "{" + (is_script(name) ? "sc:" : "") + std::string(name) + "}";
      }
    }
    const std::size_t begin = at_;
    at_ += 2;
    return std::string(in_.substr(begin, 2));
  }

  // A class with its brackets; an intersection with a negated class becomes a look-ahead before it.
  std::string char_class() {
    std::string body = "[";
    std::string excluded;
    ++at_;
    if (at_ < in_.size() && in_[at_] == '^') body += in_[at_++];
    if (at_ < in_.size() && in_[at_] == ']') body += "\\]", ++at_;
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '\\')
        body += escape(true);
      else if (in_.substr(at_).starts_with("&&[^"))
        excluded = intersection();
      else if (in_[at_] == '[' && !in_.substr(at_).starts_with("[:"))
        body += "\\[", ++at_;
      else
        body += in_[at_++];
    }
    if (at_ < in_.size()) ++at_;
    body += "]";
    return excluded.empty() ? body : "(?:(?!" + excluded + ")" + body + ")";
  }

  std::string intersection() {
    at_ += 4;  // &&[^
    std::string inner = "[";
    while (at_ < in_.size() && in_[at_] != ']') inner += in_[at_] == '\\' ? escape(true) : std::string(1, in_[at_++]);
    if (at_ < in_.size()) ++at_;
    return inner + "]";
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_pattern(std::string_view pattern) {
  return Translator(pattern).run();
}

struct Regex::Compiled {
  pcre2_code* code = nullptr;
  ~Compiled() { pcre2_code_free(code); }
};

Regex::Regex(const std::string& pattern, const std::string& where)
    : compiled_(std::make_unique<Compiled>()), where_(where) {
  const std::string translated = translate_pattern(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C, &error,
                                  &offset, nullptr);
  if (!compiled_->code) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(error, text.data(), text.size());
    fail("{}: pattern {} is not a regular expression: {}", where, pattern, reinterpret_cast<const char*>(text.data()));
  }
  // Without JIT (a hardened kernel) the interpreter gives the same matches.
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

bool Regex::find(std::string_view text, std::size_t from, Match& match) const {
  // One match block and JIT stack a thread, large enough for long runs; creating them for each match would dominate.
  struct Scratch {
    pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
    pcre2_match_context* context = pcre2_match_context_create(nullptr);
    pcre2_jit_stack* stack = pcre2_jit_stack_create(std::size_t{1} << 15, std::size_t{64} << 20, nullptr);
    Scratch() {
      pcre2_jit_stack_assign(context, nullptr, stack);
      pcre2_set_match_limit(context, 500'000'000);
      pcre2_set_heap_limit(context, 1 << 20);
    }
    ~Scratch() {
      pcre2_jit_stack_free(stack);
      pcre2_match_context_free(context);
      pcre2_match_data_free(data);
    }
  };
  thread_local const Scratch scratch;
  const int rc = pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, 0,
                             scratch.data, scratch.context);
  if (rc == PCRE2_ERROR_NOMATCH) return false;
  HADAL_CHECK(rc >= 0, "{}: matching gave up at byte {} of the text (PCRE2 error {}); the pattern backtracks too much",
              where_, from, rc);
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.data);
  match = {bounds[0], bounds[1]};
  return true;
}

}  // namespace hadal::tokenizer
