#include "clients/cpp/conversation.h"

#include <algorithm>
#include <utility>

namespace expertd {
namespace {

void AddMessage(v1::Role role, const std::string& text, v1::ChatInput& input) {
  v1::Message& message = *input.add_messages();
  message.set_role(role);
  message.add_parts()->set_text(text);
}

}  // namespace

v1::ChatInput Conversation::With(const std::string& message) const {
  v1::ChatInput input;
  if (!system_.empty()) AddMessage(v1::ROLE_SYSTEM, system_, input);
  for (const Exchange& exchange : exchanges_) {
    AddMessage(v1::ROLE_USER, exchange.message, input);
    AddMessage(v1::ROLE_ASSISTANT, exchange.answer, input);
  }
  AddMessage(v1::ROLE_USER, message, input);
  return input;
}

void Conversation::Add(std::string message, std::string answer, int64_t num_tokens) {
  const int64_t num_added = std::max<int64_t>(num_tokens - num_tokens_, 0);
  exchanges_.push_back({std::move(message), std::move(answer), num_added});
  num_tokens_ += num_added;
}

bool Conversation::ForgetOldest() {
  if (exchanges_.empty()) return false;
  num_tokens_ -= exchanges_.front().num_tokens;
  exchanges_.pop_front();
  return true;
}

int Conversation::Shorten(int64_t max_tokens) {
  int num_forgotten = 0;
  while (num_tokens_ > max_tokens && ForgetOldest()) ++num_forgotten;
  return num_forgotten;
}

void Conversation::Clear() {
  exchanges_.clear();
  num_tokens_ = 0;
}

}  // namespace expertd
