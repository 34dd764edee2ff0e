// hadal serve
#include <CLI/CLI.hpp>
#include <chrono>

#include "hadal/cli/commands.h"
#include "hadal/cli/expert_stats.h"
#include "hadal/cli/interrupt.h"
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
  std::string access_log = "-";
  Index batch = 16;
  bool insecure = false;
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
  return {.names = served_names(o),
          .fingerprint = model.fingerprint(),
          .config = model.config(),
          .tokenizer = model.has_tokenizer() ? &model.tokenizer() : nullptr,
          .chat_template = model.has_chat_template() ? &model.chat_template() : nullptr,
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

int run(ServeCommand o) {
  if (!is_loopback(o.server.host) && !o.insecure)
    fail("--host {}: who can reach it could use it; give out keys (hadal keys add NAME) or say --insecure",
         o.server.host);
  o.hosts.loopback = is_loopback(o.server.host);
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
  serve::Service service(served, loop, metrics, o.api, o.hosts, access_log.writer());
  serve::Server server(o.server, service);
  if (interrupted()) throw Interrupted("interrupted");
  fmt::print(stderr, "listening on {}\n", server.url());
  const serve::Server::End end = server.run();
  install_signal_handlers();  // the server's are gone, and a late signal is no reason to die
  loop.stop();
  return end == serve::Server::End::kDrained ? 0 : kInterrupted;
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
  command->add_option("--tls-cert", o.server.tls_cert, "PEM file with the certificate chain, for https");
  command->add_option("--tls-key", o.server.tls_key, "PEM file with its key");
  command->add_option("--allow-host", o.hosts.hosts, "A name under which clients reach this server (Host)");
  command->add_option("--cors-origin", o.hosts.origins, "A web page's origin that may ask, e.g. https://chat.example");
  command->add_option("--access-log", o.access_log, "File for a JSON line per request (default: stderr; off: none)");
  command->add_flag("--testing", o.api.testing,
                    "Requests may have force_tokens: ids or text that the model has to say");
  o.compute.add_to(*command);
  o.compute.add_sequence_to(*command);
  o.compute.add_memory_to(*command);
  o.compute.add_speculate_to(*command);
  command->footer(
      "Example:\n  hadal serve models/mini\n  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: "
      "application/json' -d '{\"messages\": [{\"role\": \"user\", \"content\": \"What is 7 times 8?\"}]}'");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
