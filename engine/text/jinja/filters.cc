// The filters of templates: jinja2's own (filters.py describes them) and transformers' `tojson`.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;

// The value as a string value: markup stays markup, other values become their str().
absl::StatusOr<Value> SoftStr(Runtime& runtime, const Value& value) {
  if (value.is_string()) return value;
  ASSIGN_OR_RETURN(std::string text, Str(runtime, value));
  return runtime.NewString(std::move(text));
}

absl::StatusOr<bool> TruthOr(Runtime& runtime, const std::optional<Value>& value, bool fallback) {
  return value.has_value() ? Truth(runtime, *value) : fallback;
}

absl::StatusOr<int64_t> IntOr(const std::optional<Value>& value, int64_t fallback, std::string_view what) {
  if (!value.has_value()) return fallback;
  if (value->is_undefined()) return absl::InvalidArgumentError(value->undefined().message);
  return ToInt64(*value, what);
}

absl::StatusOr<Value> LowerCased(Runtime& runtime, const Value& value) {
  if (!value.is_string()) return value;
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(value.text().size()) / 2));
  return runtime.NewString(MapCase(value.text(), CaseMapping::kLower));
}

// Calls a string method on str(value).
absl::StatusOr<Value> CallStringMethod(Runtime& runtime, const Value& value, std::string_view name,
                                       CallArguments arguments) {
  ASSIGN_OR_RETURN(const Value text, SoftStr(runtime, value));
  ASSIGN_OR_RETURN(const Value method, GetAttribute(runtime, text, name));
  return CallValue(runtime, method, std::move(arguments));
}

// ---- getting at the attribute that a filter works on: "a.b.0", an index, or the item itself

class AttributeGetter {
 public:
  static absl::StatusOr<AttributeGetter> Make(Runtime& runtime, const std::optional<Value>& attribute) {
    AttributeGetter getter;
    if (!attribute.has_value() || attribute->is_none()) return getter;
    if (!attribute->is_string()) {
      getter.parts_.push_back(*attribute);
      return getter;
    }
    std::string_view rest = attribute->text();
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(rest.size())));
    while (true) {
      const size_t dot = std::min(rest.find('.'), rest.size());
      const std::string_view part = rest.substr(0, dot);
      const bool is_number = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
      std::optional<Int> number = is_number ? ParseInt(part, 10) : std::nullopt;
      getter.parts_.push_back(number.has_value() ? Value::Integer(*number) : Value::Constant(std::string(part)));
      if (dot == rest.size()) return getter;
      rest.remove_prefix(dot + 1);
    }
  }

  void IgnoreCase(bool ignores_case) { ignores_case_ = ignores_case; }
  void SetDefault(const std::optional<Value>& value) {
    if (value.has_value() && !value->is_none()) default_ = value;
  }

  absl::StatusOr<Value> Get(Runtime& runtime, const Value& item) const {
    Value value = item;
    for (const Value& part : parts_) {
      ASSIGN_OR_RETURN(value, GetItem(runtime, value, part));
      if (default_.has_value() && value.is_undefined()) value = *default_;
    }
    return ignores_case_ ? LowerCased(runtime, value) : value;
  }

  absl::StatusOr<std::vector<Value>> GetAll(Runtime& runtime, const std::vector<Value>& items) const {
    std::vector<Value> keys;
    keys.reserve(items.size());
    for (const Value& item : items) {
      ASSIGN_OR_RETURN(Value key, Get(runtime, item));
      keys.push_back(std::move(key));
    }
    return keys;
  }

 private:
  std::vector<Value> parts_;
  bool ignores_case_ = false;
  std::optional<Value> default_;
};

// ---- lazy sequences

class ListIterator final : public Iterator {
 public:
  explicit ListIterator(std::vector<Value> items) : items_(std::move(items)) {}
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override {
    RETURN_IF_ERROR(runtime.Spend(1));
    if (position_ >= items_.size()) return std::nullopt;
    return items_[position_++];
  }

 private:
  const std::vector<Value> items_;
  size_t position_ = 0;
};

absl::StatusOr<Value> GeneratorOf(Runtime& runtime, std::vector<Value> items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(items.size() * sizeof(Value))));
  return NewGenerator(runtime, "generator", std::make_unique<ListIterator>(std::move(items)), depth + 1);
}

// Applies `transform` to each item of `source` as it is asked for, and leaves out the items for which it gives nothing.
class TransformIterator final : public Iterator {
 public:
  using Transform = std::function<absl::StatusOr<std::optional<Value>>(Runtime&, const Value&)>;
  TransformIterator(Value source, Transform transform) : source_(std::move(source)), transform_(std::move(transform)) {}

  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override {
    if (is_done_) return std::nullopt;
    if (items_ == nullptr) {
      ASSIGN_OR_RETURN(const bool has_items, Truth(runtime, source_));
      if (!has_items) return Finish();
      ASSIGN_OR_RETURN(items_, Iterate(runtime, source_));
    }
    while (true) {
      ASSIGN_OR_RETURN(const std::optional<Value> item, items_->Next(runtime));
      if (!item.has_value()) return Finish();
      ASSIGN_OR_RETURN(std::optional<Value> result, transform_(runtime, *item));
      if (result.has_value()) return result;
    }
  }

 private:
  std::optional<Value> Finish() {
    is_done_ = true;
    return std::nullopt;
  }

  const Value source_;
  const Transform transform_;
  IteratorPtr items_;
  bool is_done_ = false;
};

int DepthOf(const CallArguments& arguments) {
  int depth = 0;
  for (const Value& value : arguments.positional) depth = std::max(depth, value.depth());
  for (const auto& [name, value] : arguments.keywords) depth = std::max(depth, value.depth());
  return depth;
}

// The filter or test that an argument names, with the arguments after it.
absl::StatusOr<Builtin> NamedBuiltin(const Value& name, std::string_view kind, Builtin (*find)(std::string_view)) {
  if (name.is_string()) {
    if (const Builtin builtin = find(name.text())) return builtin;
    return absl::InvalidArgumentError(StrCat("No ", kind, " named ", ReprOfString(name.text()), "."));
  }
  return absl::InvalidArgumentError(StrCat("No ", kind, " named ", TypeName(name), "."));
}

CallArguments ArgumentsAfter(const CallArguments& arguments, size_t num_dropped) {
  CallArguments rest;
  rest.positional.push_back(Value::None());  // the item's place
  rest.positional.insert(rest.positional.end(), arguments.positional.begin() + static_cast<ptrdiff_t>(num_dropped),
                         arguments.positional.end());
  rest.keywords = arguments.keywords;
  return rest;
}

