#include "engine/text/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "absl/hash/hash.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/runtime.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

constexpr int64_t kSharedOverheadBytes = 64;
constexpr int64_t kMaxKeyWeight = 4096;
constexpr size_t kLargeTextBytes = size_t{1} << 20;

int64_t EntryBytes(const DictEntries& entries, const std::vector<uint32_t>& index) {
  return static_cast<int64_t>(entries.capacity() * sizeof(entries[0]) + index.size() * sizeof(index[0]));
}

// The order of a number against another, exact for integers that a double cannot hold.
Ordering CompareIntWithFloat(Int left, double right) {
  if (std::isnan(right)) return Ordering::kUnordered;
  constexpr double kBound = 1.5e38;  // inside 128 bits
  if (right > kBound) return Ordering::kLess;
  if (right < -kBound) return Ordering::kGreater;
  const double floor = std::floor(right);
  const Int whole = static_cast<Int>(floor);
  if (left != whole) return left < whole ? Ordering::kLess : Ordering::kGreater;
  return floor < right ? Ordering::kLess : Ordering::kEqual;
}

template <typename T>
Ordering CompareScalars(T left, T right) {
  if (left < right) return Ordering::kLess;
  if (right < left) return Ordering::kGreater;
  return left == right ? Ordering::kEqual : Ordering::kUnordered;
}

Ordering Reversed(Ordering ordering) {
  if (ordering == Ordering::kLess) return Ordering::kGreater;
  if (ordering == Ordering::kGreater) return Ordering::kLess;
  return ordering;
}

Ordering CompareNumbers(const Value& left, const Value& right) {
  if (left.is_float() && right.is_float()) return CompareScalars(left.number(), right.number());
  if (left.is_float()) return Reversed(CompareIntWithFloat(right.integer(), left.number()));
  if (right.is_float()) return CompareIntWithFloat(left.integer(), right.number());
  return CompareScalars(left.integer(), right.integer());
}

absl::StatusOr<bool> EqualDicts(Runtime& runtime, const DictObject& left, const DictObject& right) {
  if (left.entries.size() != right.entries.size()) return false;
  for (const auto& [key, value] : left.entries) {
    RETURN_IF_ERROR(runtime.Spend(2));
    ASSIGN_OR_RETURN(const Value* other, DictFind(runtime, right, key));
    if (other == nullptr) return false;
    ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, value, *other));
    if (!is_equal) return false;
  }
  return true;
}

absl::StatusOr<bool> EqualSequences(Runtime& runtime, const std::vector<Value>& left, const std::vector<Value>& right) {
  if (left.size() != right.size()) return false;
  for (size_t i = 0; i < left.size(); ++i) {
    ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, left[i], right[i]));
    if (!is_equal) return false;
  }
  return true;
}

absl::StatusOr<Ordering> CompareSequences(Runtime& runtime, const std::vector<Value>& left,
                                          const std::vector<Value>& right, std::string_view operation) {
  const size_t num_common = std::min(left.size(), right.size());
  for (size_t i = 0; i < num_common; ++i) {
    ASSIGN_OR_RETURN(const bool is_equal, Equal(runtime, left[i], right[i]));
    if (!is_equal) return Compare(runtime, left[i], right[i], operation);
  }
  return CompareScalars(left.size(), right.size());
}

// ---- repr

class ReprWriter {
 public:
  explicit ReprWriter(Runtime& runtime) : runtime_(runtime) {}

