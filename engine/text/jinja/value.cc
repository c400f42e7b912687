#include "engine/text/jinja/value.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/runtime.h"
#include "engine/text/jinja/unicode.h"

namespace expertd::jinja {
namespace {

constexpr int64_t kSharedOverheadBytes = 64;

int64_t EntryBytes(const DictEntries& entries, const std::vector<uint32_t>& index) {
  return static_cast<int64_t>(entries.capacity() * sizeof(entries[0]) + index.size() * sizeof(index[0]));
}

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

class ItemsIterator final : public Iterator {
 public:
  explicit ItemsIterator(std::vector<Value> items) : items_(std::move(items)) {}
  absl::StatusOr<std::optional<Value>> Next(Runtime& runtime) override {
    RETURN_IF_ERROR(runtime.Spend(1));
    if (position_ >= items_.size()) return std::nullopt;
    return items_[position_++];
  }

 private:
  const std::vector<Value> items_;
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

IteratorPtr IterateItems(std::vector<Value> items) { return std::make_unique<ItemsIterator>(std::move(items)); }

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
