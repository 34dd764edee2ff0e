// hadal serve
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>

#include "hadal/chat/markup.h"
#include "hadal/checkpoint/model_directory.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/config_file.h"
#include "hadal/cli/expert_stats.h"
#include "hadal/cli/interrupt.h"
#include "hadal/cli/standard_error.h"
#include "hadal/cli/text_model.h"
#include "hadal/core/error.h"
#include "hadal/serve/http/server.h"
#include "hadal/serve/service.h"

namespace hadal::cli {
namespace {

struct ServeCommand {
  std::string model;
  ComputeOptions compute;
  serve::ServerOptions server;
  serve::HostRules hosts;
  serve::ApiOptions api;
  serve::EngineLoopOptions loop;
  std::vector<std::string> names;
  std::string access_log = "-", config, keys, most_body;
  std::int64_t header_seconds = 20, body_seconds = 120, idle_seconds = 75, write_seconds = 60, drain_seconds = 60;
  Index batch = 16;
  bool insecure = false, no_idle_prefill = false;
};

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::vector<std::string> served_names(const ServeCommand& o) {
  if (!o.names.empty()) return o.names;
  const std::filesystem::path path = std::filesystem::absolute(o.model).lexically_normal();
  return {(path.has_filename() ? path : path.parent_path()).filename().string()};
}

serve::ServedModel served_model(const ServeCommand& o, const TextModel& model) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  std::unique_ptr<chat::AnswerFormat> format;
  const tokenizer::ChatTemplate* chat_template = model.has_chat_template() ? &model.chat_template() : nullptr;
  if (model.has_tokenizer())
    format = std::make_unique<chat::AnswerFormat>(model.tokenizer().added_tokens(),
                                                  chat::markup_of(chat_template, model.tokenizer()));
  return {.names = served_names(o),
          .fingerprint = model.fingerprint(),
          .config = model.config(),
          .tokenizer = model.has_tokenizer() ? &model.tokenizer() : nullptr,
          .chat_template = chat_template,
          .format = std::move(format),
          .defaults = model.defaults(),
          .end_tokens = model.end_tokens(),
          .engine = model.engine().options(),
          .created = std::chrono::duration_cast<std::chrono::seconds>(now).count()};
}

// Lines of JSON, a whole one at a time.
class AccessLog {
 public:
  explicit AccessLog(const std::string& path) {
    if (path == "off") return;
    file_ = path == "-" ? stderr : std::fopen(path.c_str(), "ae");
    HADAL_CHECK(file_, "--access-log: {} cannot be opened for appending", path);
  }
  ~AccessLog() {
    if (file_ && file_ != stderr) std::fclose(file_);
  }
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  serve::LogLine writer() {
    if (!file_) return {};
    return [this](const std::string& line) {
      const std::string whole = line + "\n";
      std::fwrite(whole.data(), 1, whole.size(), file_);
      std::fflush(file_);
    };
  }