  absl::Status Write(const Value& value) {
    RETURN_IF_ERROR(runtime_.Spend(1));
    RETURN_IF_ERROR(runtime_.CanAllocate(static_cast<int64_t>(text_.size())));
    switch (value.type()) {
      case Value::Type::kMissing:
      case Value::Type::kUndefined: text_ += "Undefined"; return absl::OkStatus();
      case Value::Type::kNone: text_ += "None"; return absl::OkStatus();
      case Value::Type::kBool: text_ += value.boolean() ? "True" : "False"; return absl::OkStatus();
      case Value::Type::kInt: text_ += ReprOfInt(value.integer()); return absl::OkStatus();
      case Value::Type::kFloat: text_ += ReprOfFloat(value.number()); return absl::OkStatus();
      case Value::Type::kString: return WriteString(value.string());
      case Value::Type::kList: return WriteItems(value.items(), '[', ']');
      case Value::Type::kTuple: return WriteItems(value.items(), '(', ')');
      case Value::Type::kDict: return WriteDict(value.dict());
      case Value::Type::kObject: return WriteObject(value.object());
    }
    return absl::OkStatus();
  }

  std::string Take() && { return std::move(text_); }

 private:
  absl::Status WriteString(const StringObject& string) {
    RETURN_IF_ERROR(runtime_.Spend(static_cast<int64_t>(string.text.size()) / 8));
    // A character takes at most four times its bytes.
    if (string.text.size() > kLargeTextBytes) {
      RETURN_IF_ERROR(runtime_.CanAllocate(4 * static_cast<int64_t>(string.text.size())));
    }
    if (string.is_markup) text_ += "Markup(";
    text_ += ReprOfString(string.text);
    if (string.is_markup) text_ += ')';
    return absl::OkStatus();
  }

  absl::Status WriteItems(const std::vector<Value>& items, char open, char close) {
    Level level(runtime_);
    RETURN_IF_ERROR(level.status());
    text_ += open;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text_ += ", ";
      RETURN_IF_ERROR(Write(items[i]));
    }
    if (open == '(' && items.size() == 1) text_ += ',';
    text_ += close;
    return absl::OkStatus();
  }

  absl::Status WriteDict(const DictObject& dict) {
    Level level(runtime_);
    RETURN_IF_ERROR(level.status());
    text_ += '{';
    bool is_first = true;
    for (const auto& [key, value] : dict.entries) {
      if (!is_first) text_ += ", ";
      is_first = false;
      RETURN_IF_ERROR(Write(key));
      text_ += ": ";
      RETURN_IF_ERROR(Write(value));
    }
    text_ += '}';
    return absl::OkStatus();
  }

  absl::Status WriteObject(Object& object) {
    Level level(runtime_);
    RETURN_IF_ERROR(level.status());
    ASSIGN_OR_RETURN(const std::string repr, object.Repr(runtime_));
    text_ += repr;
    return absl::OkStatus();
  }

  Runtime& runtime_;
  std::string text_;
};

// ---- iteration

class VectorIterator final : public Iterator {
 public:
  explicit VectorIterator(Value sequence) : sequence_(std::move(sequence)) {}
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override {
    RETURN_IF_ERROR(runtime.Spend(1));
    const std::vector<Value>& items = sequence_.items();
    if (position_ >= items.size()) return std::nullopt;
    return items[position_++];
  }

 private:
  const Value sequence_;
  size_t position_ = 0;
};

class CharacterIterator final : public Iterator {
 public:
  explicit CharacterIterator(Value string) : string_(std::move(string)) {}
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override {
    const std::string& text = string_.text();
    if (offset_ >= text.size()) return std::nullopt;
    const size_t start = offset_;
    NextCodePoint(text, &offset_);
    ASSIGN_OR_RETURN(Value character, runtime.NewString(text.substr(start, offset_ - start)));
    return character;
  }

 private:
  const Value string_;
  size_t offset_ = 0;
};

class KeyIterator final : public Iterator {
 public:
  explicit KeyIterator(Value dict) : dict_(std::move(dict)) {}
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override {
    RETURN_IF_ERROR(runtime.Spend(1));
    const DictEntries& entries = dict_.dict().entries;
    if (position_ >= entries.size()) return std::nullopt;
    return entries[position_++].first;
  }

 private:
  const Value dict_;
  size_t position_ = 0;
};

class EmptyIterator final : public Iterator {
 public:
  absl::StatusOr<std::optional<Value>> Next(Runtime&) override { return std::nullopt; }
};

