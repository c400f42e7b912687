// Mutex, CondVar and Notification over the standard library, in the manner of abseil's. Debian's abseil is built
// without ThreadSanitizer's marks, so under it every lock of abseil's looks like none; the standard library's are seen.
// For the engine and the tools; the server keeps abseil's, since gRPC's own locks hide it from ThreadSanitizer in any
// case.
#pragma once

#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace expertd {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_->Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

// Waits may end without a signal: check the condition in a loop.
class CondVar {
 public:
  void Wait(Mutex* mutex) {
    std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }

  // True when `deadline` passed. Waits by the system's clock.
  bool WaitWithDeadline(Mutex* mutex, absl::Time deadline) {
    if (deadline == absl::InfiniteFuture()) {
      Wait(mutex);
      return false;
    }
    std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
    const bool timed_out = condition_.wait_until(lock, absl::ToChronoTime(deadline)) == std::cv_status::timeout;
    lock.release();
    return timed_out;
  }
  bool WaitWithTimeout(Mutex* mutex, absl::Duration timeout) {
    return WaitWithDeadline(mutex,
                            timeout == absl::InfiniteDuration() ? absl::InfiniteFuture() : absl::Now() + timeout);
  }

  void Signal() { condition_.notify_one(); }
  void SignalAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

// Happens once.
class Notification {
 public:
  void Notify() {
    MutexLock lock(&mutex_);
    has_happened_ = true;
    happened_.SignalAll();
  }
  bool HasBeenNotified() const {
    MutexLock lock(&mutex_);
    return has_happened_;
  }
  void WaitForNotification() const {
    MutexLock lock(&mutex_);
    while (!has_happened_) happened_.Wait(&mutex_);
  }
  // False when `timeout` passed first.
  bool WaitForNotificationWithTimeout(absl::Duration timeout) const {
    const absl::Time deadline = timeout == absl::InfiniteDuration() ? absl::InfiniteFuture() : absl::Now() + timeout;
    MutexLock lock(&mutex_);
    while (!has_happened_) {
      if (happened_.WaitWithDeadline(&mutex_, deadline)) break;
    }
    return has_happened_;
  }

 private:
  mutable Mutex mutex_;
  mutable CondVar happened_;
  bool has_happened_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace expertd
