// Documents of text files, one after another; memory is that of the largest one.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "hadal/data/text_file.h"

namespace hadal::data {

enum class Division {
  kFile,        // a file is a document
  kLines,       // a line is
  kBlankLines,  // what stands between blank lines is
  kJsonl,       // a line is an object with the text in a field
};
std::optional<Division> division_from_name(std::string_view name);  // "file", "lines", "blank-lines", "jsonl"

struct DocumentOptions {
  std::optional<Division> division;  // none: .jsonl and .ndjson (also .gz, .zst) are JSONL, others one document
  std::string text_field = "text";
};

struct Document {
  std::string text;
  std::string where;  // "books.jsonl.gz, line 12": opens an error's sentence
};

class DocumentReader {
 public:
  static constexpr std::size_t kLongest = std::size_t{256} << 20;  // bytes

  DocumentReader(const std::filesystem::path& path, const DocumentOptions& options);

  // False at the end. Throws Error, file and line named, for what cannot be read, UTF-16, lines that are no such object
  // and documents beyond kLongest.
  bool next(Document& out);
  std::uint64_t consumed() const { return file_.consumed(); }  // bytes of the file

 private:
  bool next_line(std::string& out);
  bool next_file(Document& out);
  bool next_paragraphs(Document& out);
  bool next_object(Document& out);
  bool fill();
  void grow(std::string& text, std::string_view more) const;
  std::string at_line(std::uint64_t line) const;

  TextFile file_;
  Division division_;
  std::string text_field_;
  std::string block_;  // read and not yet given out: from begin_ on
  std::size_t begin_ = 0;
  std::uint64_t line_ = 0;  // lines given out
  bool started_ = false, ended_ = false;
};

}  // namespace hadal::data