absl::StatusOr<TransformIterator::Transform> AttributeTransform(Runtime& runtime, const CallArguments& arguments) {
  std::optional<Value> attribute, fallback;
  for (const auto& [name, value] : arguments.keywords) {
    if (name == "attribute") {
      attribute = value;
    } else if (name == "default") {
      fallback = value;
    } else {
      return TypeError(StrCat("Unexpected keyword argument ", ReprOfString(name)));
    }
  }
  ASSIGN_OR_RETURN(AttributeGetter getter, AttributeGetter::Make(runtime, attribute));
  getter.SetDefault(fallback);
  return [getter = std::move(getter)](Runtime& runtime, const Value& item) -> absl::StatusOr<std::optional<Value>> {
    ASSIGN_OR_RETURN(Value value, getter.Get(runtime, item));
    return value;
  };
}

absl::StatusOr<TransformIterator::Transform> MapTransform(Runtime& runtime, const CallArguments& arguments) {
  const bool has_attribute = std::any_of(arguments.keywords.begin(), arguments.keywords.end(),
                                         [](const auto& keyword) { return keyword.first == "attribute"; });
  if (arguments.positional.size() == 1 && has_attribute) return AttributeTransform(runtime, arguments);
  if (arguments.positional.size() == 1) return TypeError("map requires a filter argument");
  ASSIGN_OR_RETURN(const Builtin filter, NamedBuiltin(arguments.positional[1], "filter", FindFilter));
  return [filter, rest = ArgumentsAfter(arguments, 2)](Runtime& runtime,
                                                       const Value& item) -> absl::StatusOr<std::optional<Value>> {
    CallArguments call = rest;
    call.positional[0] = item;
    RETURN_IF_ERROR(runtime.Spend(1 + static_cast<int64_t>(call.positional.size() + call.keywords.size())));
    ASSIGN_OR_RETURN(Value value, filter(runtime, call));
    return value;
  };
}

// Errors in the arguments show when the result is walked, as those of a Python generator do.
absl::StatusOr<Value> Map(Runtime& runtime, const CallArguments& arguments) {
  auto transform = MapTransform(runtime, arguments);
  if (!transform.ok()) {
    transform = [status = transform.status()](Runtime&, const Value&) -> absl::StatusOr<std::optional<Value>> {
      return status;
    };
  }
  return NewGenerator(runtime, "generator",
                      std::make_unique<TransformIterator>(arguments.positional[0], *std::move(transform)),
                      DepthOf(arguments));
}

absl::StatusOr<TransformIterator::Transform> SelectTransform(Runtime& runtime, const CallArguments& arguments,
                                                             bool by_attribute, bool keeps_true) {
  std::optional<Value> attribute;
  if (by_attribute) {
    if (arguments.positional.size() < 2) return TypeError("Missing parameter for attribute name");
    attribute = arguments.positional[1];
  }
  ASSIGN_OR_RETURN(AttributeGetter getter, AttributeGetter::Make(runtime, attribute));
  const size_t test_index = by_attribute ? 2 : 1;
  Builtin test = nullptr;
  CallArguments rest;
  if (arguments.positional.size() > test_index) {
    ASSIGN_OR_RETURN(test, NamedBuiltin(arguments.positional[test_index], "test", FindTest));
    rest = ArgumentsAfter(arguments, test_index + 1);
  }
  return [getter = std::move(getter), test, rest = std::move(rest), keeps_true](
             Runtime& runtime, const Value& item) -> absl::StatusOr<std::optional<Value>> {
    ASSIGN_OR_RETURN(Value value, getter.Get(runtime, item));
    if (test != nullptr) {
      CallArguments call = rest;
      call.positional[0] = std::move(value);
      RETURN_IF_ERROR(runtime.Spend(1 + static_cast<int64_t>(call.positional.size() + call.keywords.size())));
      ASSIGN_OR_RETURN(value, test(runtime, call));
    }
    ASSIGN_OR_RETURN(const bool is_true, Truth(runtime, value));
    return is_true == keeps_true ? std::optional(item) : std::nullopt;
  };
}

template <bool kByAttribute, bool kKeepsTrue>
absl::StatusOr<Value> Select(Runtime& runtime, const CallArguments& arguments) {
  auto transform = SelectTransform(runtime, arguments, kByAttribute, kKeepsTrue);
  if (!transform.ok()) {
    transform = [status = transform.status()](Runtime&, const Value&) -> absl::StatusOr<std::optional<Value>> {
      return status;
    };
  }
  return NewGenerator(runtime, "generator",
                      std::make_unique<TransformIterator>(arguments.positional[0], *std::move(transform)),
                      DepthOf(arguments));
}

// ---- sequences

absl::StatusOr<Value> LengthFilter(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("len", {{""}}, arguments));
  ASSIGN_OR_RETURN(const std::optional<int64_t> length, Length(runtime, *bound[0]));
  if (!length.has_value()) return TypeError(StrCat("object of type '", TypeName(*bound[0]), "' has no len()"));
  return Value::Integer(*length);
}

absl::StatusOr<Value> First(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("first", {{"seq"}}, arguments));
  ASSIGN_OR_RETURN(IteratorPtr items, Iterate(runtime, *bound[0]));
  ASSIGN_OR_RETURN(std::optional<Value> item, items->Next(runtime));
  return item.has_value() ? *item : runtime.NewUndefined("No first item, sequence was empty.");
}

std::string ReversedText(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t end = text.size(); end > 0;) {
    size_t start = end - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xc0) == 0x80) --start;
    result.append(text.substr(start, end - start));
    end = start;
  }
  return result;
}

// reversed(value); null where Python refuses.
absl::StatusOr<IteratorPtr> Reversed(Runtime& runtime, const Value& value) {
  if (value.is_object()) return value.object().IterateReversed(runtime);
  if (!IsIterable(value)) return IteratorPtr();
  ASSIGN_OR_RETURN(std::vector<Value> items, ToVector(runtime, value));
  std::reverse(items.begin(), items.end());
  return std::make_unique<ListIterator>(std::move(items));
}

absl::StatusOr<Value> Last(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("last", {{"seq"}}, arguments));
  if (bound[0]->is_string() || bound[0]->is_sequence()) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> length, Length(runtime, *bound[0]));
    if (*length > 0) return GetItem(runtime, *bound[0], Value::Integer(-1));
    return runtime.NewUndefined("No last item, sequence was empty.");
  }
  ASSIGN_OR_RETURN(IteratorPtr items, Reversed(runtime, *bound[0]));
  if (items == nullptr) return TypeError(StrCat("'", TypeName(*bound[0]), "' object is not reversible"));
  ASSIGN_OR_RETURN(std::optional<Value> item, items->Next(runtime));
  return item.has_value() ? *item : runtime.NewUndefined("No last item, sequence was empty.");
}

