// ByteBudget: how many bytes of requests may be held at once, from their arrival until they are read.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace expertd {

// Thread-safe; outlives its shares.
class ByteBudget {
 public:
  // Bytes that are taken; given back when it goes. Movable.
  class Share {
   public:
    Share() = default;
    Share(Share&& other) noexcept { *this = std::move(other); }
    Share& operator=(Share&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(num_bytes_, other.num_bytes_);
      return *this;
    }
    ~Share() {
      if (budget_ != nullptr) budget_->num_taken_.fetch_sub(num_bytes_, std::memory_order_relaxed);
    }

   private:
    friend class ByteBudget;
    ByteBudget* budget_ = nullptr;
    int64_t num_bytes_ = 0;
  };

  explicit ByteBudget(int64_t max_bytes) : max_bytes_(max_bytes) {}

  // Takes `num_bytes` for `share`, which is empty; false, and nothing taken, when so many are not left.
  bool Take(int64_t num_bytes, Share& share) {
    if (num_taken_.fetch_add(num_bytes, std::memory_order_relaxed) + num_bytes > max_bytes_) {
      num_taken_.fetch_sub(num_bytes, std::memory_order_relaxed);
      return false;
    }
    share.budget_ = this;
    share.num_bytes_ = num_bytes;
    return true;
  }

 private:
  const int64_t max_bytes_;
  std::atomic<int64_t> num_taken_{0};
};

}  // namespace expertd
