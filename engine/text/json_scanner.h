// JSON that is read while it is being written: where a value ends, and the members of an object one by one, without
// waiting for the whole. For tool calls, whose arguments go to the caller as they come.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"

namespace expertd {

// Finds the end of one JSON value. Only strings and brackets are looked at: what stands between them is not checked.
// Not thread-safe, as below.
class JsonValueScanner {
 public:
  // Takes the bytes of the value from the front of `text`, which for the first call begins with the value, and returns
  // their number: fewer than `text` has only when the value has ended. Of a value that is no string, object or array
  // the end is the first blank, comma or closing bracket, which is not taken.
  size_t Append(std::string_view text);

  bool is_ended() const { return is_ended_; }

 private:
  enum class Kind { kUnknown, kString, kNested, kScalar };

  void Take(char c);

  Kind kind_ = Kind::kUnknown;
  bool is_ended_ = false, is_in_string_ = false, is_escaped_ = false;
  int depth_ = 0;  // of brackets
};

// The members of one JSON object.
class JsonMembers {
 public:
  // A part of the raw value of the member `key`; `is_end`: the last one.
  using OnPart = absl::FunctionRef<void(std::string_view key, std::string_view part, bool is_end)>;

  static constexpr size_t kMaxKeyBytes = 256;

  // Takes the bytes of the object from the front of `text`, which for the first call begins with its bracket, and
  // returns their number. Stops at the end of the object, and where it is broken.
  size_t Append(std::string_view text, OnPart on_part);

  bool is_ended() const { return state_ == State::kEnded; }
  // The text is no JSON object, or one with a key that is longer than kMaxKeyBytes.
  bool is_broken() const { return state_ == State::kBroken; }

 private:
  enum class State { kBefore, kBeforeKey, kKey, kBeforeColon, kBeforeValue, kValue, kAfterValue, kEnded, kBroken };

  bool Step(std::string_view& rest, OnPart on_part);
  void TakeKey(std::string_view& rest);

  State state_ = State::kBefore;
  JsonValueScanner scanner_;  // of the key or value at hand
  std::string raw_key_, key_;
};

}  // namespace expertd