absl::StatusOr<Value> Reverse(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("reverse", {{"value"}}, arguments));
  const Value& value = *bound[0];
  if (value.is_string()) {
    RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(value.text().size()) / 8));
    return runtime.NewString(ReversedText(value.text()), value.string().is_markup);
  }
  if (!IsIterable(value)) return TypeError("argument must be iterable");
  ASSIGN_OR_RETURN(IteratorPtr items, Reversed(runtime, value));
  if (items != nullptr) return NewGenerator(runtime, "list_reverseiterator", std::move(items), value.depth());
  ASSIGN_OR_RETURN(std::vector<Value> all, ToVector(runtime, value));
  std::reverse(all.begin(), all.end());
  return runtime.NewList(std::move(all));
}

absl::StatusOr<Value> List(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("list", {{"value"}}, arguments));
  ASSIGN_OR_RETURN(std::vector<Value> items, ToVector(runtime, *bound[0]));
  return runtime.NewList(std::move(items));
}

absl::StatusOr<Value> Items(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("items", {{"value"}}, arguments));
  if (bound[0]->is_undefined()) return GeneratorOf(runtime, {});
  if (!bound[0]->is_dict()) return TypeError("Can only get item pairs from a mapping.");
  ASSIGN_OR_RETURN(const Value view, NewDictView(runtime, *bound[0], DictPart::kItems));
  ASSIGN_OR_RETURN(IteratorPtr items, Iterate(runtime, view));
  return NewGenerator(runtime, "generator", std::move(items), bound[0]->depth());
}

// The keys to sort items by: with "a,b" as attribute, tuples of several attributes.
absl::StatusOr<std::vector<Value>> SortKeys(Runtime& runtime, const std::vector<Value>& items,
                                            const std::optional<Value>& attribute, bool ignores_case) {
  std::vector<std::vector<Value>> columns;
  std::string_view rest;
  if (attribute.has_value() && attribute->is_string()) rest = attribute->text();
  while (true) {
    const size_t comma = std::min(rest.find(','), rest.size());
    std::optional<Value> part = attribute;
    if (attribute.has_value() && attribute->is_string()) part = Value::Constant(std::string(rest.substr(0, comma)));
    ASSIGN_OR_RETURN(AttributeGetter getter, AttributeGetter::Make(runtime, part));
    getter.IgnoreCase(ignores_case);
    ASSIGN_OR_RETURN(std::vector<Value> column, getter.GetAll(runtime, items));
    columns.push_back(std::move(column));
    if (comma >= rest.size()) break;
    rest.remove_prefix(comma + 1);
  }
  std::vector<Value> keys;
  for (size_t i = 0; i < items.size(); ++i) {
    std::vector<Value> key;
    for (const std::vector<Value>& column : columns) key.push_back(column[i]);
    ASSIGN_OR_RETURN(Value list, runtime.NewList(std::move(key)));
    keys.push_back(std::move(list));
  }
  return keys;
}

absl::StatusOr<Value> Sort(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("sort", {{"value"}, {"reverse", true}, {"case_sensitive", true}, {"attribute", true}}, arguments));
  ASSIGN_OR_RETURN(const bool reverse, TruthOr(runtime, bound[1], false));
  ASSIGN_OR_RETURN(const bool case_sensitive, TruthOr(runtime, bound[2], false));
  ASSIGN_OR_RETURN(std::vector<Value> items, ToVector(runtime, *bound[0]));
  ASSIGN_OR_RETURN(const std::vector<Value> keys, SortKeys(runtime, items, bound[3], !case_sensitive));
  ASSIGN_OR_RETURN(items, SortByKeys(runtime, std::move(items), keys, reverse));
  return runtime.NewList(std::move(items));
}

absl::StatusOr<Value> DictSort(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("dictsort", {{"value"}, {"case_sensitive", true}, {"by", true}, {"reverse", true}}, arguments));
  ASSIGN_OR_RETURN(const bool case_sensitive, TruthOr(runtime, bound[1], false));
  ASSIGN_OR_RETURN(const bool reverse, TruthOr(runtime, bound[3], false));
  const std::string by = bound[2].has_value() && bound[2]->is_string() ? bound[2]->text()
                         : bound[2].has_value()                        ? ""
                                                                       : "key";
  if (by != "key" && by != "value") return TypeError("You can only sort by either \"key\" or \"value\"");
  if (bound[0]->is_undefined()) return absl::InvalidArgumentError(bound[0]->undefined().message);
  if (!bound[0]->is_dict()) return TypeError(StrCat("'", TypeName(*bound[0]), "' object has no attribute 'items'"));
  std::vector<Value> pairs, keys;
  for (const auto& [key, value] : bound[0]->dict().entries) {
    ASSIGN_OR_RETURN(Value pair, runtime.NewTuple({key, value}));
    pairs.push_back(std::move(pair));
    keys.push_back(by == "key" ? key : value);
    if (!case_sensitive) {
      ASSIGN_OR_RETURN(keys.back(), LowerCased(runtime, keys.back()));
    }
  }
  ASSIGN_OR_RETURN(pairs, SortByKeys(runtime, std::move(pairs), keys, reverse));
  return runtime.NewList(std::move(pairs));
}

absl::StatusOr<Value> Unique(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("unique", {{"value"}, {"case_sensitive", true}, {"attribute", true}}, arguments));
  ASSIGN_OR_RETURN(const bool case_sensitive, TruthOr(runtime, bound[1], false));
  ASSIGN_OR_RETURN(AttributeGetter getter, AttributeGetter::Make(runtime, bound[2]));
  getter.IgnoreCase(!case_sensitive);
  ASSIGN_OR_RETURN(const std::vector<Value> items, ToVector(runtime, *bound[0]));
  DictBuilder seen(&runtime);
  std::vector<Value> result;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, getter.Get(runtime, item));
    const size_t num_seen = seen.size();
    RETURN_IF_ERROR(seen.Set(std::move(key), Value::None()));
    if (seen.size() > num_seen) result.push_back(item);
  }
  return GeneratorOf(runtime, std::move(result));
}

template <bool kIsMax>
absl::StatusOr<Value> Extreme(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments(kIsMax ? "max" : "min", {{"value"}, {"case_sensitive", true}, {"attribute", true}}, arguments));
  ASSIGN_OR_RETURN(const bool case_sensitive, TruthOr(runtime, bound[1], false));
  ASSIGN_OR_RETURN(AttributeGetter getter, AttributeGetter::Make(runtime, bound[2]));
  getter.IgnoreCase(!case_sensitive);
  ASSIGN_OR_RETURN(const std::vector<Value> items, ToVector(runtime, *bound[0]));
  if (items.empty()) return runtime.NewUndefined("No aggregated item, sequence was empty.");
  ASSIGN_OR_RETURN(const std::vector<Value> keys, getter.GetAll(runtime, items));
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(const Ordering order, Compare(runtime, keys[i], keys[best], kIsMax ? ">" : "<"));
    if (order == (kIsMax ? Ordering::kGreater : Ordering::kLess)) best = i;
  }
  return items[best];
}

