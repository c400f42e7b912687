// Python's json.dumps over template values.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

constexpr size_t kLargeTextBytes = size_t{1} << 20;

void AppendEscaped(uint32_t c, std::string* text) {
  if (c > 0xffff) {
    const uint32_t rest = c - 0x10000;
    *text += absl::StrFormat("\\u%04x\\u%04x", 0xd800 | rest >> 10, 0xdc00 | (rest & 0x3ff));
  } else {
    *text += absl::StrFormat("\\u%04x", c);
  }
}

std::string FloatText(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return ReprOfFloat(value);
}

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonOptions& options) : runtime_(runtime), options_(options) {}

  absl::Status Write(const Value& value) {
    RETURN_IF_ERROR(runtime_.Spend(1));
    RETURN_IF_ERROR(runtime_.CanAllocate(static_cast<int64_t>(text_.size())));
    switch (value.type()) {
      case Value::Type::kNone: text_ += "null"; return absl::OkStatus();
      case Value::Type::kBool: text_ += value.boolean() ? "true" : "false"; return absl::OkStatus();
      case Value::Type::kInt: text_ += ReprOfInt(value.integer()); return absl::OkStatus();
      case Value::Type::kFloat: text_ += FloatText(value.number()); return absl::OkStatus();
      case Value::Type::kString: return WriteString(value.text());
      case Value::Type::kList:
      case Value::Type::kTuple: return WriteList(value.items());
      case Value::Type::kDict: return WriteDict(value.dict());
      default: return TypeError(StrCat("Object of type ", TypeName(value), " is not JSON serializable"));
    }
  }

  std::string Take() && { return std::move(text_); }

 private:
  absl::Status WriteString(std::string_view string) {
    RETURN_IF_ERROR(runtime_.Spend(static_cast<int64_t>(string.size()) / 8));
    // A character takes at most six times its bytes.
    if (string.size() > kLargeTextBytes) {
      RETURN_IF_ERROR(runtime_.CanAllocate(6 * static_cast<int64_t>(string.size())));
    }
    constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b";
    constexpr std::string_view kNames = "\"\\nrtfb";
    text_ += '"';
    for (size_t offset = 0; offset < string.size();) {
      const size_t start = offset;
      const uint32_t c = NextCodePoint(string, &offset);
      const size_t escape = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : kEscaped.npos;
      if (escape != kEscaped.npos) {
        text_ += '\\';
        text_ += kNames[escape];
      } else if (c < 0x20 || (c >= 0x7f && options_.ensure_ascii)) {
        AppendEscaped(c, &text_);
      } else {
        text_.append(string.substr(start, offset - start));
      }
    }
    text_ += '"';
    return absl::OkStatus();
  }

  absl::Status NewLine() {
    if (!options_.indent.has_value()) return absl::OkStatus();
    const auto size_bytes = static_cast<int64_t>(options_.indent->size()) * nesting_;
    RETURN_IF_ERROR(runtime_.CanAllocate(static_cast<int64_t>(text_.size()) + size_bytes));
    RETURN_IF_ERROR(runtime_.SpendBytes(size_bytes));
    text_ += '\n';
    for (int i = 0; i < nesting_; ++i) text_ += *options_.indent;
    return absl::OkStatus();
  }

  // Brackets with `num_items` items between, each written by `write(i)`.
  template <typename WriteItem>
  absl::Status WriteItems(char open, char close, size_t num_items, WriteItem write) {
    Level level(runtime_);
    RETURN_IF_ERROR(level.status());
    text_ += open;
    if (num_items > 0) {
      ++nesting_;
      RETURN_IF_ERROR(NewLine());
      for (size_t i = 0; i < num_items; ++i) {
        if (i > 0) {
          text_ += options_.item_separator;
          RETURN_IF_ERROR(NewLine());
        }
        RETURN_IF_ERROR(write(i));
      }
      --nesting_;
      RETURN_IF_ERROR(NewLine());
    }
    text_ += close;
    return absl::OkStatus();
  }

  absl::Status WriteList(const std::vector<Value>& items) {
    return WriteItems('[', ']', items.size(), [&](size_t i) { return Write(items[i]); });
  }

  absl::StatusOr<DictEntries> Sorted(const DictEntries& entries) {
    std::vector<Value> order, keys;
    for (size_t i = 0; i < entries.size(); ++i) {
      order.push_back(Value::Integer(static_cast<Int>(i)));
      keys.push_back(entries[i].first);
    }
    ASSIGN_OR_RETURN(order, SortByKeys(runtime_, std::move(order), keys, /*reverse=*/false));
    DictEntries sorted;
    for (const Value& index : order) sorted.push_back(entries[static_cast<size_t>(index.integer())]);
    return sorted;
  }

  absl::Status WriteKey(const Value& key) {
    switch (key.type()) {
      case Value::Type::kString: return WriteString(key.text());
      case Value::Type::kNone: return WriteString("null");
      case Value::Type::kBool: return WriteString(key.boolean() ? "true" : "false");
      case Value::Type::kInt: return WriteString(ReprOfInt(key.integer()));
      case Value::Type::kFloat: return WriteString(FloatText(key.number()));
      default: return TypeError(StrCat("keys must be str, int, float, bool or None, not ", TypeName(key)));
    }
  }

  absl::Status WriteDict(const DictObject& dict) {
    DictEntries sorted;
    if (options_.sort_keys) {
      ASSIGN_OR_RETURN(sorted, Sorted(dict.entries));
    }
    const DictEntries& entries = options_.sort_keys ? sorted : dict.entries;
    return WriteItems('{', '}', entries.size(), [&](size_t i) -> absl::Status {
      RETURN_IF_ERROR(WriteKey(entries[i].first));
      text_ += options_.key_separator;
      return Write(entries[i].second);
    });
  }

  Runtime& runtime_;
  const JsonOptions& options_;
  int nesting_ = 0;
  std::string text_;
};

}  // namespace

absl::StatusOr<std::string> DumpJson(Runtime& runtime, const Value& value, const JsonOptions& options) {
  JsonWriter writer(runtime, options);
  RETURN_IF_ERROR(writer.Write(value));
  return std::move(writer).Take();
}

}  // namespace expertd::jinja
