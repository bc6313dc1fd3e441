// One piece of work that runs beside the caller. A failure is thrown where the caller waits for it.
//
//   BackgroundTask task;
//   task.start([files = std::move(files)] { write(files); });   // waits for the one before
//   task.wait();                                                // throws what the work threw
#pragma once
#include <atomic>
#include <exception>
#include <functional>
#include <thread>
#include <utility>

namespace serval {

class BackgroundTask {
 public:
  BackgroundTask() = default;
  // The end of its life waits too; what the work threw is lost then.
  ~BackgroundTask() = default;
  BackgroundTask(const BackgroundTask&) = delete;
  BackgroundTask& operator=(const BackgroundTask&) = delete;

  void start(std::function<void()> work) {
    wait();
    thread_ = std::jthread([this, work = std::move(work)] {
      try {
        work();
      } catch (...) {
        failure_ = std::current_exception();
        failed_.store(true, std::memory_order_release);
      }
    });
  }

  void wait() {
    if (thread_.joinable()) thread_.join();
    failed_ = false;
    if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

  // Whether the work has failed already; wait() says how.
  bool failed() const { return failed_.load(std::memory_order_acquire); }

 private:
  std::exception_ptr failure_;
  std::atomic<bool> failed_{false};
  std::jthread thread_;  // last: it ends before what it uses
};

}  // namespace serval