absl::StatusOr<Value> Sum(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("sum", {{"iterable"}, {"attribute", true}, {"start", true}}, arguments));
  ASSIGN_OR_RETURN(const AttributeGetter getter, AttributeGetter::Make(runtime, bound[1]));
  Value total = bound[2].value_or(Value::Integer(0));
  ASSIGN_OR_RETURN(IteratorPtr items, Iterate(runtime, *bound[0]));
  if (total.is_string()) return TypeError("sum() can't sum strings [use ''.join(seq) instead]");
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<Value> item, items->Next(runtime));
    if (!item.has_value()) return total;
    ASSIGN_OR_RETURN(const Value value, getter.Get(runtime, *item));
    ASSIGN_OR_RETURN(total, ApplyMath(runtime, MathOperator::kAdd, total, value));
  }
}

absl::StatusOr<Value> GroupBy(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("groupby", {{"value"}, {"attribute"}, {"default", true}, {"case_sensitive", true}}, arguments));
  ASSIGN_OR_RETURN(const bool case_sensitive, TruthOr(runtime, bound[3], false));
  ASSIGN_OR_RETURN(AttributeGetter plain, AttributeGetter::Make(runtime, bound[1]));
  plain.SetDefault(bound[2]);
  AttributeGetter getter = plain;
  getter.IgnoreCase(!case_sensitive);
  ASSIGN_OR_RETURN(std::vector<Value> items, ToVector(runtime, *bound[0]));
  ASSIGN_OR_RETURN(std::vector<Value> keys, getter.GetAll(runtime, items));
  ASSIGN_OR_RETURN(items, SortByKeys(runtime, std::move(items), keys, /*reverse=*/false));
  ASSIGN_OR_RETURN(keys, getter.GetAll(runtime, items));
  std::vector<Value> groups;
  for (size_t start = 0; start < items.size();) {
    size_t end = start + 1;
    while (end < items.size()) {
      ASSIGN_OR_RETURN(const bool is_same, Equal(runtime, keys[start], keys[end]));
      if (!is_same) break;
      ++end;
    }
    ASSIGN_OR_RETURN(Value grouper, plain.Get(runtime, items[start]));
    ASSIGN_OR_RETURN(Value list, runtime.NewList({items.begin() + static_cast<ptrdiff_t>(start),
                                                  items.begin() + static_cast<ptrdiff_t>(end)}));
    ASSIGN_OR_RETURN(Value group, runtime.NewGroup(std::move(grouper), std::move(list)));
    groups.push_back(std::move(group));
    start = end;
  }
  return runtime.NewList(std::move(groups));
}

absl::StatusOr<Value> Batch(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("batch", {{"value"}, {"linecount"}, {"fill_with", true}}, arguments));
  ASSIGN_OR_RETURN(const std::vector<Value> items, ToVector(runtime, *bound[0]));
  ASSIGN_OR_RETURN(const int64_t line_count, IntOr(bound[1], 0, "linecount must be an integer"));
  std::vector<Value> lines, line;
  const auto flush = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(Value list, runtime.NewList(std::exchange(line, {})));
    lines.push_back(std::move(list));
    return absl::OkStatus();
  };
  for (size_t i = 0; i < items.size(); ++i) {
    // A line of no items is given out once, where Python's list starts out empty.
    if (static_cast<int64_t>(line.size()) == line_count) RETURN_IF_ERROR(flush());
    line.push_back(items[i]);
  }
  if (!line.empty()) {
    if (bound[2].has_value() && !bound[2]->is_none()) {
      RETURN_IF_ERROR(runtime.CanAllocate(std::clamp<int64_t>(line_count, 0, int64_t{1} << 40) *
                                          static_cast<int64_t>(sizeof(Value))));
      while (static_cast<int64_t>(line.size()) < line_count) line.push_back(*bound[2]);
    }
    RETURN_IF_ERROR(flush());
  }
  return GeneratorOf(runtime, std::move(lines));
}

absl::StatusOr<Value> Slice(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("slice", {{"value"}, {"slices"}, {"fill_with", true}}, arguments));
  ASSIGN_OR_RETURN(const std::vector<Value> items, ToVector(runtime, *bound[0]));
  ASSIGN_OR_RETURN(const int64_t num_slices, IntOr(bound[1], 0, "slices must be an integer"));
  if (num_slices == 0) return absl::InvalidArgumentError("integer division or modulo by zero");
  if (num_slices < 0) return GeneratorOf(runtime, {});
  RETURN_IF_ERROR(runtime.CanAllocate(std::min(num_slices, int64_t{1} << 40) * static_cast<int64_t>(sizeof(Value))));
  const auto num_items = static_cast<int64_t>(items.size());
  const int64_t num_per_slice = num_items / num_slices;
  const int64_t num_longer = num_items % num_slices;
  std::vector<Value> slices;
  int64_t start = 0;
  for (int64_t i = 0; i < num_slices; ++i) {
    const int64_t end = start + num_per_slice + (i < num_longer ? 1 : 0);
    std::vector<Value> slice(items.begin() + start, items.begin() + end);
    if (bound[2].has_value() && !bound[2]->is_none() && i >= num_longer) slice.push_back(*bound[2]);
    ASSIGN_OR_RETURN(Value list, runtime.NewList(std::move(slice)));
    slices.push_back(std::move(list));
    start = end;
  }
  return GeneratorOf(runtime, std::move(slices));
}

absl::StatusOr<Value> Join(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("join", {{"value"}, {"d", true}, {"attribute", true}}, arguments));
  ASSIGN_OR_RETURN(const AttributeGetter getter, AttributeGetter::Make(runtime, bound[2]));
  std::string separator;
  if (bound[1].has_value()) {
    ASSIGN_OR_RETURN(separator, Str(runtime, *bound[1]));
  }
  ASSIGN_OR_RETURN(IteratorPtr items, Iterate(runtime, *bound[0]));
  std::string text;
  for (bool is_first = true;; is_first = false) {
    ASSIGN_OR_RETURN(const std::optional<Value> item, items->Next(runtime));
    if (!item.has_value()) return runtime.NewString(std::move(text));
    ASSIGN_OR_RETURN(const Value value, getter.Get(runtime, *item));
    ASSIGN_OR_RETURN(const std::string part, Str(runtime, value));
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(text.size() + separator.size() + part.size())));
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(separator.size() + part.size())));
    if (!is_first) text += separator;
    text += part;
  }
}

// ---- values

