// The filters of lists, dicts and other sequences, lazy ones included, with the semantics of jinja2's own (filters.py
// describes them).
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

absl::StatusOr<Value> LowerCased(Runtime& runtime, const Value& value) {
  if (!value.is_string()) return value;
  RETURN_IF_ERROR(runtime.Spend(static_cast<int64_t>(value.text().size()) / 2));
  return runtime.NewString(MapCase(value.text(), CaseMapping::kLower));
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

absl::StatusOr<Value> GeneratorOf(Runtime& runtime, std::vector<Value> items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(items.size() * sizeof(Value))));
  return NewGenerator(runtime, "generator", IterateItems(std::move(items)), depth + 1);
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

// `arguments`: what ArgumentsAfter gives.
absl::StatusOr<Value> ApplyTo(Runtime& runtime, const Value& item, Builtin builtin, CallArguments arguments) {
  arguments.positional[0] = item;
  RETURN_IF_ERROR(runtime.Spend(1 + static_cast<int64_t>(arguments.positional.size() + arguments.keywords.size())));
  return builtin(runtime, arguments);
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
    ASSIGN_OR_RETURN(Value value, ApplyTo(runtime, item, filter, rest));
    return value;
  };
}

// The first argument's items as `transform` makes them. Its error shows when the result is walked, as that of a Python
// generator does.
absl::StatusOr<Value> Transformed(Runtime& runtime, const CallArguments& arguments,
                                  absl::StatusOr<TransformIterator::Transform> transform) {
  if (!transform.ok()) {
    transform = [status = transform.status()](Runtime&, const Value&) -> absl::StatusOr<std::optional<Value>> {
      return status;
    };
  }
  return NewGenerator(runtime, "generator",
                      std::make_unique<TransformIterator>(arguments.positional[0], *std::move(transform)),
                      DepthOf(arguments));
}

absl::StatusOr<Value> Map(Runtime& runtime, const CallArguments& arguments) {
  return Transformed(runtime, arguments, MapTransform(runtime, arguments));
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
      ASSIGN_OR_RETURN(value, ApplyTo(runtime, value, test, rest));
    }
    ASSIGN_OR_RETURN(const bool is_true, Truth(runtime, value));
    return is_true == keeps_true ? std::optional(item) : std::nullopt;
  };
}

template <bool kByAttribute, bool kKeepsTrue>
absl::StatusOr<Value> Select(Runtime& runtime, const CallArguments& arguments) {
  return Transformed(runtime, arguments, SelectTransform(runtime, arguments, kByAttribute, kKeepsTrue));
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
  return IterateItems(std::move(items));
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

// Sorted by name.
constexpr NamedFilter kFilters[] = {
    {"batch", Batch},
    {"count", LengthFilter},
    {"dictsort", DictSort},
    {"first", First},
    {"groupby", GroupBy},
    {"items", Items},
    {"join", Join},
    {"last", Last},
    {"length", LengthFilter},
    {"list", List},
    {"map", Map},
    {"max", Extreme<true>},
    {"min", Extreme<false>},
    {"reject", Select<false, false>},
    {"rejectattr", Select<true, false>},
    {"reverse", Reverse},
    {"select", Select<false, true>},
    {"selectattr", Select<true, true>},
    {"slice", Slice},
    {"sort", Sort},
    {"sum", Sum},
    {"unique", Unique},
};

}  // namespace

std::span<const NamedFilter> SequenceFilters() { return kFilters; }

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

}  // namespace expertd::jinja