int64_t WeightOf(const std::vector<Value>& items) {
  int64_t weight = 1;
  for (const Value& item : items) weight = std::min<int64_t>(weight + item.weight(), int64_t{1} << 40);
  return weight;
}

// The place of `hash` in an open-addressed index where `is_match(entry)` holds, or the free place after it.
template <typename IsMatch>
size_t Probe(const std::vector<uint32_t>& index, size_t hash, IsMatch is_match) {
  const size_t mask = index.size() - 1;
  size_t place = hash & mask;
  while (index[place] != 0 && !is_match(index[place] - 1)) place = (place + 1) & mask;
  return place;
}

}  // namespace

Shared::Shared(Runtime* runtime, int64_t size_bytes, int depth)
    : runtime_(runtime), size_bytes_(size_bytes + kSharedOverheadBytes), depth_(depth) {
  if (runtime_ != nullptr) runtime_->Charge(size_bytes_);
}

Shared::~Shared() {
  if (runtime_ != nullptr) runtime_->Charge(-size_bytes_);
}

StringObject::StringObject(Runtime* runtime, std::string text_in, bool is_markup)
    : Shared(runtime, static_cast<int64_t>(text_in.capacity()), 0),
      text(std::move(text_in)),
      num_code_points(CountCodePoints(text)),
      hash(absl::HashOf(ToAbslView(text))),
      is_markup(is_markup) {}

ListObject::ListObject(Runtime* runtime, std::vector<Value> items_in, int depth, bool is_group)
    : Shared(runtime, static_cast<int64_t>(items_in.capacity() * sizeof(Value)), depth),
      items(std::move(items_in)),
      weight(WeightOf(items)),
      is_group(is_group) {}

ListObject::~ListObject() = default;

DictObject::DictObject(Runtime* runtime, DictEntries entries_in, std::vector<uint32_t> index_in, int depth)
    : Shared(runtime, EntryBytes(entries_in, index_in), depth),
      entries(std::move(entries_in)),
      index(std::move(index_in)) {}

DictObject::~DictObject() = default;

Value Value::Bool(bool value) {
  Value result(Type::kBool);
  result.scalar_.boolean = value;
  return result;
}

Value Value::Integer(Int value) {
  Value result(Type::kInt);
  result.scalar_.integer = value;
  return result;
}

Value Value::Float(double value) {
  Value result(Type::kFloat);
  result.scalar_.number = value;
  return result;
}

Value Value::FromShared(Type type, std::shared_ptr<Shared> shared) {
  Value result(type);
  result.shared_ = std::move(shared);
  return result;
}

Value Value::Constant(std::string text) {
  return FromShared(Type::kString, std::make_shared<StringObject>(nullptr, std::move(text), false));
}

int64_t Value::weight() const {
  if (is_string()) return 1 + static_cast<int64_t>(text().size()) / 32;
  return is_tuple() ? static_cast<const ListObject&>(*shared_).weight : 1;
}

bool Value::IsSameAs(const Value& other) const {
  if (type_ != other.type_) return false;
  switch (type_) {
    case Type::kMissing:
    case Type::kNone: return true;
    case Type::kBool: return boolean() == other.boolean();
    case Type::kInt: return integer() == other.integer();
    case Type::kFloat: return number() == other.number();
    default: return shared_ == other.shared_;
  }
}

// ---- objects: what a type without a behaviour answers

absl::StatusOr<std::string> Object::Repr(Runtime&) { return StrCat("<", TypeName(), " object>"); }

absl::StatusOr<std::optional<Value>> Object::Attribute(Runtime&, std::string_view) { return std::nullopt; }

absl::StatusOr<Value> Object::Call(Runtime&, CallArguments) {
  return TypeError(StrCat("'", TypeName(), "' object is not callable"));
}

absl::StatusOr<std::optional<int64_t>> Object::Length(Runtime&) { return std::nullopt; }

absl::StatusOr<IteratorPtr> Object::Iterate(Runtime&) {
  return TypeError(StrCat("'", TypeName(), "' object is not iterable"));
}