absl::StatusOr<Value> Default(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("default", {{"value"}, {"default_value", true}, {"boolean", true}}, arguments));
  ASSIGN_OR_RETURN(const bool by_truth, TruthOr(runtime, bound[2], false));
  bool keeps = !bound[0]->is_undefined();
  if (keeps && by_truth) {
    ASSIGN_OR_RETURN(keeps, Truth(runtime, *bound[0]));
  }
  if (keeps) return *bound[0];
  if (bound[1].has_value()) return *bound[1];
  return runtime.NewString("");
}

absl::StatusOr<Value> Attr(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("attr", {{"obj"}, {"name"}}, arguments));
  ASSIGN_OR_RETURN(const std::string_view name, ToText(*bound[1], "attribute name"));
  if (bound[0]->is_undefined()) return absl::InvalidArgumentError(bound[0]->undefined().message);
  // Unlike object.name, this does not look among the keys of a dict.
  const bool is_key_only = bound[0]->is_dict() && DictFind(bound[0]->dict(), name) != nullptr;
  if (is_key_only) {
    ASSIGN_OR_RETURN(std::optional<Value> method, BuiltinAttribute(runtime, *bound[0], name));
    if (!method.has_value()) {
      return runtime.NewUndefined(
          StrCat("'", TypeNameInMessages(*bound[0]), "' has no attribute ", ReprOfString(name)));
    }
  }
  return GetAttribute(runtime, *bound[0], name);
}

absl::StatusOr<Value> Abs(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("abs", {{""}}, arguments));
  const Value& value = *bound[0];
  if (value.is_float()) return Value::Float(std::abs(value.number()));
  if (!value.is_integral()) return TypeError(StrCat("bad operand type for abs(): '", TypeName(value), "'"));
  if (value.integer() >= 0) return Value::Integer(value.integer());
  return ApplyUnary(runtime, UnaryOperator::kNegative, value);
}

// int(number), where it has one.
absl::StatusOr<std::optional<Int>> Truncated(double number) {
  if (std::isnan(number)) return std::nullopt;
  if (std::isinf(number)) return absl::InvalidArgumentError("cannot convert float infinity to integer");
  if (!(std::abs(number) < 1.7e38)) return absl::InvalidArgumentError("an integer does not fit into 128 bits");
  return static_cast<Int>(number);
}

absl::StatusOr<Value> IntFilter(Runtime&, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("int", {{"value"}, {"default", true}, {"base", true}}, arguments));
  const Value& value = *bound[0];
  const Value fallback = bound[1].value_or(Value::Integer(0));
  if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined().message);
  if (value.is_integral()) return Value::Integer(value.integer());
  if (value.is_float()) {
    ASSIGN_OR_RETURN(const std::optional<Int> whole, Truncated(value.number()));
    return whole.has_value() ? Value::Integer(*whole) : fallback;
  }
  if (!value.is_string()) return fallback;
  ASSIGN_OR_RETURN(const int64_t base, IntOr(bound[2], 10, "base must be an integer"));
  if (base == 0 || (base >= 2 && base <= 36)) {
    if (const std::optional<Int> whole = ParseInt(value.text(), static_cast<int>(base))) return Value::Integer(*whole);
  }
  const std::optional<double> number = ParseFloat(value.text());
  if (!number.has_value() || std::isinf(*number)) return fallback;
  ASSIGN_OR_RETURN(const std::optional<Int> whole, Truncated(*number));
  return whole.has_value() ? Value::Integer(*whole) : fallback;
}

absl::StatusOr<Value> FloatFilter(Runtime&, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("float", {{"value"}, {"default", true}}, arguments));
  const Value& value = *bound[0];
  if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined().message);
  if (value.is_number()) return Value::Float(value.number());
  if (value.is_string()) {
    if (const std::optional<double> number = ParseFloat(value.text())) return Value::Float(*number);
  }
  return bound[1].value_or(Value::Float(0.0));
}

// round(number, precision): to the nearest decimal, ties to even on the exact value.
double RoundTo(double number, int64_t precision) {
  if (!std::isfinite(number) || precision > 323) return number;
  if (precision < -308) return std::copysign(0.0, number);
  if (precision >= 0) {
    std::string text(512 + static_cast<size_t>(precision), '\0');
    std::snprintf(text.data(), text.size(), "%.*f", static_cast<int>(precision), number);
    return std::strtod(text.c_str(), nullptr);
  }
  const double unit = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(number / unit) * unit;
}

absl::StatusOr<Value> RoundInt(Int number, int64_t precision) {
  if (precision >= 0) return Value::Integer(number);
  if (precision < -38) return Value::Integer(0);
  Int unit = 1;
  for (int64_t i = 0; i < -precision; ++i) unit *= 10;
  Int quotient = number / unit;
  const Int remainder = number % unit < 0 ? -(number % unit) : number % unit;
  const Int twice = remainder - (unit - remainder);
  if (twice > 0 || (twice == 0 && quotient % 2 != 0)) quotient += number < 0 ? -1 : 1;
  Int result = 0;
  if (__builtin_mul_overflow(quotient, unit, &result)) return ValueError("an integer does not fit into 128 bits");
  return Value::Integer(result);
}

absl::StatusOr<Value> Round(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("round", {{"value"}, {"precision", true}, {"method", true}}, arguments));
  std::string method = "common";
  if (bound[2].has_value()) {
    ASSIGN_OR_RETURN(method, Str(runtime, *bound[2]));
  }
  if (method != "common" && method != "ceil" && method != "floor") {
    return TypeError("method must be common, ceil or floor");
  }
  const Value& value = *bound[0];
  ASSIGN_OR_RETURN(const int64_t precision, IntOr(bound[1], 0, "precision must be an integer"));
  if (!value.is_number()) return TypeError(StrCat("type ", TypeName(value), " doesn't define __round__ method"));
  if (method == "common") {
    return value.is_float() ? Value::Float(RoundTo(value.number(), precision)) : RoundInt(value.integer(), precision);
  }
  // func(value * 10**precision) / 10**precision
  ASSIGN_OR_RETURN(const Value unit,
                   ApplyMath(runtime, MathOperator::kPower, Value::Integer(10), Value::Integer(precision)));
  ASSIGN_OR_RETURN(const Value scaled, ApplyMath(runtime, MathOperator::kMultiply, value, unit));
  Value whole = scaled;
  if (scaled.is_float()) {
    const double rounded = method == "ceil" ? std::ceil(scaled.number()) : std::floor(scaled.number());
    ASSIGN_OR_RETURN(const std::optional<Int> integer, Truncated(rounded));
    if (!integer.has_value()) return ValueError("cannot convert float NaN to integer");
    whole = Value::Integer(*integer);
  }
  return ApplyMath(runtime, MathOperator::kDivide, whole, unit);
}

