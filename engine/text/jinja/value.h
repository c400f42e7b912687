// The values of a template: what a Python object is to jinja2. A Value is small and cheap to copy; strings, lists,
// tuples and dicts are immutable and shared. Everything a rendering allocates is charged to its Runtime, so that a
// hostile template runs into a limit instead of into the memory of the server.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/json.h"

namespace expertd::jinja {

// Python's integers have no bound; ours have 128 bits and arithmetic that leaves them is an error.
__extension__ typedef __int128 Int;

class Runtime;
class Object;
class Value;

// Base of everything shared. Charges `size_bytes` to a runtime while it lives (nothing when `runtime` is null:
// constants of the template and the values the caller passes in).
class Shared {
 public:
  Shared(Runtime* runtime, int64_t size_bytes, int depth);
  virtual ~Shared();
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  // How deep values are nested below this one; bounded, so that walking and destroying values cannot exhaust the stack.
  int depth() const { return depth_; }

 private:
  Runtime* const runtime_;
  const int64_t size_bytes_;
  const int depth_;
};

struct StringObject final : Shared {
  StringObject(Runtime* runtime, std::string text, bool is_markup);
  const std::string text;         // valid UTF-8
  const int64_t num_code_points;  // Python's len()
  const size_t hash;
  const bool is_markup;  // escaped HTML: made by the filters `escape` and `safe`
  bool is_ascii() const { return num_code_points == static_cast<int64_t>(text.size()); }
};

// What an undefined value was meant to be, for the error that its use raises.
struct UndefinedObject final : Shared {
  UndefinedObject(Runtime* runtime, std::string message) : Shared(runtime, 96, 0), message(std::move(message)) {}
  const std::string message;
};

struct ListObject final : Shared {
  ListObject(Runtime* runtime, std::vector<Value> items, int depth, bool is_group = false);
  ~ListObject() override;
  const std::vector<Value> items;
  const int64_t weight;  // of all that is inside, tuples within tuples included: see Value::weight()
  const bool is_group;   // a tuple of the filter `groupby`, whose members are also attributes
};

using DictEntries = std::vector<std::pair<Value, Value>>;

// Keys are unique and hashable, in order of insertion.
struct DictObject final : Shared {
  DictObject(Runtime* runtime, DictEntries entries, std::vector<uint32_t> index, int depth);
  ~DictObject() override;
  const DictEntries entries;
  const std::vector<uint32_t> index;  // open addressing by hash: entry number + 1, 0 is free; size is a power of two
};

class Value {
 public:
  enum class Type { kMissing, kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kTuple, kDict, kObject };

  // A variable that was never set. Expressions never see it: reading such a variable gives an undefined value.
  Value() = default;
  Value(const Value&) = default;
  Value& operator=(const Value&) = default;
  Value(Value&&) noexcept = default;
  Value& operator=(Value&&) noexcept = default;

  static Value None() { return Value(Type::kNone); }
  static Value Bool(bool value);
  static Value Integer(Int value);
  static Value Float(double value);
  static Value FromShared(Type type, std::shared_ptr<Shared> shared);
  // A string that is charged to nobody.
  static Value Constant(std::string text);

  Type type() const { return type_; }
  bool is_missing() const { return type_ == Type::kMissing; }
  bool is_undefined() const { return type_ == Type::kUndefined; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_bool() const { return type_ == Type::kBool; }
  bool is_int() const { return type_ == Type::kInt; }
  bool is_float() const { return type_ == Type::kFloat; }
  // Python's bool is an int.
  bool is_integral() const { return is_int() || is_bool(); }
  bool is_number() const { return is_integral() || is_float(); }
  bool is_string() const { return type_ == Type::kString; }
  bool is_list() const { return type_ == Type::kList; }
  bool is_tuple() const { return type_ == Type::kTuple; }
  bool is_sequence() const { return is_list() || is_tuple(); }
  bool is_dict() const { return type_ == Type::kDict; }
  bool is_object() const { return type_ == Type::kObject; }

  // Each of these may be called only for its own type (integer() also for bools, number() for every number).
  bool boolean() const { return scalar_.boolean; }
  Int integer() const { return is_bool() ? static_cast<Int>(scalar_.boolean) : scalar_.integer; }
  double number() const { return is_float() ? scalar_.number : static_cast<double>(integer()); }
  const StringObject& string() const { return static_cast<const StringObject&>(*shared_); }
  const std::string& text() const { return string().text; }
  const UndefinedObject& undefined() const { return static_cast<const UndefinedObject&>(*shared_); }
  const std::vector<Value>& items() const { return static_cast<const ListObject&>(*shared_).items; }
  const DictObject& dict() const { return static_cast<const DictObject&>(*shared_); }
  Object& object() const;
  const std::shared_ptr<Shared>& shared() const { return shared_; }

  int depth() const { return shared_ == nullptr ? 0 : shared_->depth(); }
  // What it costs to hash the value or to compare it with another as keys of a dict, in steps.
  int64_t weight() const;

  // Python's `is`.
  bool IsSameAs(const Value& other) const;

 private:
  explicit Value(Type type) : type_(type) {}

  Type type_ = Type::kMissing;
  union {
    Int integer = 0;
    bool boolean;
    double number;
  } scalar_;
  std::shared_ptr<Shared> shared_;
};

// Positional and keyword arguments of a call.
struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

// A lazy sequence. Next() gives nothing at the end, and may run any code of the template.
class Iterator {
 public:
  virtual ~Iterator() = default;
  virtual absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) = 0;
};
using IteratorPtr = std::unique_ptr<Iterator>;

// A Python object with behaviour: ranges, views, generators, namespaces, macros, methods, loops.
class Object : public Shared, public std::enable_shared_from_this<Object> {
 public:
  using Shared::Shared;

