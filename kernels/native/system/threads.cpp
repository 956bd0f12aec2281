#include "threads.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace d2k {
namespace {

constexpr int kMostHelpers = 255;

struct Job {
  Task task;
  void* data;
  int64_t count;
  std::atomic<int64_t> next{0};
  int wanted;       // Helpers that may still join; under the pool's lock, as what follows.
  int working = 0;  // Helpers that have joined and not left.

  void work() {
    for (int64_t at = next++; at < count; at = next++) task(data, at);
  }
};

struct Pool {
  std::mutex lock;
  std::condition_variable work, left;
  std::deque<Job*> jobs;  // Those that want helpers.
  int helpers = 0, idle = 0;

  void help() {
    std::unique_lock<std::mutex> held(lock);
    for (;;) {
      ++idle;
      work.wait(held, [this] { return !jobs.empty(); });
      --idle;
      Job* job = jobs.front();
      if (--job->wanted == 0) jobs.pop_front();
      ++job->working;
      held.unlock();
      job->work();
      held.lock();
      if (--job->working == 0) left.notify_all();
    }
  }

  void run(Job& job) {
    const int wanted = job.wanted;  // From now on it is the helpers'.
    {
      std::lock_guard<std::mutex> held(lock);
      int missing = std::min(wanted - idle, kMostHelpers - helpers);
      try {
        for (; missing > 0; --missing) {
          std::thread([this] { help(); }).detach();
          ++helpers;
        }
      } catch (const std::system_error&) {
        // As many as the system allows; with none the caller does all.
      }
      jobs.push_back(&job);
    }
    for (int i = wanted; i > 0; --i) work.notify_one();
    job.work();
    std::unique_lock<std::mutex> held(lock);
    const auto waiting = std::find(jobs.begin(), jobs.end(), &job);
    if (waiting != jobs.end()) jobs.erase(waiting);
    left.wait(held, [&job] { return job.working == 0; });
  }
};

std::atomic<Pool*> current{nullptr};

// A forked child has none of its parent's helpers, and maybe a lock that nobody releases: it leaves
// that pool alone and makes one of its own. Helpers outlive main, so no pool is ever destroyed.
Pool& pool() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { current = nullptr; });
  (void)registered;
  Pool* found = current.load();
  if (!found) {
    Pool* made = new Pool;
    if (current.compare_exchange_strong(found, made)) return *made;
    delete made;
  }
  return *found;
}

}  // namespace

void run_tasks(int64_t count, int threads, Task task, void* data) {
  Job job;
  job.task = task;
  job.data = data;
  job.count = count;
  job.wanted = static_cast<int>(std::min<int64_t>({threads, count, kMostHelpers + 1})) - 1;
  if (job.wanted < 1) {
    job.work();
  } else {
    pool().run(job);
  }
}

}  // namespace d2k