absl::StatusOr<Value> FileSizeFormat(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("filesizeformat", {{"value"}, {"binary", true}}, arguments));
  ASSIGN_OR_RETURN(const bool is_binary, TruthOr(runtime, bound[1], false));
  if (bound[0]->is_undefined()) return absl::InvalidArgumentError(bound[0]->undefined().message);
  std::optional<double> number;
  if (bound[0]->is_number()) number = bound[0]->number();
  if (bound[0]->is_string()) number = ParseFloat(bound[0]->text());
  if (!number.has_value()) return ValueError("could not convert the value to float");
  const double base = is_binary ? 1024 : 1000;
  if (*number == 1) return runtime.NewString("1 Byte");
  if (*number < base) {
    ASSIGN_OR_RETURN(const std::optional<Int> whole, Truncated(*number));
    return runtime.NewString(StrCat(ReprOfInt(whole.value_or(0)), " Bytes"));
  }
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  size_t i = 0;
  do {
    unit *= base;
    ++i;
  } while (*number >= unit && i < kPrefixes.size());
  const char prefix = is_binary && i == 1 ? 'K' : kPrefixes[i - 1];
  return runtime.NewString(absl::StrFormat("%.1f %c%s", base * *number / unit, prefix, is_binary ? "iB" : "B"));
}

// ---- text

absl::StatusOr<Value> String(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("string", {{"s"}}, arguments));
  return SoftStr(runtime, *bound[0]);
}

// A filter that is one method of str.
template <char kWhich>
absl::StatusOr<Value> ByMethod(Runtime& runtime, const CallArguments& arguments) {
  constexpr std::string_view kName = kWhich == 'u' ? "upper" : kWhich == 'l' ? "lower" : "capitalize";
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(kName, {{"s"}}, arguments));
  return CallStringMethod(runtime, *bound[0], kName, {});
}

absl::StatusOr<Value> Trim(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("trim", {{"value"}, {"chars", true}}, arguments));
  return CallStringMethod(runtime, *bound[0], "strip", {{bound[1].value_or(Value::None())}, {}});
}

absl::StatusOr<Value> Center(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("center", {{"value"}, {"width", true}}, arguments));
  return CallStringMethod(runtime, *bound[0], "center", {{bound[1].value_or(Value::Integer(80))}, {}});
}

// Words begin after white space, hyphens and opening brackets.
absl::StatusOr<Value> Title(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("title", {{"s"}}, arguments));
  ASSIGN_OR_RETURN(const Value value, SoftStr(runtime, *bound[0]));
  const std::string_view text = value.text();
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(text.size()) / 4));
  constexpr std::string_view kOpeners = "-({[<";
  std::string result;
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const uint32_t first = NextCodePoint(text, &offset);
    const auto separates = [&](uint32_t c) {
      return IsSpace(c) || (c < 0x80 && kOpeners.find(static_cast<char>(c)) != kOpeners.npos);
    };
    if (separates(first)) {
      result.append(text.substr(start, offset - start));
      continue;
    }
    AppendMapped(first, CaseMapping::kUpper, &result);
    const size_t rest = offset;
    while (offset < text.size()) {
      size_t next = offset;
      if (separates(NextCodePoint(text, &next))) break;
      offset = next;
    }
    result += MapCase(text.substr(rest, offset - rest), CaseMapping::kLower);
  }
  return runtime.NewString(std::move(result));
}

absl::StatusOr<Value> Replace(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("replace", {{"s"}, {"old"}, {"new"}, {"count", true}}, arguments));
  ASSIGN_OR_RETURN(const std::string text, Str(runtime, *bound[0]));
  ASSIGN_OR_RETURN(const std::string from, Str(runtime, *bound[1]));
  ASSIGN_OR_RETURN(const std::string to, Str(runtime, *bound[2]));
  int64_t count = -1;
  if (bound[3].has_value() && !bound[3]->is_none()) {
    ASSIGN_OR_RETURN(count, IntOr(bound[3], -1, "count must be an integer"));
  }
  ASSIGN_OR_RETURN(std::string result, ReplaceText(runtime, text, from, to, count));
  return runtime.NewString(std::move(result));
}

absl::StatusOr<Value> Indent(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound,
                   BindArguments("indent", {{"s"}, {"width", true}, {"first", true}, {"blank", true}}, arguments));
  if (bound[0]->is_undefined()) return absl::InvalidArgumentError(bound[0]->undefined().message);
  ASSIGN_OR_RETURN(const std::string_view text, ToText(*bound[0], "indent() argument"));
  ASSIGN_OR_RETURN(const bool indents_first, TruthOr(runtime, bound[2], false));
  ASSIGN_OR_RETURN(const bool indents_blank, TruthOr(runtime, bound[3], false));
  std::string indention;
  if (bound[1].has_value() && bound[1]->is_string()) {
    indention = bound[1]->text();
  } else {
    ASSIGN_OR_RETURN(const int64_t width, IntOr(bound[1], 4, "width must be an integer"));
    RETURN_IF_ERROR(runtime.CanAllocate(std::max<int64_t>(width, 0)));
    indention = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(text.size()) / 8));
  const std::string with_newline = StrCat(text, "\n");
  const std::vector<std::string_view> lines = SplitLines(with_newline, /*keep_ends=*/false);
  std::string result;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) result += '\n';
    const bool indents = i == 0 ? indents_first : indents_blank || !lines[i].empty();
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(result.size() + indention.size() + lines[i].size())));
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(indention.size())));
    if (indents) result += indention;
    result += lines[i];
  }
  return runtime.NewString(std::move(result), bound[0]->string().is_markup);
}

absl::StatusOr<Value> Truncate(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("truncate", {{"s"}, {"length", true}, {"killwords", true}, {"end", true}, {"leeway", true}},
                    arguments));
  ASSIGN_OR_RETURN(const int64_t length, IntOr(bound[1], 255, "length must be an integer"));
  ASSIGN_OR_RETURN(const bool cuts_words, TruthOr(runtime, bound[2], false));
  const Value ellipsis = bound[3].value_or(Value::Constant("..."));
  ASSIGN_OR_RETURN(const std::string_view end, ToText(ellipsis, "end"));
  const bool has_leeway = bound[4].has_value() && !bound[4]->is_none();
  ASSIGN_OR_RETURN(const int64_t leeway, IntOr(has_leeway ? bound[4] : std::nullopt, 5, "leeway must be an integer"));
  const int64_t num_end = CountCodePoints(end);
  if (length < num_end) return ValueError(StrCat("expected length >= ", num_end, ", got ", length));
  if (leeway < 0) return ValueError(StrCat("expected leeway >= 0, got ", leeway));
  ASSIGN_OR_RETURN(const std::optional<int64_t> size, Length(runtime, *bound[0]));
  if (!size.has_value()) return TypeError(StrCat("object of type '", TypeName(*bound[0]), "' has no len()"));
  if (*size <= length + leeway) return *bound[0];
  ASSIGN_OR_RETURN(const std::string_view text, ToText(*bound[0], "truncate() argument"));
  RETURN_IF_ERROR(runtime.Spend(length / 8));
  std::string_view kept = text.substr(0, OffsetOfCodePoint(text, length - num_end));
  if (!cuts_words) kept = kept.substr(0, std::min(kept.rfind(' '), kept.size()));
  return runtime.NewString(StrCat(kept, end));
}