absl::StatusOr<IteratorPtr> Object::IterateReversed(Runtime&) { return IteratorPtr(); }

absl::StatusOr<std::optional<Value>> Object::Item(Runtime&, const Value&) { return std::nullopt; }

absl::StatusOr<std::optional<bool>> Object::Contains(Runtime&, const Value&) { return std::nullopt; }

absl::StatusOr<bool> Object::EqualTo(Runtime&, const Object& other) { return this == &other; }

// ---- types and truth

std::string TypeName(const Value& value) {
  switch (value.type()) {
    case Value::Type::kMissing:
    case Value::Type::kUndefined: return "Undefined";
    case Value::Type::kNone: return "NoneType";
    case Value::Type::kBool: return "bool";
    case Value::Type::kInt: return "int";
    case Value::Type::kFloat: return "float";
    case Value::Type::kString: return value.string().is_markup ? "Markup" : "str";
    case Value::Type::kList: return "list";
    case Value::Type::kTuple: return "tuple";
    case Value::Type::kDict: return "dict";
    case Value::Type::kObject: return value.object().TypeName();
  }
  return "object";
}

std::string TypeNameInMessages(const Value& value) {
  return value.is_none() ? "None" : StrCat(TypeName(value), " object");
}

absl::StatusOr<bool> Truth(Runtime& runtime, const Value& value) {
  switch (value.type()) {
    case Value::Type::kMissing:
    case Value::Type::kUndefined:
    case Value::Type::kNone: return false;
    case Value::Type::kBool: return value.boolean();
    case Value::Type::kInt: return value.integer() != 0;
    case Value::Type::kFloat: return value.number() != 0;
    case Value::Type::kString: return !value.text().empty();
    case Value::Type::kList:
    case Value::Type::kTuple: return !value.items().empty();
    case Value::Type::kDict: return !value.dict().entries.empty();
    case Value::Type::kObject: break;
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> length, value.object().Length(runtime));
  return length.has_value() ? *length != 0 : value.object().IsTruthy();
}

// ---- text forms

std::string ReprOfInt(Int value) {
  if (value == 0) return "0";
  // Digits are taken from the negative number, because the most negative one has no positive counterpart.
  const bool is_negative = value < 0;
  Int rest = is_negative ? value : -value;
  std::string digits;
  for (; rest != 0; rest /= 10) digits += static_cast<char>('0' - static_cast<int>(rest % 10));
  if (is_negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

// The shortest digits that read back as the same double; an exponent below 1e-4 and from 1e16 on, as Python writes it.
std::string ReprOfFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) return std::string(text);
  std::string digits;
  for (char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  std::string result = value < 0 || std::signbit(value) ? "-" : "";
  if (exponent < 0) {
    result += "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
    return result;
  }
  const auto num_whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= num_whole) return result + digits + std::string(num_whole - digits.size(), '0') + ".0";
  return result + digits.substr(0, num_whole) + "." + digits.substr(num_whole);
}

std::string ReprOfString(std::string_view text) {
  const bool use_double = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = use_double ? '"' : '\'';
  std::string result(1, quote);
  for (size_t offset = 0; offset < text.size();) {
    const size_t start = offset;
    const uint32_t c = NextCodePoint(text, &offset);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      result += '\\';
      result += static_cast<char>(c);
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\r') {
      result += "\\r";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c < 0x20 || c == 0x7f || (c > 0x7f && HasClass(c, CharClass::kUnprintable))) {
      result += c <= 0xff     ? absl::StrFormat("\\x%02x", c)
                : c <= 0xffff ? absl::StrFormat("\\u%04x", c)
                              : absl::StrFormat("\\U%08x", c);
    } else {
      result.append(text.substr(start, offset - start));
    }
  }
  return result += quote;
}

absl::StatusOr<std::string> Repr(Runtime& runtime, const Value& value) {
  ReprWriter writer(runtime);
  RETURN_IF_ERROR(writer.Write(value));
  return std::move(writer).Take();
}