  // The name of the Python type, used in messages.
  virtual std::string TypeName() const = 0;
  virtual absl::StatusOr<std::string> Repr(Runtime& runtime);
  // The attribute `name`; nothing when there is none.
  virtual absl::StatusOr<std::optional<Value>> Attribute(Runtime& runtime, std::string_view name);
  virtual bool IsCallable() const { return false; }
  virtual absl::StatusOr<Value> Call(Runtime& runtime, CallArguments arguments);
  // len(); nothing for objects that have none.
  virtual absl::StatusOr<std::optional<int64_t>> Length(Runtime& runtime);
  virtual bool IsTruthy() const { return true; }
  virtual bool IsIterable() const { return false; }
  virtual absl::StatusOr<IteratorPtr> Iterate(Runtime& runtime);
  // Iteration from the end; null when Python's reversed() refuses the type.
  virtual absl::StatusOr<IteratorPtr> IterateReversed(Runtime& runtime);
  // obj[index] for an integer index; nothing when the type has no subscript or the index is out of range.
  virtual absl::StatusOr<std::optional<Value>> Item(Runtime& runtime, const Value& index);
  virtual bool HasSubscript() const { return false; }
  // `value in obj` where that is not a walk over the items.
  virtual absl::StatusOr<std::optional<bool>> Contains(Runtime& runtime, const Value& value);
  virtual absl::StatusOr<bool> EqualTo(Runtime& runtime, const Object& other);
  // Drops what it refers to. Called at the end of a rendering on objects that could be part of a cycle.
  virtual void Clear() {}
};

inline Object& Value::object() const { return static_cast<Object&>(*shared_); }

// The name of the value's Python type: "str", "dict", "list_iterator".
std::string TypeName(const Value& value);
// As TypeName, with the word " object" after it, and "None" for none: how jinja2 writes a value in "... has no
// attribute".
std::string TypeNameInMessages(const Value& value);

// bool(value)
absl::StatusOr<bool> Truth(Runtime& runtime, const Value& value);
// str(value) and repr(value)
absl::StatusOr<std::string> Str(Runtime& runtime, const Value& value);
absl::StatusOr<std::string> Repr(Runtime& runtime, const Value& value);
std::string ReprOfString(std::string_view text);
std::string ReprOfFloat(double value);
std::string ReprOfInt(Int value);

// left == right. Never an error of the template's, only a limit.
absl::StatusOr<bool> Equal(Runtime& runtime, const Value& left, const Value& right);
// The order of two values (a NaN is unordered); a TypeError when Python cannot order them. `operation` names the
// comparison in the message ("<").
enum class Ordering { kLess, kEqual, kGreater, kUnordered };
absl::StatusOr<Ordering> Compare(Runtime& runtime, const Value& left, const Value& right, std::string_view operation);

// Equality of what a dict may hold as keys.
bool KeysEqual(const Value& left, const Value& right);
// hash(value), equal for equal values. Errors: a TypeError for lists, dicts and what contains them; ResourceExhausted
// for tuples of great weight.
absl::StatusOr<size_t> Hash(const Value& value);

// Python's dict under construction: a later value of an equal key replaces the value and keeps the place.
class DictBuilder {
 public:
  // A null `runtime` charges the dict to nobody.
  explicit DictBuilder(Runtime* runtime) : runtime_(runtime) {}
  // Errors: the key cannot be hashed; a limit.
  absl::Status Set(Value key, Value value);
  absl::StatusOr<Value> Build() &&;
  size_t size() const { return entries_.size(); }

 private:
  void Place(size_t hash, uint32_t entry);
  void Grow();
  Runtime* const runtime_;
  DictEntries entries_;
  std::vector<size_t> hashes_;
  std::vector<uint32_t> index_;
};

// dict[key]; null when absent. Error: the key cannot be hashed.
absl::StatusOr<const Value*> DictFind(Runtime& runtime, const DictObject& dict, const Value& key);
const Value* DictFind(const DictObject& dict, std::string_view key);

// len(value); nothing for values without one.
absl::StatusOr<std::optional<int64_t>> Length(Runtime& runtime, const Value& value);
// iter(value). Error: a TypeError for values that cannot be iterated.
absl::StatusOr<IteratorPtr> Iterate(Runtime& runtime, const Value& value);
// Walks items that belong to no value.
IteratorPtr IterateItems(std::vector<Value> items);
bool IsIterable(const Value& value);
// list(value)
absl::StatusOr<std::vector<Value>> ToVector(Runtime& runtime, const Value& value);

// Converts parsed JSON: objects to dicts in their order, arrays to lists. Errors: InvalidArgument for text that is not
// UTF-8 and for nesting beyond `max_depth`.
absl::StatusOr<Value> FromJson(const Json& json, int max_depth = 100);

}  // namespace expertd::jinja