absl::StatusOr<Value> WordCount(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("wordcount", {{"s"}}, arguments));
  ASSIGN_OR_RETURN(const std::string text, Str(runtime, *bound[0]));
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(text.size()) / 2));
  int64_t count = 0;
  bool in_word = false;
  for (size_t offset = 0; offset < text.size();) {
    const uint32_t c = NextCodePoint(text, &offset);
    const bool is_word = c == '_' || IsAlnum(c);
    count += is_word && !in_word ? 1 : 0;
    in_word = is_word;
  }
  return Value::Integer(count);
}

absl::StatusOr<Value> FormatFilter(Runtime& runtime, const CallArguments& arguments) {
  if (arguments.positional.size() > 1 && !arguments.keywords.empty()) {
    return TypeError("can't handle positional and keyword arguments at the same time");
  }
  ASSIGN_OR_RETURN(const Value format, SoftStr(runtime, arguments.positional[0]));
  Value values;
  if (arguments.keywords.empty()) {
    ASSIGN_OR_RETURN(values, runtime.NewTuple({arguments.positional.begin() + 1, arguments.positional.end()}));
  } else {
    DictBuilder builder(&runtime);
    for (const auto& [name, value] : arguments.keywords) RETURN_IF_ERROR(builder.Set(Value::Constant(name), value));
    ASSIGN_OR_RETURN(values, std::move(builder).Build());
  }
  return ApplyMath(runtime, MathOperator::kModulo, format, values);
}

absl::StatusOr<Value> MakeMarkup(Runtime& runtime, const Value& value, bool escapes) {
  if (value.is_string() && value.string().is_markup) return value;
  ASSIGN_OR_RETURN(std::string text, Str(runtime, value));
  if (escapes) {
    RETURN_IF_ERROR(runtime.CanAllocate(5 * static_cast<int64_t>(text.size())));
    text = EscapeHtml(text);
  }
  return runtime.NewString(std::move(text), /*is_markup=*/true);
}

absl::StatusOr<Value> Escape(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("escape", {{"s"}}, arguments));
  return MakeMarkup(runtime, *bound[0], /*escapes=*/true);
}

absl::StatusOr<Value> ForceEscape(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("forceescape", {{"value"}}, arguments));
  ASSIGN_OR_RETURN(std::string text, Str(runtime, *bound[0]));
  ASSIGN_OR_RETURN(const Value plain, runtime.NewString(std::move(text)));
  return MakeMarkup(runtime, plain, /*escapes=*/true);
}

absl::StatusOr<Value> Safe(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("safe", {{"value"}}, arguments));
  return MakeMarkup(runtime, *bound[0], /*escapes=*/false);
}

std::string PercentEncode(std::string_view text, bool for_query) {
  constexpr std::string_view kUnreserved = "_.-~";
  std::string result;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          kUnreserved.find(c) != kUnreserved.npos || (c == '/' && !for_query);
    if (is_plain) {
      result += c;
    } else if (c == ' ' && for_query) {
      result += '+';
    } else {
      result += absl::StrFormat("%%%02X", static_cast<unsigned char>(c));
    }
  }
  return result;
}

absl::StatusOr<std::string> UrlQuote(Runtime& runtime, const Value& value, bool for_query) {
  ASSIGN_OR_RETURN(const std::string text, Str(runtime, value));
  RETURN_IF_ERROR(runtime.CanAllocate(3 * static_cast<int64_t>(text.size())));
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(text.size())));
  return PercentEncode(text, for_query);
}

absl::StatusOr<Value> UrlEncode(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("urlencode", {{"value"}}, arguments));
  const Value& value = *bound[0];
  if (value.is_string() || !IsIterable(value)) {
    ASSIGN_OR_RETURN(std::string text, UrlQuote(runtime, value, /*for_query=*/false));
    return runtime.NewString(std::move(text));
  }
  Value pairs = value;
  if (value.is_dict()) {
    ASSIGN_OR_RETURN(pairs, NewDictView(runtime, value, DictPart::kItems));
  }
  ASSIGN_OR_RETURN(const std::vector<Value> items, ToVector(runtime, pairs));
  std::string text;
  for (const Value& pair : items) {
    ASSIGN_OR_RETURN(const std::vector<Value> parts, ToVector(runtime, pair));
    if (parts.size() != 2) return ValueError("not enough values to unpack (expected 2)");
    ASSIGN_OR_RETURN(const std::string key, UrlQuote(runtime, parts[0], /*for_query=*/true));
    ASSIGN_OR_RETURN(const std::string encoded, UrlQuote(runtime, parts[1], /*for_query=*/true));
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(text.size() + key.size() + encoded.size())));
    StrAppend(&text, text.empty() ? "" : "&", key, "=", encoded);
  }
  return runtime.NewString(std::move(text));
}

absl::StatusOr<Value> XmlAttr(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("xmlattr", {{"d"}, {"autospace", true}}, arguments));
  ASSIGN_OR_RETURN(const bool adds_space, TruthOr(runtime, bound[1], true));
  if (bound[0]->is_undefined()) return absl::InvalidArgumentError(bound[0]->undefined().message);
  if (!bound[0]->is_dict()) return TypeError(StrCat("'", TypeName(*bound[0]), "' object has no attribute 'items'"));
  std::string text;
  for (const auto& [key, value] : bound[0]->dict().entries) {
    if (value.is_none() || value.is_undefined()) continue;
    ASSIGN_OR_RETURN(const std::string_view name, ToText(key, "attribute name"));
    if (name.find_first_of(" \t\n\r\f\v/>=") != name.npos) {
      return ValueError(StrCat("Invalid character in attribute name: ", ReprOfString(name)));
    }
    ASSIGN_OR_RETURN(const Value escaped_name, MakeMarkup(runtime, key, /*escapes=*/true));
    ASSIGN_OR_RETURN(const Value escaped, MakeMarkup(runtime, value, /*escapes=*/true));
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(text.size() + name.size() + escaped.text().size())));
    StrAppend(&text, text.empty() ? "" : " ", escaped_name.text(), "=\"", escaped.text(), "\"");
  }
  return runtime.NewString(StrCat(adds_space && !text.empty() ? " " : "", text));
}

