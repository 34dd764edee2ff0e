#include "hadal/serve/api/fields.h"

#include <limits>

#include "hadal/io/utf8_text.h"
#include "hadal/serve/api/json.h"

namespace hadal::serve {

Fields::Fields(const Json& object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {
  if (!object.is_object()) throw ApiError(400, fmt::format("{} was given, an object was expected", shown(object)));
}

const Json* Fields::find(const char* name) {
  known_.insert(name);
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void Fields::ignore(std::initializer_list<const char*> names) {
  for (const char* name : names) known_.insert(name);
}

void Fields::refuse(const char* name, const std::string& what) const {
  throw ApiError::invalid(prefix_ + name, prefix_ + name + " is " + what);
}

void Fields::number(const char* name, double& to) {
  const Json* v = find(name);
  if (!v) return;
  if (!v->is_number()) refuse(name, shown(*v) + ", a number was expected");
  to = v->get<double>();
}

void Fields::integer(const char* name, std::int64_t& to, std::int64_t least, std::int64_t most) {
  const Json* v = find(name);
  if (!v) return;
  const bool small =
      v->is_number_unsigned() ? v->get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max() : true;
  // Some clients write 10.0.
  const bool whole =
      v->is_number_integer() ||
      (v->is_number_float() && v->get<double>() == static_cast<double>(static_cast<std::int64_t>(
                                                       std::max(-1e15, std::min(1e15, v->get<double>())))));
  if (!whole || !small || v->get<std::int64_t>() < least || v->get<std::int64_t>() > most)
    refuse(name, fmt::format("{}, an integer from {} to {} was expected", shown(*v), least, most));
  to = v->get<std::int64_t>();
}

void Fields::flag(const char* name, bool& to) {
  const Json* v = find(name);
  if (!v) return;
  if (!v->is_boolean()) refuse(name, shown(*v) + ", true or false was expected");
  to = v->get<bool>();
}

void Fields::text(const char* name, std::string& to) {
  const Json* v = find(name);
  if (!v) return;
  if (!v->is_string()) refuse(name, shown(*v) + ", a string was expected");
  to = v->get<std::string>();
}

void Fields::texts(const char* name, std::vector<std::string>& to) {
  const Json* v = find(name);
  if (!v) return;
  to.clear();
  const auto add = [&](const Json& s) {
    if (!s.is_string()) refuse(name, shown(*v) + ", a string or a list of strings was expected");
    to.push_back(s.get<std::string>());
  };
  if (!v->is_array()) return add(*v);
  for (const Json& s : *v) add(s);
}

void Fields::ids(const char* name, std::vector<config::TokenId>& to) {
  const Json* v = list(name);
  if (!v) return;
  to.clear();
  for (const Json& id : *v) {
    if (!id.is_number_integer() || id.get<double>() < 0 ||
        id.get<double>() > std::numeric_limits<config::TokenId>::max())
      refuse(name, fmt::format("a list with {}, token ids were expected", shown(id)));
    to.push_back(id.get<config::TokenId>());
  }
}

const Json* Fields::object(const char* name) {
  const Json* v = find(name);
  if (v && !v->is_object()) refuse(name, shown(*v) + ", an object was expected");
  return v;
}

const Json* Fields::list(const char* name) {
  const Json* v = find(name);
  if (v && !v->is_array()) refuse(name, shown(*v) + ", a list was expected");
  return v;
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> out;
  for (const auto& [name, value] : object_.items())
    if (!known_.contains(name)) out.push_back(prefix_ + name);
  return out;
}

Json parse_body(const std::string& body) {
  try {
    Json json = io::parse_json(body, "the request's body");
    io::check_integers(body, "the request's body");
    if (!json.is_object()) throw ApiError(400, "the request's body is not a JSON object");
    return json;
  } catch (const ApiError&) {
    throw;
  } catch (const Error& e) {
    throw ApiError(400, e.what());
  }
}

}  // namespace hadal::serve