absl::StatusOr<std::string> Str(Runtime& runtime, const Value& value) {
  if (value.is_string()) {
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(value.text().size())));
    return value.text();
  }
  if (value.is_undefined()) return std::string();
  return Repr(runtime, value);
}

// ---- equality, order, hash

absl::StatusOr<bool> Equal(Runtime& runtime, const Value& left, const Value& right) {
  RETURN_IF_ERROR(runtime.Spend(1));
  if (left.is_number() && right.is_number()) return CompareNumbers(left, right) == Ordering::kEqual;
  if (left.type() != right.type()) return false;
  if (left.shared() != nullptr && left.shared() == right.shared()) return true;
  Level level(runtime);
  RETURN_IF_ERROR(level.status());
  switch (left.type()) {
    case Value::Type::kString:
      if (left.text().size() != right.text().size()) return false;
      RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(left.text().size())));
      return left.text() == right.text();
    case Value::Type::kList:
    case Value::Type::kTuple: return EqualSequences(runtime, left.items(), right.items());
    case Value::Type::kDict: return EqualDicts(runtime, left.dict(), right.dict());
    case Value::Type::kObject: return left.object().EqualTo(runtime, right.object());
    default: return true;  // none, undefined
  }
}

absl::StatusOr<Ordering> Compare(Runtime& runtime, const Value& left, const Value& right, std::string_view operation) {
  RETURN_IF_ERROR(runtime.Spend(1));
  if (left.is_undefined()) return absl::InvalidArgumentError(left.undefined().message);
  if (right.is_undefined()) return absl::InvalidArgumentError(right.undefined().message);
  if (left.is_number() && right.is_number()) return CompareNumbers(left, right);
  if (left.is_string() && right.is_string()) {
    // The order of UTF-8 bytes is the order of code points.
    RETURN_IF_ERROR(runtime.SpendBytes(static_cast<int64_t>(std::min(left.text().size(), right.text().size()))));
    return CompareScalars<std::string_view>(left.text(), right.text());
  }
  if (left.is_sequence() && left.type() == right.type()) {
    Level level(runtime);
    RETURN_IF_ERROR(level.status());
    return CompareSequences(runtime, left.items(), right.items(), operation);
  }
  return TypeError(StrCat("'", operation, "' not supported between instances of '", TypeName(left), "' and '",
                          TypeName(right), "'"));
}

bool KeysEqual(const Value& left, const Value& right) {
  if (left.shared() != nullptr && left.shared() == right.shared()) return true;
  if (left.is_string() && right.is_string()) return left.text() == right.text();
  if (left.is_number() && right.is_number()) return CompareNumbers(left, right) == Ordering::kEqual;
  if (left.is_tuple() && right.is_tuple()) {
    return std::equal(left.items().begin(), left.items().end(), right.items().begin(), right.items().end(), KeysEqual);
  }
  if (left.is_undefined() && right.is_undefined()) return true;
  return left.IsSameAs(right);
}

absl::StatusOr<size_t> Hash(const Value& value) {
  switch (value.type()) {
    case Value::Type::kBool:
    case Value::Type::kInt: return absl::HashOf(static_cast<int64_t>(value.integer()));
    case Value::Type::kFloat: {
      const double number = value.number();
      const bool is_whole = std::abs(number) < 9e18 && number == std::floor(number);
      return is_whole ? absl::HashOf(static_cast<int64_t>(number)) : absl::HashOf(number);
    }
    case Value::Type::kString: return value.string().hash;
    case Value::Type::kTuple: {
      if (value.weight() > kMaxKeyWeight) return absl::ResourceExhaustedError("a tuple is too large to be a key");
      size_t hash = value.items().size();
      for (const Value& item : value.items()) {
        ASSIGN_OR_RETURN(const size_t item_hash, Hash(item));
        hash = absl::HashOf(hash, item_hash);
      }
      return hash;
    }
    case Value::Type::kList:
    case Value::Type::kDict: return TypeError(StrCat("unhashable type: '", TypeName(value), "'"));
    case Value::Type::kObject: return absl::HashOf(static_cast<const void*>(value.shared().get()));
    default: return absl::HashOf(static_cast<int>(value.type()));
  }
}

