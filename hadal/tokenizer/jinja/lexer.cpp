#include "hadal/tokenizer/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "hadal/core/error.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer::jinja {
namespace {

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name) : in_(source), name_(name) {
    // One newline at the end of the file is not part of the template.
    if (in_.ends_with('\n')) in_.remove_suffix(1);
  }

  std::vector<Token> run() {
    while (at_ < in_.size()) data();
    push(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail_here(std::string_view what) const { fail("{}, line {}: {}", name_, line_, what); }
  bool starts(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void push(Token::Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  void advance(std::size_t n) {
    line_ += static_cast<int>(std::count(in_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         in_.begin() + static_cast<std::ptrdiff_t>(at_ + n), '\n'));
    at_ += n;
  }

  // Text up to the next tag, then the tag.
  void data() {
    std::size_t tag = at_;
    while (tag < in_.size() && !(in_[tag] == '{' && tag + 1 < in_.size() &&
                                 (in_[tag + 1] == '{' || in_[tag + 1] == '%' || in_[tag + 1] == '#')))
      ++tag;
    std::string text(in_.substr(at_, tag - at_));
    const std::size_t from = at_;
    if (tag < in_.size()) strip_before(text, from, tag);
    strip_after(text);
    if (!text.empty()) push(Token::Kind::kData, std::move(text));
    advance(tag - at_);
    if (at_ < in_.size()) open_tag();
  }

  void strip_before(std::string& text, std::size_t from, std::size_t tag) const {
    const char control = tag + 2 < in_.size() ? in_[tag + 2] : '\0';
    if (control == '-') {
      while (!text.empty() && is_space(text.back())) text.pop_back();
      return;
    }
    if (in_[tag + 1] == '{' || control == '+') return;
    // lstrip_blocks: blanks between the start of the line and a block.
    std::size_t end = text.size();
    while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '\t')) --end;
    const bool at_line_start = end > 0 ? text[end - 1] == '\n' : (from == 0 || in_[from - 1] == '\n');
    if (at_line_start) text.resize(end);
  }

  // What the tag before took from this text.
  void strip_after(std::string& text) {
    if (strip_all_)
      text.erase(0, static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), is_space) - text.begin()));
    else if (strip_newline_ && text.starts_with('\n'))
      text.erase(0, 1);
    strip_all_ = strip_newline_ = false;
  }

  void open_tag() {
    if (starts("{#")) return comment();
    const bool block = starts("{%");
    advance(2);
    if (starts("-") || starts("+")) advance(1);
    if (block && raw()) return;
    push(block ? Token::Kind::kTagBegin : Token::Kind::kPrintBegin, "");
    inside(block);
  }

  void comment() {
    const std::size_t end = in_.find("#}", at_ + 2);
    if (end == in_.npos) fail_here("a comment is not closed with #}");
    strip_all_ = end > at_ + 2 && in_[end - 1] == '-';
    strip_newline_ = !strip_all_;
    advance(end + 2 - at_);
  }

  // {% raw %} ... {% endraw %}
  bool raw() {
    std::size_t i = at_;
    while (i < in_.size() && is_space(in_[i])) ++i;
    if (!in_.substr(i).starts_with("raw")) return false;
    i += 3;
    while (i < in_.size() && is_space(in_[i])) ++i;
    bool strip = i < in_.size() && in_[i] == '-';
    if (strip) ++i;
    if (!in_.substr(i).starts_with("%}")) return false;
    advance(i + 2 - at_);
    std::size_t end = at_;
    for (;; ++end) {
      end = in_.find("{%", end);
      if (end == in_.npos) fail_here("raw is not closed with {% endraw %}");
      std::size_t j = end + 2;
      const bool strips = j < in_.size() && in_[j] == '-';
      if (strips) ++j;
      while (j < in_.size() && is_space(in_[j])) ++j;
      if (!in_.substr(j).starts_with("endraw")) continue;
      j += 6;
      while (j < in_.size() && is_space(in_[j])) ++j;
      const bool strip_end = j < in_.size() && in_[j] == '-';
      if (strip_end) ++j;
      if (!in_.substr(j).starts_with("%}")) continue;
      std::string text(in_.substr(at_, end - at_));
      if (strip)
        text.erase(0, static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), is_space) - text.begin()));
      if (strips)
        while (!text.empty() && is_space(text.back())) text.pop_back();
      if (!text.empty()) push(Token::Kind::kData, std::move(text));
      strip_all_ = strip_end;
      strip_newline_ = !strip_end;
      advance(j + 2 - at_);
      return true;
    }
  }

  void inside(bool block) {
    const std::string_view close = block ? "%}" : "}}";
    int brackets = 0;
    for (;;) {
      while (at_ < in_.size() && is_space(in_[at_])) advance(1);
      if (at_ >= in_.size()) fail_here(block ? "a tag is not closed with %}" : "an expression is not closed with }}");
      const bool signed_close = (starts("-") || (block && starts("+"))) && in_.substr(at_ + 1).starts_with(close);
      if (brackets == 0 && (signed_close || starts(close))) {
        strip_all_ = signed_close && starts("-");
        strip_newline_ = block && !signed_close;
        push(block ? Token::Kind::kTagEnd : Token::Kind::kPrintEnd, "");
        return advance(signed_close ? 3 : 2);
      }
      const char c = in_[at_];
      if (c == '(' || c == '[' || c == '{') ++brackets;
      if (c == ')' || c == ']' || c == '}') brackets = std::max(0, brackets - 1);
      word();
    }
  }

  void word() {
    const char c = in_[at_];
    if (is_name_start(c)) {
      std::size_t end = at_;
      while (end < in_.size() && (is_name_start(in_[end]) || is_digit(in_[end]))) ++end;
      push(Token::Kind::kName, std::string(in_.substr(at_, end - at_)));
      return advance(end - at_);
    }
    if (is_digit(c)) return number();
    if (c == '"' || c == '\'') return string(c);
    static constexpr std::array kTwo = {"==", "!=", "<=", ">=", "//", "**"};
    for (const char* op : kTwo)
      if (starts(op)) {
        push(Token::Kind::kOperator, op);
        return advance(2);
      }
    if (std::string_view("+-*/%~<>=()[]{},:.|").find(c) == std::string_view::npos)
      fail_here(std::string("unexpected character ") + c);
    push(Token::Kind::kOperator, std::string(1, c));
    advance(1);
  }

  void number() {
    std::size_t end = at_;
    bool floating = false;
    const auto digits = [&] {
      while (end < in_.size() &&
             (is_digit(in_[end]) || (in_[end] == '_' && end + 1 < in_.size() && is_digit(in_[end + 1]))))
        ++end;
    };
    digits();
    if (end + 1 < in_.size() && in_[end] == '.' && is_digit(in_[end + 1])) {
      floating = true;
      ++end;
      digits();
    }
    if (end < in_.size() && (in_[end] == 'e' || in_[end] == 'E')) {
      std::size_t exponent = end + 1;
      if (exponent < in_.size() && (in_[exponent] == '+' || in_[exponent] == '-')) ++exponent;
      if (exponent < in_.size() && is_digit(in_[exponent])) {
        floating = true;
        end = exponent;
        digits();
      }
    }
    std::string text(in_.substr(at_, end - at_));
    std::erase(text, '_');
    if (!floating && text.size() > 1 && text[0] == '0' && text.find_first_not_of('0') != text.npos)
      fail_here("number " + text + " begins with a zero");
    push(floating ? Token::Kind::kFloat : Token::Kind::kInteger, std::move(text));
    advance(end - at_);
  }

  void string(char quote) {
    std::string value;
    std::size_t i = at_ + 1;
    while (i < in_.size() && in_[i] != quote) i = in_[i] == '\\' ? escape(i + 1, value) : (value += in_[i], i + 1);
    if (i >= in_.size()) fail_here("a string is not closed");
    push(Token::Kind::kString, std::move(value));
    advance(i + 1 - at_);
  }

  // The escape sequence whose letter is at `i`; returns the position behind it.
  std::size_t escape(std::size_t i, std::string& value) const {
    if (i >= in_.size()) fail_here("a string is not closed");
    switch (in_[i]) {
      case 'n':
        value += '\n';
        return i + 1;
      case 't':
        value += '\t';
        return i + 1;
      case 'r':
        value += '\r';
        return i + 1;
      case 'b':
        value += '\b';
        return i + 1;
      case 'f':
        value += '\f';
        return i + 1;
      case 'v':
        value += '\v';
        return i + 1;
      case 'a':
        value += '\a';
        return i + 1;
      case '\n':
        return i + 1;
      case '\\':
      case '\'':
      case '"':
        value += in_[i];
        return i + 1;
      case 'N':
        fail_here("an escape sequence \\N{...} is not supported");
      case 'x':
        return code_point(i + 1, 2, value);
      case 'u':
        return code_point(i + 1, 4, value);
      case 'U':
        return code_point(i + 1, 8, value);
      case '0':
      case '1':
      case '2':
      case '3':
      case '4':
      case '5':
      case '6':
      case '7':
        return octal(i, value);
      default:
        (value += '\\') += in_[i];
        return i + 1;
    }
  }

  std::size_t octal(std::size_t i, std::string& value) const {
    std::uint32_t c = 0;
    const std::size_t end = std::min(i + 3, in_.size());
    for (; i < end && in_[i] >= '0' && in_[i] <= '7'; ++i) c = c * 8 + static_cast<std::uint32_t>(in_[i] - '0');
    append_utf8(value, c);
    return i;
  }

  std::size_t code_point(std::size_t i, std::size_t digits, std::string& value) const {
    std::uint32_t c = 0;
    for (std::size_t d = 0; d < digits; ++d) {
      const char h = i + d < in_.size() ? in_[i + d] : '\0';
      const int v = is_digit(h)            ? h - '0'
                    : h >= 'a' && h <= 'f' ? h - 'a' + 10
                    : h >= 'A' && h <= 'F' ? h - 'A' + 10
                                           : -1;
      if (v < 0) fail_here("an escape sequence has too few hexadecimal digits");
      c = c << 4 | static_cast<std::uint32_t>(v);
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) fail_here("an escape sequence names no character");
    append_utf8(value, c);
    return i + digits;
  }

  std::string_view in_;
  const std::string& name_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool strip_all_ = false, strip_newline_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& name) {
  // Lines may end as on Windows or old Macs; jinja2 makes them all end in a line feed.
  std::string lines;
  lines.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    lines += source[i] == '\r' ? '\n' : source[i];
  }
  return Lexer(lines, name).run();
}

}  // namespace hadal::tokenizer::jinja
