#include "hadal/tokenizer/jinja/builtins.h"

#include <algorithm>

#include "hadal/core/error.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer::jinja {
namespace {

// Python's rules for slices: negative positions count from the end, out of range is cut off.
struct Range {
  std::int64_t begin, end, step;
};

Range slice_range(std::int64_t size, const Value& begin, const Value& end, const Value& step) {
  const auto given = [](const Value& v) { return !v.is_none() && !v.is_undefined(); };
  const std::int64_t stride = given(step) ? step.as_integer() : 1;
  HADAL_CHECK(stride != 0, "slice step cannot be zero");
  const auto clamp = [&](const Value& v, std::int64_t otherwise) {
    if (!given(v)) return otherwise;
    std::int64_t i = v.as_integer();
    if (i < 0) i += size;
    return stride > 0 ? std::clamp<std::int64_t>(i, 0, size) : std::clamp<std::int64_t>(i, -1, size - 1);
  };
  return stride > 0 ? Range{clamp(begin, 0), clamp(end, size), stride}
                    : Range{clamp(begin, size - 1), clamp(end, -1), stride};
}

}  // namespace

std::vector<std::size_t> character_starts(std::string_view text) {
  std::vector<std::size_t> starts;
  for (std::size_t i = 0; i < text.size(); i += std::max<std::size_t>(1, decode_utf8(text.substr(i, 4)).length))
    starts.push_back(i);
  starts.push_back(text.size());
  return starts;
}

List iterate(const Value& value) {
  if (const List* l = value.list()) return *l;
  List out;
  if (const Dict* d = value.dict()) {
    for (const auto& [k, v] : *d) out.push_back(k);
  } else if (const Text* t = value.text()) {
    const auto starts = character_starts(t->text);
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) out.push_back(slice_text(*t, starts[i], starts[i + 1]));
  } else {
    HADAL_CHECK(value.is_undefined(), "a value of type {} cannot be iterated over", value.type_name());
  }
  return out;
}

Value get_item(const Value& object, const Value& key) {
  if (const Dict* d = object.dict()) {
    for (const auto& [k, v] : *d)
      if (equal(k, key)) return v;
    return Undefined{key.text() ? key.text()->text : repr(key)};
  }
  if (!key.integer() && !key.boolean()) return Undefined{key.text() ? key.text()->text : repr(key)};
  std::int64_t i = key.as_integer();
  if (const List* l = object.list()) {
    if (i < 0) i += static_cast<std::int64_t>(l->size());
    if (i >= 0 && i < static_cast<std::int64_t>(l->size())) return (*l)[static_cast<std::size_t>(i)];
  } else if (const Text* t = object.text()) {
    const auto starts = character_starts(t->text);
    const auto size = static_cast<std::int64_t>(starts.size()) - 1;
    if (i < 0) i += size;
    if (i >= 0 && i < size)
      return slice_text(*t, starts[static_cast<std::size_t>(i)], starts[static_cast<std::size_t>(i) + 1]);
  }
  return Undefined{repr(key)};
}

Value slice(const Value& object, const Value& begin, const Value& end, const Value& step) {
  if (const List* l = object.list()) {
    const Range r = slice_range(static_cast<std::int64_t>(l->size()), begin, end, step);
    List out;
    for (std::int64_t i = r.begin; r.step > 0 ? i < r.end : i > r.end; i += r.step)
      out.push_back((*l)[static_cast<std::size_t>(i)]);
    return out;
  }
  const Text* t = object.text();
  HADAL_CHECK(t, "a value of type {} cannot be sliced", object.type_name());
  const auto starts = character_starts(t->text);
  const Range r = slice_range(static_cast<std::int64_t>(starts.size()) - 1, begin, end, step);
  if (r.step == 1)
    return r.begin < r.end
               ? slice_text(*t, starts[static_cast<std::size_t>(r.begin)], starts[static_cast<std::size_t>(r.end)])
               : Text();
  Text out;
  for (std::int64_t i = r.begin; r.step > 0 ? i < r.end : i > r.end; i += r.step)
    append_text(out, slice_text(*t, starts[static_cast<std::size_t>(i)], starts[static_cast<std::size_t>(i) + 1]));
  return out;
}

bool contains(const Value& container, const Value& item) {
  if (const Text* t = container.text()) {
    HADAL_CHECK(item.text(), "'in' with a string on the right needs a string on the left, {} came", item.type_name());
    return t->text.find(item.text()->text) != std::string::npos;
  }
  for (const Value& v : iterate(container))
    if (equal(v, item)) return true;
  return false;
}

const Value* ArgumentReader::find(std::size_t i, std::string_view name) const {
  if (i < arguments_.positional.size()) return &arguments_.positional[i];
  for (const auto& [key, value] : arguments_.named)
    if (key == name) return &value;
  return nullptr;
}

const Value& ArgumentReader::need(std::size_t i, std::string_view name) const {
  const Value* v = find(i, name);
  HADAL_CHECK(v, "{} needs an argument '{}'", function_, name);
  return *v;
}

const Text& ArgumentReader::text(std::size_t i, std::string_view name) const {
  const Value& v = need(i, name);
  HADAL_CHECK(v.text(), "{}: argument '{}' is a {}, a string was expected", function_, name, v.type_name());
  return *v.text();
}

std::int64_t ArgumentReader::integer_or(std::size_t i, std::string_view name, std::int64_t otherwise) const {
  const Value* v = find(i, name);
  return v && !v->is_none() ? v->as_integer() : otherwise;
}

bool ArgumentReader::boolean_or(std::size_t i, std::string_view name, bool otherwise) const {
  const Value* v = find(i, name);
  return v ? v->truthy() : otherwise;
}

}  // namespace hadal::tokenizer::jinja
