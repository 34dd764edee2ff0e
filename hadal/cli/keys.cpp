// hadal keys
#include "hadal/serve/keys.h"

#include <CLI/CLI.hpp>
#include <ctime>
#include <nlohmann/json.hpp>

#include "hadal/cli/commands.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"

namespace hadal::cli {
namespace {

struct KeysCommand {
  std::string file, name;
  serve::Quota quota;
  bool json = false;

  serve::KeyStore open(bool create) const {
    return serve::KeyStore(file.empty() ? serve::default_key_file() : std::filesystem::path(file), create);
  }
};

int add(const KeysCommand& o) {
  print(o.open(true).add(o.name, o.quota) + "\n");
  return 0;
}

int revoke(const KeysCommand& o) {
  HADAL_CHECK(o.open(false).revoke(o.name), "keys: there is no key {} that could be revoked", o.name);
  return 0;
}

std::string limit(std::int64_t value) {
  return value == 0 ? "-" : std::to_string(value);
}

int list(const KeysCommand& o) {
  const std::vector<serve::Key> keys = o.open(false).list();
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  if (!o.json)
    print(fmt::format("{:<24} {:<20} {:<8} {:>12} {:>12} {:>10}\n", "name", "created", "state", "requests/min",
                      "tokens/min", "concurrent"));
  for (const serve::Key& key : keys) {
    const std::time_t time = key.created;
    std::tm utc{};
    gmtime_r(&time, &utc);
    char created[32];
    std::strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    const char* state = key.revoked ? "revoked" : "live";
    if (o.json)
      out.push_back({{"name", key.name},
                     {"created", created},
                     {"state", state},
                     {"requests_per_minute", key.quota.requests_per_minute},
                     {"tokens_per_minute", key.quota.tokens_per_minute},
                     {"concurrent", key.quota.concurrent}});
    else
      print(fmt::format("{:<24} {:<20} {:<8} {:>12} {:>12} {:>10}\n", key.name, created, state,
                        limit(key.quota.requests_per_minute), limit(key.quota.tokens_per_minute),
                        limit(key.quota.concurrent)));
  }
  if (o.json) print(out.dump(2) + "\n");
  return 0;
}

}  // namespace

void add_keys(CLI::App& app, Action& action) {
  static KeysCommand o;
  CLI::App* command = app.add_subcommand("keys", "API keys of `hadal serve`: add, list, revoke");
  command->require_subcommand(1);
  const auto sub = [&](const char* name, const char* what) {
    CLI::App* c = command->add_subcommand(name, what);
    c->add_option("--keys", o.file,
                  "The file they are in (default: $XDG_DATA_HOME/hadal/keys.db or ~/.local/share/...)");
    return c;
  };
  CLI::App* adding = sub("add", "Make a key and print it, once: only its hash is kept");
  adding->add_option("NAME", o.name, "Whose it is")->required();
  adding->add_option("--requests-per-minute", o.quota.requests_per_minute, "0: no limit (default)")
      ->check(CLI::NonNegativeNumber);
  adding->add_option("--tokens-per-minute", o.quota.tokens_per_minute, "Of prompts and answers; 0: no limit (default)")
      ->check(CLI::NonNegativeNumber);
  adding->add_option("--concurrent", o.quota.concurrent, "Requests at a time; 0: no limit (default)")
      ->check(CLI::NonNegativeNumber);
  adding->callback([&action] { action = [] { return add(o); }; });
  CLI::App* listing = sub("list", "Names and limits");
  listing->add_flag("--json", o.json, "As JSON");
  listing->callback([&action] { action = [] { return list(o); }; });
  CLI::App* revoking = sub("revoke", "End a key; a server that runs knows at once");
  revoking->add_option("NAME", o.name, "Whose it is")->required();
  revoking->callback([&action] { action = [] { return revoke(o); }; });
  command->footer("Example:\n  hadal keys add alice --requests-per-minute 60\n  hadal keys list");
}

}  // namespace hadal::cli