 private:
  std::FILE* file_ = nullptr;
};

// Keys are needed as soon as there is one, and for whoever is not on this machine.
bool needs_keys(const ServeCommand& o, const serve::KeyStore& keys) {
  if (o.insecure) return false;
  const bool any = keys.any();
  if (!is_loopback(o.server.host) && !any)
    fail("--host {}: whoever can reach it could use it; make a key (hadal keys add NAME), or say --insecure",
         o.server.host);
  HADAL_CHECK(any || o.keys.empty(), "--keys: {} has no key; make one (hadal keys add NAME --keys {})", o.keys, o.keys);
  return any;
}

void set_limits(ServeCommand& o) {
  using std::chrono::seconds;
  if (!o.most_body.empty()) o.server.most_body = checkpoint::parse_size(o.most_body, "--max-body");
  o.server.header_time = seconds(o.header_seconds);
  o.server.body_time = seconds(o.body_seconds);
  o.server.idle_time = seconds(o.idle_seconds);
  o.server.write_time = seconds(o.write_seconds);
  o.server.drain_time = seconds(o.drain_seconds);
}

// A connection is a file, and the usual limit is 1,024 of them.
void allow_many_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int run(ServeCommand o) {
  set_limits(o);
  o.hosts.loopback = is_loopback(o.server.host);
  const serve::KeyStore keys(o.keys.empty() ? serve::default_key_file() : std::filesystem::path(o.keys), false);
  const bool with_keys = needs_keys(o, keys);
  allow_many_files();
  AccessLog access_log(o.access_log);
  TextModel model(o.model, o.compute, o.batch);
  const StatsAtEnd stats(o.compute.stats, model.store());
  const serve::ServedModel served = served_model(o, model);
  serve::Metrics metrics(served.name());
  serve::EngineLoop loop(model.engine(), metrics, o.loop);
  Poll stopping([&loop] {
    if (loop.stopping()) throw Interrupted("stopped");
  });
  const Observers::Watch watch(model.observers(), stopping);
  std::optional<serve::IdleWork> idle;
  if (!o.no_idle_prefill) idle.emplace(loop);
  serve::Service service(served, loop, metrics, with_keys ? &keys : nullptr, idle ? &*idle : nullptr, o.api, o.hosts,
                         access_log.writer());
  serve::Server server(o.server, service);
  if (interrupted()) throw Interrupted("interrupted");
  to_stderr(fmt::format("listening on {}\n", server.url()));
  const serve::Server::End end = server.run();
  install_signal_handlers();  // the server's are gone, and a late signal is no reason to die
  loop.stop();
  return end == serve::Server::End::kDrained ? 0 : kInterrupted;
}

void add_limits(CLI::App& command, ServeCommand& o) {
  const auto seconds = [&](const char* name, std::int64_t& to, const char* what) {
    command.add_option(name, to, fmt::format("{} (default {})", what, to))->check(CLI::Range(1, 1000000));
  };
  command.add_option("--max-connections", o.server.most_connections, "Connections at a time (default 4096)")
      ->check(CLI::Range(1, 1000000));
  command.add_option("--max-queue", o.loop.most_unfinished, "Answers that run or wait at a time (default 4096)")
      ->check(CLI::Range(1, 1000000));
  command.add_option("--max-body", o.most_body, "Size of a request, e.g. 8MB (default 32 MiB)");
  command.add_option("--max-prompts", o.api.most_prompts, "Prompts in one request (default 256)")
      ->check(CLI::Range(1, 100000));
  command.add_option("--max-choices", o.api.most_choices, "n of a request (default 128)")->check(CLI::Range(1, 4096));
  command.add_option("--http-threads", o.server.threads, "Threads for HTTP, JSON and text (default 2)")
      ->check(CLI::Range(1, 64));
  seconds("--request-seconds", o.api.request_seconds, "Time for an answer");
  seconds("--header-seconds", o.header_seconds, "Time in which a request's header must come");
  seconds("--body-seconds", o.body_seconds, "Time in which its body must come");
  seconds("--idle-seconds", o.idle_seconds, "Time between two requests of a connection");
  seconds("--write-seconds", o.write_seconds, "Time in which a client must take what it is sent");
  seconds("--drain-seconds", o.drain_seconds, "Time for running answers after SIGTERM");
}

}  // namespace

void add_serve(CLI::App& app, Action& action) {
  static ServeCommand o;
  CLI::App* command = app.add_subcommand("serve", "Serve a model over HTTP as OpenAI's API does");
  command->add_option("MODEL", o.model, "Model directory")->required();
  command->add_option("--host", o.server.host, "Address to listen on (default 127.0.0.1)");
  command
      ->add_option("--port", o.server.port, "Port (default 8000); 0: any that is free, the line on stderr says which")
      ->check(CLI::Range(0, 65535));
  command->add_flag("--insecure", o.insecure, "Serve beyond this machine without keys");
  command->add_option("--served-model-name", o.names, "Name in answers (default: the directory's); several are known");
  command->add_option("--batch", o.batch, "Answers computed together (default 16); changes no bit of a result")
      ->check(CLI::Range(1, 4096));
  command->add_flag("--no-idle-prefill", o.no_idle_prefill,
                    "Do not use idle time to compute ended answers as the next turn's prompt will have them");
  command->add_flag("--reuse-generated", o.api.reuse_generated,
                    "The next turn goes on from the answer as it was generated, instead of computing it again as a "
                    "prompt: less work, but the same request may have another answer then");
  command->add_option("--tls-cert", o.server.tls_cert, "PEM file with the certificate chain, for https");
  command->add_option("--tls-key", o.server.tls_key, "PEM file with its key");
  command->add_option("--allow-host", o.hosts.hosts, "A name under which clients reach this server (Host)");
  command->add_option("--cors-origin", o.hosts.origins, "A web page's origin that may ask, e.g. https://chat.example");
  command->add_option("--access-log", o.access_log, "File for a JSON line per request (default: stderr; off: none)");
  command->add_option("--config", o.config, "TOML file with these options, by their names without dashes");
  command->add_option("--keys", o.keys, "File with the API keys (default: where `hadal keys` puts them)");
  command->add_flag("--testing", o.api.testing,
                    "Requests may have force_tokens: ids or text that the model has to say");
  add_limits(*command, o);
  o.compute.add_to(*command);
  o.compute.add_sequence_to(*command);
  o.compute.add_memory_to(*command);
  o.compute.add_disk_to(*command);
  o.compute.add_speculate_to(*command);
  command->footer(
      "Example:\n  hadal serve models/mini\n  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: "
      "application/json' -d '{\"messages\": [{\"role\": \"user\", \"content\": \"What is 7 times 8?\"}]}'");
  command->callback([command, &action] {
    if (!o.config.empty()) apply_config(o.config, *command);
    action = [] { return run(o); };
  });
}

}  // namespace hadal::cli
