#include "server/threads.h"

#include <malloc.h>
#include <pthread.h>

#include <utility>

#include "engine/base/log.h"

namespace expertd {

std::thread StartThread(const std::string& name, absl::AnyInvocable<void()> body) {
  std::thread thread(std::move(body));
  pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
  return thread;
}

void BoundFreeMemory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 2 << 20);
}

WorkerPool::WorkerPool(const std::string& name, int num_threads) : max_large_running_(num_threads - 1) {
  EXPERTD_CHECK(num_threads >= 2, num_threads);
  for (int i = 0; i < num_threads; ++i) {
    threads_.push_back(StartThread(StrCat(name, "-", i), [this] { Run(); }));
  }
}

void WorkerPool::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void WorkerPool::Post(JobSize size, absl::AnyInvocable<void()> job) {
  absl::MutexLock lock(&mutex_);
  (size == JobSize::kSmall ? small_ : large_).push_back(std::move(job));
}

bool WorkerPool::HasWork() const {
  if (!small_.empty() || (!large_.empty() && num_large_running_ < max_large_running_)) return true;
  return stopping_ && large_.empty();
}

void WorkerPool::Run() {
  while (true) {
    Job job;
    bool is_large = false;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &WorkerPool::HasWork));
      if (small_.empty() && large_.empty()) return;
      is_large = small_.empty();
      std::deque<Job>& jobs = is_large ? large_ : small_;
      job = std::move(jobs.front());
      jobs.pop_front();
      if (is_large) ++num_large_running_;
    }
    job();
    job = nullptr;  // what it captured goes before the next wait
    if (!is_large) continue;
    bool is_last;
    {
      absl::MutexLock lock(&mutex_);
      is_last = --num_large_running_ == 0 && large_.empty();
    }
    // The allocator would keep what a burst of large jobs has freed, for good, in the arenas of its threads.
    if (is_last) malloc_trim(0);
  }
}

Dispatcher::Dispatcher() {
  thread_ = StartThread("rpc-dispatch", [this] { Run(); });
}

void Dispatcher::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

void Dispatcher::Post(std::shared_ptr<Task> task) {
  absl::MutexLock lock(&mutex_);
  ready_.push_back(std::move(task));
  if (std::exchange(waiting_, false)) wake_.Signal();
}

void Dispatcher::PostAt(absl::Time time, std::weak_ptr<Task> task) {
  absl::MutexLock lock(&mutex_);
  const bool is_first = timers_.empty() || time < timers_.top().time;
  timers_.push({time, std::move(task)});
  if (is_first && std::exchange(waiting_, false)) wake_.Signal();
}

void Dispatcher::Run() {
  std::vector<std::shared_ptr<Task>> ready;
  std::vector<std::weak_ptr<Task>> due;
  while (true) {
    absl::Time now;
    {
      absl::MutexLock lock(&mutex_);
      while (true) {
        if (stopping_) return;
        now = timers_.empty() ? absl::InfinitePast() : absl::Now();
        while (!timers_.empty() && timers_.top().time <= now) {
          due.push_back(timers_.top().task);
          timers_.pop();
        }
        if (!ready_.empty() || !due.empty()) break;
        waiting_ = true;
        wake_.WaitWithDeadline(&mutex_, timers_.empty() ? absl::InfiniteFuture() : timers_.top().time);
      }
      waiting_ = false;
      ready.swap(ready_);
    }
    for (const std::shared_ptr<Task>& task : ready) task->OnReady();
    for (const std::weak_ptr<Task>& timer : due) {
      if (const std::shared_ptr<Task> task = timer.lock()) task->OnTimer(now);
    }
    ready.clear();
    due.clear();
  }
}

}  // namespace expertd
