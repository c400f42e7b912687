// JSON as a stream of events, for files whose headers may have 100 MB: a tree of them would be many times larger, and
// would keep only the last of two equal names. Used by the readers of checkpoints.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/weight_source.h"

namespace expertd {

// The most bytes of JSON that a checkpoint's header or index may have: the limit of the safetensors library.
inline constexpr int64_t kMaxJsonEventBytes = 100'000'000;

// Base of a reader: every event is an error unless a reader takes it. Events return false to stop.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  const std::string& error() const { return error_; }

  bool null() override { return Fail("a null"); }
  bool boolean(bool) override { return Fail("a boolean"); }
  bool number_integer(number_integer_t value) override { return Fail(StrCat("the number ", value)); }
  bool number_unsigned(number_unsigned_t value) override { return Fail(StrCat("the number ", value)); }
  bool number_float(number_float_t, const string_t& text) override { return Fail(StrCat("the number ", text)); }
  bool string(string_t& value) override { return Fail(StrCat("the text \"", ShowName(value), "\"")); }
  bool binary(binary_t&) override { return Fail("binary data"); }
  bool start_object(size_t) override { return Fail("an object"); }
  bool end_object() override { return Fail("the end of an object"); }
  bool start_array(size_t) override { return Fail("an array"); }
  bool end_array() override { return Fail("the end of an array"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Stop(StrCat("not valid JSON at byte ", position));
  }

 protected:
  bool Stop(std::string error) {
    error_ = std::move(error);
    return false;
  }
  // "unexpected <what> in <where>"
  bool Fail(std::string_view what) { return Stop(StrCat("unexpected ", what, Where())); }
  virtual std::string Where() const = 0;

 private:
  std::string error_;
};

// Runs `events` over `text`. The parser keeps one bit per nesting level and the readers refuse anything deeper than
// the format needs, so depth costs nothing. Errors: InvalidArgument.
absl::Status ReadJsonEvents(std::string_view text, JsonEvents& events);

}  // namespace expertd
