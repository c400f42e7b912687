// Pickle: what a Python pickle of protocol 2 or 3 says, as plain data. A pickle is a program for a small stack machine
// that may call any function; this reader runs none: a call of one of the classes that it is told of becomes a value
// that names the class and its arguments, and every other class or instruction is an error. Used for PyTorch files.
// Instructions: Lib/pickletools.py of CPython.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace expertd {

// A pickle's values, which refer to each other by number; they may form cycles, so that whoever follows them counts.
// Immutable; concurrent calls are safe.
class Pickle {
 public:
  using Ref = int32_t;  // index of a value
  static constexpr Ref kNothing = -1;

  enum class Kind {
    kNone,
    kBool,        // `integer` is 0 or 1
    kInt,         // also as nearest double; more than 64 bits are a double only
    kFloat,       // `number`
    kText,        // `text`: a string or bytes
    kList,        // `items`: a list, a tuple
    kDict,        // `items`: keys and values in turn
    kClass,       // `text`: "module.name"
    kObject,      // a call of the class `text` with the list `arguments`; `state`: what it was given afterwards
    kPersistent,  // the list `arguments` names an object that is kept beside the pickle
  };

  struct Value {
    Kind kind = Kind::kNone;
    Ref arguments = kNothing;
    Ref state = kNothing;
    int64_t integer = 0;
    double number = 0.0;
    std::string_view text;
    std::vector<Ref> items;
  };

  // Reads `data`, which may be hostile and must outlive the pickle. `classes`: "module.name" of those taken as data,
  // beside the mappings OrderedDict and defaultdict, which are read as dicts. Errors: InvalidArgument (malformed, with
  // the byte), Unimplemented (another class or instruction, named), ResourceExhausted (more than kMaxValues values).
  static absl::StatusOr<Pickle> Read(std::span<const std::byte> data, std::span<const std::string_view> classes);

  const Value& at(Ref ref) const { return values_[static_cast<size_t>(ref)]; }
  const Value& root() const { return at(root_); }

  // The value of the last entry `key` of a dict; null when `dict` is none or has none.
  const Value* Find(const Value& dict, std::string_view key) const;

 private:
  friend class PickleMachine;
  std::vector<Value> values_;
  Ref root_ = kNothing;
};

}  // namespace expertd
