// Wakes connections from the engine's thread. A step has something for many of them: one task of the server's threads
// wakes them all, instead of a task, a lock and perhaps a system call for each.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "hadal/serve/http/socket.h"

namespace hadal::serve {

class Connection;

class Wakeups : public std::enable_shared_from_this<Wakeups> {
 public:
  explicit Wakeups(asio::any_io_executor executor) : executor_(std::move(executor)) {}
  // From any thread.
  void add(std::weak_ptr<Connection> connection);

 private:
  void wake_all();

  asio::any_io_executor executor_;
  std::mutex mutex_;
  std::vector<std::weak_ptr<Connection>> waiting_;  // a task will take them
};

}  // namespace hadal::serve