// ---- dicts

void DictBuilder::Place(size_t hash, uint32_t entry) {
  index_[Probe(index_, hash, [](uint32_t) { return false; })] = entry + 1;
}

void DictBuilder::Grow() {
  index_.assign(std::max<size_t>(8, index_.size() * 2), 0);
  for (size_t i = 0; i < entries_.size(); ++i) Place(hashes_[i], static_cast<uint32_t>(i));
}

absl::Status DictBuilder::Set(Value key, Value value) {
  if (runtime_ != nullptr) RETURN_IF_ERROR(runtime_->Spend(key.weight()));
  ASSIGN_OR_RETURN(const size_t hash, Hash(key));
  if ((entries_.size() + 1) * 2 > index_.size()) Grow();
  const size_t place = Probe(index_, hash, [&](uint32_t entry) { return KeysEqual(entries_[entry].first, key); });
  if (index_[place] != 0) {
    entries_[index_[place] - 1].second = std::move(value);
    return absl::OkStatus();
  }
  index_[place] = static_cast<uint32_t>(entries_.size()) + 1;
  entries_.emplace_back(std::move(key), std::move(value));
  hashes_.push_back(hash);
  return absl::OkStatus();
}

absl::StatusOr<Value> DictBuilder::Build() && {
  int depth = 0;
  for (const auto& [key, value] : entries_) depth = std::max({depth, key.depth(), value.depth()});
  if (depth + 1 > kMaxValueDepth) {
    return absl::ResourceExhaustedError(StrCat("values are nested more than ", kMaxValueDepth, " deep"));
  }
  if (runtime_ != nullptr) {
    RETURN_IF_ERROR(runtime_->CanAllocate(EntryBytes(entries_, index_)));
    RETURN_IF_ERROR(runtime_->Spend(1 + static_cast<int64_t>(entries_.size())));
  }
  return Value::FromShared(Value::Type::kDict,
                           std::make_shared<DictObject>(runtime_, std::move(entries_), std::move(index_), depth + 1));
}

absl::StatusOr<const Value*> DictFind(Runtime& runtime, const DictObject& dict, const Value& key) {
  RETURN_IF_ERROR(runtime.Spend(key.weight()));
  ASSIGN_OR_RETURN(const size_t hash, Hash(key));
  if (dict.index.empty()) return nullptr;
  const size_t place =
      Probe(dict.index, hash, [&](uint32_t entry) { return KeysEqual(dict.entries[entry].first, key); });
  return dict.index[place] == 0 ? nullptr : &dict.entries[dict.index[place] - 1].second;
}

const Value* DictFind(const DictObject& dict, std::string_view key) {
  if (dict.index.empty()) return nullptr;
  const size_t place = Probe(dict.index, absl::HashOf(ToAbslView(key)), [&](uint32_t entry) {
    const Value& other = dict.entries[entry].first;
    return other.is_string() && other.text() == key;
  });
  return dict.index[place] == 0 ? nullptr : &dict.entries[dict.index[place] - 1].second;
}

// ---- length and iteration

absl::StatusOr<std::optional<int64_t>> Length(Runtime& runtime, const Value& value) {
  switch (value.type()) {
    case Value::Type::kUndefined: return 0;
    case Value::Type::kString: return value.string().num_code_points;
    case Value::Type::kList:
    case Value::Type::kTuple: return static_cast<int64_t>(value.items().size());
    case Value::Type::kDict: return static_cast<int64_t>(value.dict().entries.size());
    case Value::Type::kObject: return value.object().Length(runtime);
    default: return std::nullopt;
  }
}

