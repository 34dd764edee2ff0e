#include "hadal/serve/engine_loop.h"

#include <utility>

#include "hadal/core/log.h"

namespace hadal::serve {

using infer::FinishReason;

EngineLoop::EngineLoop(infer::Engine& engine, Metrics& metrics, EngineLoopOptions options)
    : engine_(engine), metrics_(metrics), options_(options), thread_([this] { run(); }) {}

EngineLoop::~EngineLoop() {
  stop();
}

std::shared_ptr<Channel> EngineLoop::submit(infer::Request request, Wake wake) {
  auto channel = std::make_shared<Channel>(options_.most_unread, std::move(wake));
  if (static_cast<std::size_t>(unfinished_.fetch_add(1)) >= options_.most_unfinished) {
    one_less();
    channel->fail({Failure::Kind::kOverloaded,
                   fmt::format("{} requests run or wait already; try again later", options_.most_unfinished)});
    return channel;
  }
  if (add({.channel = channel, .request = std::move(request)})) return channel;
  one_less();
  channel->fail({Failure::Kind::kStopped, "the server stops"});
  return channel;
}

std::shared_ptr<Channel> EngineLoop::prefill(Prefill prefill, Wake wake) {
  auto channel = std::make_shared<Channel>(options_.most_unread, std::move(wake));
  channel->idle = true;
  if (!add({.channel = channel, .prefill = std::move(prefill)}))
    channel->fail({Failure::Kind::kStopped, "the server stops"});
  return channel;
}

void EngineLoop::end(const std::shared_ptr<Channel>& channel, FinishReason reason) {
  add({.channel = channel, .reason = reason});
}

// False: nothing is taken any more.
bool EngineLoop::add(Command command) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return false;
  commands_.push_back(std::move(command));
  arrived_.notify_one();
  return true;
}

bool EngineLoop::wait_until_idle(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  return idle_.wait(lock, stop, [this] { return stopping_ || unfinished_ == 0; }) && !stopping_;
}

void EngineLoop::one_less() {
  if (--unfinished_ > 0) return;
  const std::lock_guard lock(mutex_);
  idle_.notify_all();
}

void EngineLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    arrived_.notify_one();
    idle_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

// Waits for one if there is nothing to compute.
std::vector<EngineLoop::Command> EngineLoop::next_commands() {
  std::unique_lock lock(mutex_);
  if (engine_.unfinished() == 0) arrived_.wait(lock, [this] { return stopping_ || !commands_.empty(); });
  return std::exchange(commands_, {});
}

void EngineLoop::run() {
  while (!stopping_) {
    for (Command& command : next_commands()) obey(command);
    if (!stopping_ && engine_.unfinished() > 0) step();
    metrics_.load(engine_, engine_.unfinished() - prefills_);
  }
  fail_all({Failure::Kind::kStopped, "the server stops"});
  std::unique_lock lock(mutex_);
  const std::vector<Command> commands = std::exchange(commands_, {});
  lock.unlock();  // whoever is woken may call back
  for (const Command& command : commands) command.channel->fail({Failure::Kind::kStopped, "the server stops"});
}

void EngineLoop::obey(Command& command) {
  if (command.request || command.prefill) return begin(command);
  const auto it = id_of_.find(command.channel.get());
  if (it == id_of_.end()) return;
  engine_.end(it->second, command.reason);
  take_ended();
}

void EngineLoop::begin(Command& command) {
  const bool idle = command.prefill.has_value();
  if (idle && engine_.unfinished() > prefills_) {
    infer::Completion nothing;
    nothing.finish_reason = FinishReason::kCancelled;
    return command.channel->finish(std::move(nothing));
  }
  std::optional<Failure> failure;
  try {
    const infer::RequestId id = idle ? engine_.prefill(std::move(command.prefill->prompt),
                                                       std::move(command.prefill->cache_salt), command.prefill->reuse)
                                     : engine_.submit(std::move(*command.request));
    prefills_ += idle ? 1 : 0;
    open_.emplace(id, command.channel);
    id_of_.emplace(command.channel.get(), id);
    if (!idle && prefills_ > 0) take_ended();  // they have given way
    return;
  } catch (const InvalidRequest& e) {
    failure = {Failure::Kind::kInvalid, e.what()};
  } catch (const std::exception& e) {
    failure = {Failure::Kind::kServer, e.what()};
  }
  if (!idle) one_less();
  command.channel->fail(std::move(*failure));
}

void EngineLoop::step() {
  const auto begin = Channel::Clock::now();
  const bool idle = engine_.unfinished() == prefills_;
  try {
    deliver(engine_.step());
    take_ended();
    if (!idle) metrics_.step(Channel::Clock::now() - begin);
  } catch (const Interrupted&) {
    stopping_ = true;
  } catch (const std::exception& e) {
    // A disk that cannot be read, a result that is no number: whoever takes part must not take it for an answer.
    log_message(LogLevel::kError, e.what());
    fail_all({Failure::Kind::kServer, e.what()});
  }
}

void EngineLoop::deliver(std::vector<infer::TokenEvent> events) {
  const auto now = Channel::Clock::now();
  for (infer::TokenEvent& event : events) {
    const auto it = open_.find(event.id);
    if (it == open_.end()) continue;
    Channel& channel = *it->second;
    const bool first = channel.tokens++ == 0;
    metrics_.token(first, now - (first ? channel.submitted : channel.last_token));
    channel.last_token = now;
    if (channel.push(std::move(event.sample))) continue;
    channel.fail({Failure::Kind::kTooSlow, "the answer was not read as fast as it came"});
    engine_.cancel(event.id);
  }
}

// Answers that have ended, whether at a token of theirs or at their deadline.
void EngineLoop::take_ended() {
  for (auto it = open_.begin(); it != open_.end();) {
    const auto here = it++;
    if (!engine_.ended(here->first)) continue;
    infer::Completion completion = engine_.take(here->first);
    if (here->second->idle)
      metrics_.prefilled(completion);
    else
      metrics_.ended(completion, Channel::Clock::now() - here->second->submitted);
    here->second->finish(std::move(completion));
    close(here);
  }
}

void EngineLoop::fail_all(const Failure& failure) {
  while (!open_.empty()) {
    const auto it = open_.begin();
    engine_.cancel(it->first);
    if (engine_.ended(it->first)) engine_.take(it->first);
    it->second->fail(failure);
    close(it);
  }
}

void EngineLoop::close(Open::iterator it) {
  const bool idle = it->second->idle;
  id_of_.erase(it->second.get());
  open_.erase(it);
  if (idle)
    --prefills_;
  else
    one_less();
}

}  // namespace hadal::serve
