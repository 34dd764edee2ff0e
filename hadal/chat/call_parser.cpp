#include "hadal/chat/call_parser.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace hadal::chat {
namespace {

// A header that is longer is none.
constexpr std::size_t kLongestHeader = 512;

bool is_space(char32_t c) {
  return c == U' ' || c == U'\n' || c == U'\r' || c == U'\t';
}

bool is_blank(SymbolView text) {
  return std::all_of(text.begin(), text.end(), is_space);
}

SymbolView trimmed(SymbolView text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// What the parsers share: sections of calls, and headers that are none.
class SectionParser : public CallParser {
 protected:
  SectionParser(const CallMarkers& markers, const Alphabet& alphabet) : m_(markers), alphabet_(alphabet) {}

  // Before the first call, between two and behind the last: white space is markup, other text content. Of the marker
  // that begins a call, `found_call` is told.
  template <class F>
  Step between_calls(Input& input, EventWriter& out, const F& found_call) {
    const Found f = find_marker(input, m_.between);
    const std::size_t before = f.at;
    if (before > 0) {
      Symbols text = input.take(before);
      if (is_blank(text)) {
        held_ += text;
      } else {
        std::size_t end = text.size();
        while (is_space(text[end - 1])) --end;
        out.content(alphabet_.shown(held_ + text.substr(0, end)));
        held_ = text.substr(end);
      }
    }
    if (f.marker < 0) return input.last ? end_section(out, {}) : before > 0 ? Step::kAgain : Step::kMore;
    const Symbols marker = input.take(f.size);
    if (f.marker == 2) return end_section(out, marker);
    held_ += marker;
    if (f.marker == 1) found_call();
    return Step::kAgain;
  }

  // The header up to the first of header_ends, without it; nothing while it is not known (`step` is then the answer).
  std::optional<Symbols> header(Input& input, EventWriter& out, Step& step) {
    const Found f = find_marker(input, m_.header_ends);
    const bool whole = f.marker >= 0 && f.at + f.size <= kLongestHeader;
    step = Step::kAgain;
    if (whole && f.marker == 0) {
      Symbols text = input.take(f.at);
      input.take(f.size);
      return text;
    }
    if (!whole && input.text.size() < kLongestHeader && !input.last) {
      step = Step::kMore;
      return std::nullopt;
    }
    const Symbols text = input.take(whole ? f.at : std::min(input.text.size(), kLongestHeader));
    step = not_a_call(text, out);
    return std::nullopt;
  }

  // Everything since the last event is content.
  Step not_a_call(SymbolView header, EventWriter& out) {
    out.content(alphabet_.shown(held_ + Symbols(header)));
    held_.clear();
    return Step::kDone;
  }

  void begin_call(std::string name, std::string id, EventWriter& out) {
    held_.clear();
    has_calls_ = true;
    out.begin_call(std::move(name), std::move(id));
  }

  const CallMarkers& m_;
  const Alphabet& alphabet_;

 private:
  Step end_section(EventWriter& out, SymbolView marker) {
    if (!has_calls_) out.content(alphabet_.shown(held_ + Symbols(marker)));
    held_.clear();
    return Step::kDone;
  }

  Symbols held_;  // markup that becomes content if there is no call behind it
  bool has_calls_ = false;
};

// V3, V3.1 and Kimi-K2.
class TaggedCalls : public SectionParser {
 public:
  TaggedCalls(const CallMarkers& markers, const Alphabet& alphabet) : SectionParser(markers, alphabet) {}

  Step step(Input& input, EventWriter& out) override {
    switch (state_) {
      case State::kBetween:
        return between_calls(input, out, [&] { state_ = State::kHeader; });
      case State::kHeader:
        return read_header(input, out);
      case State::kFence:
        return read_fence(input);
      case State::kArguments:
        return read_arguments(input, out);
    }
    return Step::kDone;
  }

 private:
  enum class State { kBetween, kHeader, kFence, kArguments };

  Step read_header(Input& input, EventWriter& out) {
    Step step;
    const auto text = header(input, out, step);
    if (!text) return step;
    SymbolView name = *text;
    std::string id;
    if (m_.style == ToolStyle::kV3) {
      const auto at = name.find(m_.separator);
      name = at == SymbolView::npos ? SymbolView() : name.substr(at + m_.separator.size());
    } else if (m_.style == ToolStyle::kKimi) {
      id = alphabet_.shown(trimmed(name));
      name = function_of_id(trimmed(name));
    }
    name = trimmed(name);
    if (name.empty()) return not_a_call(*text + m_.header_ends.front(), out);
    begin_call(alphabet_.shown(name), std::move(id), out);
    fenced_ = false;
    state_ = m_.fences.empty() ? State::kArguments : State::kFence;
    return Step::kAgain;
  }

  // "functions.NAME:INDEX"
  static SymbolView function_of_id(SymbolView id) {
    constexpr SymbolView kPrefix = U"functions.";
    if (id.starts_with(kPrefix)) id.remove_prefix(kPrefix.size());
    const auto colon = id.rfind(U':');
    if (colon != SymbolView::npos && colon + 1 < id.size() &&
        std::all_of(id.begin() + static_cast<std::ptrdiff_t>(colon) + 1, id.end(),
                    [](char32_t c) { return c >= U'0' && c <= U'9'; }))
      id = id.substr(0, colon);
    return id;
  }

  Step read_fence(Input& input) {
    for (const Symbols& fence : m_.fences) {
      if (input.text.starts_with(fence)) {
        input.take(fence.size());
        fenced_ = true;
        break;
      }
      if (!input.last && fence.starts_with(input.text)) return Step::kMore;
    }
    state_ = State::kArguments;
    return Step::kAgain;
  }

  Step read_arguments(Input& input, EventWriter& out) {
    const std::vector<Symbols>& ends = fenced_ ? m_.fenced_argument_ends : m_.argument_ends;
    const Found f = find_marker(input, ends);
    if (f.marker < 0) {
      Symbols text = input.take(f.at);
      if (input.last && fenced_) drop_fence(text);
      const bool some = !text.empty();
      out.arguments(alphabet_.shown(text));
      if (!input.last) return some ? Step::kAgain : Step::kMore;
    } else {
      out.arguments(alphabet_.shown(input.take(f.at)));
      if (static_cast<std::size_t>(f.marker) < (fenced_ ? m_.fenced_closing : m_.closing)) input.take(f.size);
    }
    out.end_call();
    state_ = State::kBetween;
    return Step::kAgain;
  }

  // Of an answer that ends behind its fence.
  static void drop_fence(Symbols& text) {
    for (const SymbolView fence : {U"\n```", U"```"})
      if (text.ends_with(fence)) {
        text.resize(text.size() - fence.size());
        return;
      }
  }

  State state_ = State::kBetween;
  bool fenced_ = false;
};

// V3.2: the arguments become the JSON that the calls of other models have.
class DsmlCalls : public SectionParser {
 public:
  DsmlCalls(const CallMarkers& markers, const Alphabet& alphabet)
      : SectionParser(markers, alphabet), parameters_{m_.separator, m_.call_end}, value_end_{m_.parameter_end} {}

  Step step(Input& input, EventWriter& out) override {
    switch (state_) {
      case State::kBetween:
        return between_calls(input, out, [&] { state_ = State::kName; });
      case State::kName:
        return read_name(input, out);
      case State::kParameters:
        return read_parameters(input, out);
      case State::kParameterHeader:
        return read_parameter_header(input, out);
      case State::kText:
      case State::kValue:
        return read_value(input, out);
    }
    return Step::kDone;
  }

 private:
  enum class State { kBetween, kName, kParameters, kParameterHeader, kText, kValue };

  Step read_name(Input& input, EventWriter& out) {
    Step step;
    const auto text = header(input, out, step);
    if (!text) return step;
    if (trimmed(*text).empty()) return not_a_call(*text + m_.header_ends.front(), out);
    begin_call(alphabet_.shown(*text), "", out);
    out.arguments("{");
    first_ = true;
    state_ = State::kParameters;
    return Step::kAgain;
  }

  Step read_parameters(Input& input, EventWriter& out) {
    const Found f = find_marker(input, parameters_);
    if (f.at > 0) {
      for (const char32_t c : input.take(f.at)) {
        stray_ += c;
        if (is_space(c)) continue;
        out.content(alphabet_.shown(stray_));
        stray_.clear();
      }
      return Step::kAgain;
    }
    if (f.marker < 0) return input.last ? end(out, "") : Step::kMore;
    input.take(f.size);
    stray_.clear();
    if (f.marker == 1) return end(out, "}");
    state_ = State::kParameterHeader;
    return Step::kAgain;
  }

  Step end(EventWriter& out, std::string closing) {
    out.arguments(std::move(closing));
    out.end_call();
    state_ = State::kBetween;
    return Step::kAgain;
  }

  // NAME" string="true
  Step read_parameter_header(Input& input, EventWriter& out) {
    const Found f = find_marker(input, {m_.quote_end});
    const bool whole = f.marker >= 0 && f.at + f.size <= kLongestHeader;
    if (!whole && input.text.size() < kLongestHeader && !input.last) return Step::kMore;
    const Symbols text = input.take(whole ? f.at : std::min(input.text.size(), kLongestHeader));
    if (whole) input.take(f.size);
    constexpr SymbolView kAttribute = U"\" string=\"";
    const auto at = text.find(kAttribute);
    const SymbolView kind = at == Symbols::npos ? SymbolView() : SymbolView(text).substr(at + kAttribute.size());
    if (!whole || (kind != U"true" && kind != U"false")) {
      out.content(alphabet_.shown(m_.separator + text + (whole ? m_.quote_end : Symbols())));
      state_ = State::kParameters;
      return Step::kAgain;
    }
    const bool is_text = kind == U"true";
    out.arguments((first_ ? "" : ", ") + quoted(SymbolView(text).substr(0, at)) + ": " + (is_text ? "\"" : ""));
    first_ = false;
    state_ = is_text ? State::kText : State::kValue;
    return Step::kAgain;
  }

  Step read_value(Input& input, EventWriter& out) {
    const Found f = find_marker(input, value_end_);
    const bool whole = f.marker >= 0, is_text = state_ == State::kText;
    if (!whole && !input.last && (!is_text || f.at == 0)) return Step::kMore;
    const Symbols text = input.take(f.at);
    if (whole) input.take(f.size);
    if (is_text) {
      const std::string inner = quoted(text);
      out.arguments(inner.substr(1, inner.size() - 2) + (whole ? "\"" : ""));
    } else {
      const std::string value = alphabet_.shown(text);
      out.arguments(whole && !nlohmann::json::accept(value) ? quoted(text) : value);
    }
    if (whole) state_ = State::kParameters;
    if (!whole && input.last) return end(out, "");
    return Step::kAgain;
  }

  std::string quoted(SymbolView text) const { return nlohmann::json(alphabet_.shown(text)).dump(); }

  State state_ = State::kBetween;
  bool first_ = true;
  Symbols stray_;  // white space that is content if text follows
  std::vector<Symbols> parameters_, value_end_;
};

}  // namespace

Found find_marker(const Input& input, const std::vector<Symbols>& markers) {
  const SymbolView text = input.text;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const SymbolView rest = text.substr(i);
    Found best{i, -1, 0};
    for (std::size_t k = 0; k < markers.size(); ++k) {
      const SymbolView marker = markers[k];
      if (rest.front() != marker.front()) continue;
      if (rest.starts_with(marker)) {
        if (marker.size() > best.size) best = {i, static_cast<int>(k), marker.size()};
      } else if (!input.last && marker.starts_with(rest)) {
        return {i, -1, 0};
      }
    }
    if (best.marker >= 0) return best;
  }
  return {text.size(), -1, 0};
}