bool IsIterable(const Value& value) {
  switch (value.type()) {
    case Value::Type::kUndefined:
    case Value::Type::kString:
    case Value::Type::kList:
    case Value::Type::kTuple:
    case Value::Type::kDict: return true;
    case Value::Type::kObject: return value.object().IsIterable();
    default: return false;
  }
}

absl::StatusOr<IteratorPtr> Iterate(Runtime& runtime, const Value& value) {
  RETURN_IF_ERROR(runtime.Spend(1));
  switch (value.type()) {
    case Value::Type::kUndefined: return std::make_unique<EmptyIterator>();
    case Value::Type::kString: return std::make_unique<CharacterIterator>(value);
    case Value::Type::kList:
    case Value::Type::kTuple: return std::make_unique<VectorIterator>(value);
    case Value::Type::kDict: return std::make_unique<KeyIterator>(value);
    case Value::Type::kObject: return value.object().Iterate(runtime);
    default: return TypeError(StrCat("'", TypeName(value), "' object is not iterable"));
  }
}

absl::StatusOr<std::vector<Value>> ToVector(Runtime& runtime, const Value& value) {
  if (value.is_sequence()) {
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(value.items().size() * sizeof(Value))));
    RETURN_IF_ERROR(runtime.Spend(1 + static_cast<int64_t>(value.items().size()) / 2));
    return value.items();
  }
  ASSIGN_OR_RETURN(IteratorPtr iterator, Iterate(runtime, value));
  std::vector<Value> items;
  while (true) {
    ASSIGN_OR_RETURN(std::optional<Value> item, iterator->Next(runtime));
    if (!item.has_value()) return items;
    items.push_back(*std::move(item));
    RETURN_IF_ERROR(runtime.CanAllocate(static_cast<int64_t>(items.size() * sizeof(Value))));
  }
}

// ---- JSON

namespace {

absl::StatusOr<Value> StringFromJson(const std::string& text) {
  if (!IsValidUtf8(text)) return absl::InvalidArgumentError("a string of the chat template's input is not valid UTF-8");
  return Value::Constant(text);
}

absl::StatusOr<Value> ArrayFromJson(const Json& json, int max_depth) {
  std::vector<Value> items;
  items.reserve(json.size());
  int depth = 0;
  for (const Json& element : json) {
    ASSIGN_OR_RETURN(Value item, FromJson(element, max_depth - 1));
    depth = std::max(depth, item.depth());
    items.push_back(std::move(item));
  }
  return Value::FromShared(Value::Type::kList, std::make_shared<ListObject>(nullptr, std::move(items), depth + 1));
}

absl::StatusOr<Value> ObjectFromJson(const Json& json, int max_depth) {
  DictBuilder builder(nullptr);
  for (const auto& [name, element] : json.items()) {
    ASSIGN_OR_RETURN(Value key, StringFromJson(name));
    ASSIGN_OR_RETURN(Value value, FromJson(element, max_depth - 1));
    RETURN_IF_ERROR(builder.Set(std::move(key), std::move(value)));
  }
  return std::move(builder).Build();
}

}  // namespace

absl::StatusOr<Value> FromJson(const Json& json, int max_depth) {
  if (max_depth <= 0) return absl::InvalidArgumentError("the chat template's input is nested too deep");
  switch (json.type()) {
    case Json::value_t::null: return Value::None();
    case Json::value_t::boolean: return Value::Bool(json.get<bool>());
    case Json::value_t::number_integer: return Value::Integer(json.get<int64_t>());
    case Json::value_t::number_unsigned: return Value::Integer(static_cast<Int>(json.get<uint64_t>()));
    case Json::value_t::number_float: return Value::Float(json.get<double>());
    case Json::value_t::string: return StringFromJson(json.get_ref<const std::string&>());
    case Json::value_t::array: return ArrayFromJson(json, max_depth);
    case Json::value_t::object: return ObjectFromJson(json, max_depth);
    default: return absl::InvalidArgumentError("the chat template's input holds binary data");
  }
}

}  // namespace expertd::jinja
