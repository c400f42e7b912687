// What templates find ready-made: filters, tests, methods of strings and dicts, operators and global functions, each
// with the semantics of jinja2 3.1 on Python 3.11. All functions are free of state but for the Runtime they are given.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/runtime.h"
#include "engine/text/jinja/value.h"

namespace expertd::jinja {

// ---- filters and tests. The first positional argument is the value that is filtered or tested.

using Builtin = absl::StatusOr<Value> (*)(Runtime& runtime, const CallArguments& arguments);

// Null when there is none of that name.
Builtin FindFilter(std::string_view name);
Builtin FindTest(std::string_view name);

// ---- calls

// A parameter of a builtin: its name (empty when it can only be given by position), and whether a call may leave it
// out.
struct Parameter {
  std::string_view name;
  bool is_optional = false;
};

// The arguments of a call by parameter; nothing where an optional one is left out.
using Bound = std::vector<std::optional<Value>>;

// Sorts the arguments of a call by parameter, as Python does. Errors: too many, missing or unknown arguments, naming
// `function`.
absl::StatusOr<Bound> BindArguments(std::string_view function, std::initializer_list<Parameter> parameters,
                                    const CallArguments& arguments);

// A function as a value. `depth` is that of the values it holds.
using NativeFunction = std::function<absl::StatusOr<Value>(Runtime& runtime, CallArguments arguments)>;
absl::StatusOr<Value> NewFunction(Runtime& runtime, std::string name, NativeFunction function, int depth = 0);

absl::StatusOr<Value> CallValue(Runtime& runtime, const Value& callee, CallArguments arguments);

// The functions that every template may call: range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
absl::StatusOr<std::optional<Value>> FindGlobal(Runtime& runtime, std::string_view name);

// ---- operators

absl::StatusOr<Value> ApplyMath(Runtime& runtime, MathOperator op, const Value& left, const Value& right);
absl::StatusOr<Value> ApplyUnary(Runtime& runtime, UnaryOperator op, const Value& operand);
absl::StatusOr<bool> ApplyComparison(Runtime& runtime, CompareOperator op, const Value& left, const Value& right);
// `value in container`
absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& value);

// object.name and object[index] with the fallbacks of jinja2's sandbox: what is not there is undefined, and so is what
// would change a value. Error: the object is undefined.
absl::StatusOr<Value> GetAttribute(Runtime& runtime, const Value& object, std::string_view name);
absl::StatusOr<Value> GetItem(Runtime& runtime, const Value& object, const Value& index);
// object[start:stop:step]
absl::StatusOr<Value> GetSlice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                               const Value& step);
// The method or property `name` of a string, list, tuple, dict or number; nothing when there is none.
absl::StatusOr<std::optional<Value>> BuiltinAttribute(Runtime& runtime, const Value& object, std::string_view name);

// ---- pieces that several of them share

// A lazy sequence as a value: a generator that can be walked once. `depth` is that of what it walks.
absl::StatusOr<Value> NewGenerator(Runtime& runtime, std::string type_name, IteratorPtr iterator, int depth);
absl::StatusOr<Value> NewRange(Runtime& runtime, Int start, Int stop, Int step);
struct RangeBounds {
  Int start = 0, step = 1;
  int64_t length = 0;
};
std::optional<RangeBounds> AsRange(const Value& value);
enum class DictPart { kKeys, kValues, kItems };
absl::StatusOr<Value> NewDictView(Runtime& runtime, Value dict, DictPart part);

// A namespace's assignment `object.name = value`. Errors: `object` is no namespace; the name begins with '_'.
absl::Status SetNamespaceAttribute(const Value& object, std::string_view name, Value value);
bool IsNamespace(const Value& value);

// Python's integer for `value` where an index or a count is wanted. Error: a TypeError naming `what`.
absl::StatusOr<Int> ToIndex(const Value& value, std::string_view what);
absl::StatusOr<int64_t> ToInt64(const Value& value, std::string_view what);
// Fails unless `value` is a string.
absl::StatusOr<std::string_view> ToText(const Value& value, std::string_view what);
// sorted(items, key=keys): stable; `keys` has one key for each item.
absl::StatusOr<std::vector<Value>> SortByKeys(Runtime& runtime, std::vector<Value> items,
                                              const std::vector<Value>& keys, bool reverse);

// json.dumps with transformers' defaults.
struct JsonOptions {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level's worth
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
absl::StatusOr<std::string> DumpJson(Runtime& runtime, const Value& value, const JsonOptions& options);

// `format % values`; str.format(arguments).
absl::StatusOr<std::string> PercentFormat(Runtime& runtime, std::string_view format, const Value& values);
absl::StatusOr<std::string> BraceFormat(Runtime& runtime, std::string_view format, const CallArguments& arguments);

// int(text, base) and float(text); nothing where Python raises ValueError.
std::optional<Int> ParseInt(std::string_view text, int base);
std::optional<double> ParseFloat(std::string_view text);

std::string EscapeHtml(std::string_view text);

// text.replace(from, to, count) with the size checked first; a negative count replaces all.
absl::StatusOr<std::string> ReplaceText(Runtime& runtime, std::string_view text, std::string_view from,
                                        std::string_view to, int64_t count);
// str.splitlines(): the bounds of the lines without their breaks (with them if `keep_ends`).
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);

}  // namespace expertd::jinja
