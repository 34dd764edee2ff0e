// The subcommands. Each function adds one to the program; if it is the one chosen on the command line, it sets `action`
// to what runs it. An action returns 0 (ok) or 1 (a negative finding) and throws Error for everything that main reports
// with exit code 2.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace hadal::cli {

using Action = std::function<int()>;

void add_chat(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_logits(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_gradients(CLI::App& app, Action& action);
void add_perplexity(CLI::App& app, Action& action);
void add_tokenizer(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_init(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_serve(CLI::App& app, Action& action);
void add_keys(CLI::App& app, Action& action);
void add_data(CLI::App& app, Action& action);

}  // namespace hadal::cli
