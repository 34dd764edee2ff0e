#include "hadal/data/documents.h"

#include <simdjson.h>

#include "hadal/core/error.h"
#include "hadal/io/utf8_text.h"

namespace hadal::data {
namespace {

constexpr std::size_t kTextBlock = std::size_t{1} << 20;

bool is_jsonl(std::filesystem::path path) {
  if (path.extension() == ".gz" || path.extension() == ".zst") path = path.stem();
  return path.extension() == ".jsonl" || path.extension() == ".ndjson";
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\v\f") == line.npos;
}

}  // namespace

std::optional<Division> division_from_name(std::string_view name) {
  if (name == "file") return Division::kFile;
  if (name == "lines") return Division::kLines;
  if (name == "blank-lines") return Division::kBlankLines;
  if (name == "jsonl") return Division::kJsonl;
  return std::nullopt;
}

DocumentReader::DocumentReader(const std::filesystem::path& path, const DocumentOptions& options)
    : file_(path),
      division_(options.division.value_or(is_jsonl(path) ? Division::kJsonl : Division::kFile)),
      text_field_(options.text_field) {}

std::string DocumentReader::at_line(std::uint64_t line) const {
  return fmt::format("{}, line {}", file_.path().string(), line);
}

// More bytes in block_; false if there are none.
bool DocumentReader::fill() {
  if (ended_) return false;
  block_.erase(0, begin_);
  begin_ = 0;
  const std::size_t before = block_.size();
  block_.resize(before + kTextBlock);
  std::size_t have = before;
  // The first block is a full one, so that its beginning tells the encoding.
  do {
    const std::size_t n = file_.read(std::span(block_).subspan(have));
    have += n;
    ended_ = n == 0;
  } while (!started_ && !ended_ && have < block_.size());
  block_.resize(have);
  if (!started_) begin_ = have - io::utf8_text(block_, file_.path().string()).size();
  started_ = true;
  return have > before;
}

void DocumentReader::grow(std::string& text, std::string_view more) const {
  HADAL_CHECK(text.size() + more.size() <= kLongest,
              "{}: a document is longer than {} MiB; divide it, for instance by --documents lines or blank-lines",
              file_.path().string(), kLongest >> 20);
  text += more;
}

// Without its end, "\n" or "\r\n".
bool DocumentReader::next_line(std::string& out) {
  out.clear();
  while (true) {
    const std::size_t end = block_.find('\n', begin_);
    if (end != block_.npos) {
      grow(out, std::string_view(block_).substr(begin_, end - begin_));
      begin_ = end + 1;
      break;
    }
    grow(out, std::string_view(block_).substr(begin_));
    begin_ = block_.size();
    if (fill()) continue;
    if (begin_ < block_.size()) continue;
    if (out.empty()) return false;
    break;
  }
  if (out.ends_with('\r')) out.pop_back();
  ++line_;
  return true;
}

bool DocumentReader::next_file(Document& out) {
  if (ended_ && begin_ == block_.size()) return false;
  out.text.clear();
  do {
    grow(out.text, std::string_view(block_).substr(begin_));
    begin_ = block_.size();
  } while (fill());
  out.where = file_.path().string();
  return true;
}

bool DocumentReader::next_paragraphs(Document& out) {
  std::string line;
  out.text.clear();
  while (next_line(line)) {
    if (!is_blank(line)) {
      if (out.text.empty())
        out.where = at_line(line_);
      else
        grow(out.text, "\n");
      grow(out.text, line);
    } else if (!out.text.empty()) {
      return true;
    }
  }
  return !out.text.empty();
}

bool DocumentReader::next_object(Document& out) {
  std::string line;
  do {
    if (!next_line(line)) return false;
  } while (is_blank(line));
  out.where = at_line(line_);
  thread_local simdjson::dom::parser parser;  // its memory is that of the longest line
  simdjson::dom::object object;
  const auto document = parser.parse(line);
  HADAL_CHECK(!document.error(), "{}: not valid JSON: {}", out.where, simdjson::error_message(document.error()));
  HADAL_CHECK(!document.get_object().get(object), "{}: an object was expected, {{\"{}\": \"...\"}}", out.where,
              text_field_);
  std::string names;
  for (const auto field : object) {
    if (field.key != text_field_) {
      if (names.size() < 200) names += (names.empty() ? "" : ", ") + std::string(field.key);
      continue;
    }
    std::string_view text;
    HADAL_CHECK(!field.value.get_string().get(text), "{}: {} is not text", out.where, text_field_);
    out.text = text;
    return true;
  }
  fail("{}: has no field {}{}; name it by --text-field", out.where, text_field_,
       names.empty() ? "" : fmt::format(", it has {}", names));
}

bool DocumentReader::next(Document& out) {
  switch (division_) {
    case Division::kFile:
      return next_file(out);
    case Division::kBlankLines:
      return next_paragraphs(out);
    case Division::kJsonl:
      return next_object(out);
    case Division::kLines:
      break;
  }
  if (!next_line(out.text)) return false;
  out.where = at_line(line_);
  return true;
}

}  // namespace hadal::data