absl::StatusOr<Value> ToJson(Runtime& runtime, const CallArguments& arguments) {
  ASSIGN_OR_RETURN(
      const Bound bound,
      BindArguments("tojson",
                    {{"x"}, {"ensure_ascii", true}, {"indent", true}, {"separators", true}, {"sort_keys", true}},
                    arguments));
  JsonOptions options;
  ASSIGN_OR_RETURN(options.ensure_ascii, TruthOr(runtime, bound[1], false));
  ASSIGN_OR_RETURN(options.sort_keys, TruthOr(runtime, bound[4], false));
  if (bound[2].has_value() && !bound[2]->is_none()) {
    options.item_separator = ",";
    if (bound[2]->is_string()) {
      options.indent = bound[2]->text();
    } else {
      ASSIGN_OR_RETURN(const int64_t width, IntOr(bound[2], 0, "indent must be an integer or a string"));
      RETURN_IF_ERROR(runtime.CanAllocate(std::max<int64_t>(width, 0)));
      options.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  if (bound[3].has_value() && !bound[3]->is_none()) {
    ASSIGN_OR_RETURN(const std::vector<Value> separators, ToVector(runtime, *bound[3]));
    if (separators.size() != 2) return ValueError("separators must be a pair of strings");
    ASSIGN_OR_RETURN(const std::string_view item, ToText(separators[0], "item separator"));
    ASSIGN_OR_RETURN(const std::string_view key, ToText(separators[1], "key separator"));
    options.item_separator = item;
    options.key_separator = key;
  }
  ASSIGN_OR_RETURN(std::string text, DumpJson(runtime, *bound[0], options));
  return runtime.NewString(std::move(text));
}

struct NamedFilter {
  std::string_view name;
  Builtin filter;
};

// Sorted by name.
constexpr NamedFilter kFilters[] = {
    {"abs", Abs},
    {"attr", Attr},
    {"batch", Batch},
    {"capitalize", ByMethod<'c'>},
    {"center", Center},
    {"count", LengthFilter},
    {"d", Default},
    {"default", Default},
    {"dictsort", DictSort},
    {"e", Escape},
    {"escape", Escape},
    {"filesizeformat", FileSizeFormat},
    {"first", First},
    {"float", FloatFilter},
    {"forceescape", ForceEscape},
    {"format", FormatFilter},
    {"groupby", GroupBy},
    {"indent", Indent},
    {"int", IntFilter},
    {"items", Items},
    {"join", Join},
    {"last", Last},
    {"length", LengthFilter},
    {"list", List},
    {"lower", ByMethod<'l'>},
    {"map", Map},
    {"max", Extreme<true>},
    {"min", Extreme<false>},
    {"reject", Select<false, false>},
    {"rejectattr", Select<true, false>},
    {"replace", Replace},
    {"reverse", Reverse},
    {"round", Round},
    {"safe", Safe},
    {"select", Select<false, true>},
    {"selectattr", Select<true, true>},
    {"slice", Slice},
    {"sort", Sort},
    {"string", String},
    {"sum", Sum},
    {"title", Title},
    {"tojson", ToJson},
    {"trim", Trim},
    {"truncate", Truncate},
    {"unique", Unique},
    {"upper", ByMethod<'u'>},
    {"urlencode", UrlEncode},
    {"wordcount", WordCount},
    {"xmlattr", XmlAttr},
};

// The digits of a number of `base` (2..36) without sign and prefix; nothing when they are malformed or too many.
std::optional<Int> ParseDigits(std::string_view digits, int base, bool is_negative) {
  Int value = 0;
  bool after_digit = false;
  for (const char c : digits) {
    if (c == '_' && after_digit) {
      after_digit = false;
      continue;
    }
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 10
                      : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                             : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value)) return std::nullopt;
    if (__builtin_add_overflow(value, static_cast<Int>(is_negative ? -digit : digit), &value)) return std::nullopt;
    after_digit = true;
  }
  return after_digit ? std::optional(value) : std::nullopt;
}

}  // namespace

Builtin FindFilter(std::string_view name) {
  const auto filter = std::lower_bound(std::begin(kFilters), std::end(kFilters), name,
                                       [](const NamedFilter& entry, std::string_view key) { return entry.name < key; });
  return filter != std::end(kFilters) && filter->name == name ? filter->filter : nullptr;
}

absl::StatusOr<std::vector<Value>> SortByKeys(Runtime& runtime, std::vector<Value> items,
                                              const std::vector<Value>& keys, bool reverse) {
  RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(items.size() * (sizeof(Value) + 2 * sizeof(size_t)))));
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  // After an error every answer is "not less", and the order no longer matters.
  absl::Status status;
  std::stable_sort(order.begin(), order.end(), [&](size_t left, size_t right) {
    if (!status.ok()) return false;
    if (reverse) std::swap(left, right);
    const absl::StatusOr<Ordering> ordering = Compare(runtime, keys[left], keys[right], "<");
    if (!ordering.ok()) status = ordering.status();
    return ordering.ok() && *ordering == Ordering::kLess;
  });
  RETURN_IF_ERROR(status);
  std::vector<Value> sorted;
  sorted.reserve(items.size());
  for (const size_t i : order) sorted.push_back(std::move(items[i]));
  return sorted;
}

std::optional<Int> ParseInt(std::string_view text, int base) {
  text = StripSpace(text, StripSides::kBoth);
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char letter = static_cast<char>(text[1] | 0x20);
    const int prefix_base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
      base = prefix_base;
      text.remove_prefix(text[2] == '_' ? 3 : 2);
    }
  }
  if (base == 0) {
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos) return std::nullopt;
    base = 10;
  }
  return ParseDigits(text, base, is_negative);
}

std::optional<double> ParseFloat(std::string_view text) {
  text = StripSpace(text, StripSides::kBoth);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto is_digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    if (c == '_') {
      if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
      continue;
    }
    digits += static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
  }
  std::string_view unsigned_digits = digits;
  if (unsigned_digits.starts_with('-') || unsigned_digits.starts_with('+')) unsigned_digits.remove_prefix(1);
  const bool is_word = unsigned_digits == "inf" || unsigned_digits == "infinity" || unsigned_digits == "nan";
  if (!is_word &&
      (unsigned_digits.empty() || unsigned_digits.find_first_not_of("0123456789.e+-") != unsigned_digits.npos)) {
    return std::nullopt;
  }
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  if (end != digits.c_str() + digits.size()) return std::nullopt;
  return value;
}

std::string EscapeHtml(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '\'': result += "&#39;"; break;
      case '"': result += "&#34;"; break;
      default: result += c;
    }
  }
  return result;
}

}  // namespace expertd::jinja