CallMarkers::CallMarkers(ToolStyle tool_style, const Alphabet& alphabet) : style(tool_style) {
  if (style == ToolStyle::kNone) return;
  const ToolMarkers& spelled = tool_markers(style);
  section_begin = alphabet.marker(spelled.section_begin);
  section_end = alphabet.marker(spelled.section_end);
  call_begin = alphabet.marker(spelled.call_begin);
  separator = alphabet.marker(spelled.separator);
  call_end = alphabet.marker(spelled.call_end);
  are_tokens = Alphabet::has_symbol(section_begin);
  between = {section_begin, call_begin, section_end};
  if (style == ToolStyle::kDsml) {
    begins = {U"\n\n" + section_begin, section_begin};
    quote_end = U"\">";
    parameter_end = alphabet.marker("</｜DSML｜parameter>");
    header_ends = {quote_end, U"\n", section_end, call_begin};
    return;
  }
  begins = {section_begin, call_begin};
  const Symbols end_of_header = style == ToolStyle::kV3 ? Symbols(U"\n") : separator;
  header_ends = {end_of_header, call_begin, call_end, section_begin, section_end};
  const std::vector<Symbols> open_ends = {section_end, call_begin, section_begin};
  argument_ends = {call_end};
  closing = 1;
  if (style == ToolStyle::kV3) {
    fences = {U"```json\n", U"```\n"};
    fenced_argument_ends = {U"\n```" + call_end, U"```" + call_end, U"\n```\n" + call_end, call_end};
    fenced_closing = fenced_argument_ends.size();
  }
  for (const Symbols& end : open_ends) {
    argument_ends.push_back(end);
    if (style == ToolStyle::kV3) fenced_argument_ends.push_back(end);
  }
}

std::unique_ptr<CallParser> make_call_parser(const CallMarkers& markers, const Alphabet& alphabet) {
  switch (markers.style) {
    case ToolStyle::kNone:
      return nullptr;
    case ToolStyle::kDsml:
      return std::make_unique<DsmlCalls>(markers, alphabet);
    case ToolStyle::kV3:
    case ToolStyle::kV31:
    case ToolStyle::kKimi:
      break;
  }
  return std::make_unique<TaggedCalls>(markers, alphabet);
}

}  // namespace hadal::chat
