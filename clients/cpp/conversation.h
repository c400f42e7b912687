// What a chat has said so far, and what of it is forgotten when it no longer fits the model.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include "expertd/v1/inference.pb.h"

namespace expertd {

// A system message (empty: none), which stays, and exchanges of a user's message and an answer. Not thread-safe.
class Conversation {
 public:
  explicit Conversation(std::string system = "") : system_(std::move(system)) {}

  // The input of a request: the system message, the exchanges, and `message` of the user.
  v1::ChatInput With(const std::string& message) const;

  // Adds an exchange. `num_tokens` is the length of the conversation with it, prompt and answer, as the server counted.
  void Add(std::string message, std::string answer, int64_t num_tokens);

  // Forgets the oldest exchange. Returns false when there is none.
  bool ForgetOldest();

  // Forgets the oldest exchanges until at most `max_tokens` are left; returns how many it forgot. The tokens of an
  // exchange are what it added to the conversation's length, the first one's with the system message: an estimate.
  int Shorten(int64_t max_tokens);

  // Forgets all exchanges.
  void Clear();

  int num_exchanges() const { return static_cast<int>(exchanges_.size()); }

 private:
  struct Exchange {
    std::string message;
    std::string answer;
    int64_t num_tokens;
  };

  std::string system_;
  std::deque<Exchange> exchanges_;
  int64_t num_tokens_ = 0;  // of all exchanges
};

}  // namespace expertd
