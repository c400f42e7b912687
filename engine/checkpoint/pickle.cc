#include "engine/checkpoint/pickle.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/weight_source.h"

namespace expertd {
namespace {

// A checkpoint of a hundred thousand tensors has two million.
constexpr size_t kMaxValues = 4 << 20;

// Classes whose calls are mappings that entries are then set in.
constexpr std::string_view kMappings[] = {"collections.OrderedDict", "collections.defaultdict"};

// Classes that stand among the arguments of others, or whose calls are containers; all of them are data.
constexpr std::string_view kBuiltins[] = {"dict", "list", "set", "frozenset", "int", "float", "bool", "str",
                                          "bytearray", "complex", "slice", "object"};

bool IsBuiltin(std::string_view name) {
  for (const std::string_view module : {"builtins.", "__builtin__."}) {
    if (name.starts_with(module)) return std::ranges::count(kBuiltins, name.substr(module.size())) != 0;
  }
  return false;
}

// The instructions of protocol 2, and those that protocol 3 adds.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersid = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kEmptyList = ']',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDict = 'd',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kList = 'l',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyTuple = ')',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
};

}  // namespace

// The stack machine. Every step checks what it takes from the data, the stack and the memo.
class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> data, std::span<const std::string_view> classes)
      : data_(data), classes_(classes) {}

  absl::StatusOr<Pickle> Run() {
    while (!is_stopped_) {
      const size_t begin = position_;
      if (const absl::Status done = Step(); !done.ok()) {
        return absl::Status(done.code(), StrCat(ToStdView(done.message()), ", at byte ", begin, " of the pickle"));
      }
    }
    return std::move(pickle_);
  }

 private:
  using Kind = Pickle::Kind;
  using Ref = Pickle::Ref;
  using Value = Pickle::Value;

  absl::Status Step() {
    ASSIGN_OR_RETURN(const uint64_t opcode, Number(1));
    switch (opcode) {
      case kProto: return Protocol();
      case kStop: return Stop();
      case kMark: marks_.push_back(stack_.size()); return absl::OkStatus();
      case kPop: return Pop().status();
      case kPopMark: return PopToMark().status();
      case kNone: return Push({.kind = Kind::kNone});
      case kNewTrue: return Push({.kind = Kind::kBool, .integer = 1});
      case kNewFalse: return Push({.kind = Kind::kBool, .integer = 0});
      case kBinInt: return Integer(4, /*is_signed=*/true);
      case kBinInt1: return Integer(1, /*is_signed=*/false);
      case kBinInt2: return Integer(2, /*is_signed=*/false);
      case kLong1: return Long(1);
      case kLong4: return Long(4);
      case kBinFloat: return Float();
      case kBinUnicode:
      case kBinString:
      case kBinBytes: return Text(4);
      case kShortBinString:
      case kShortBinBytes: return Text(1);
      case kEmptyTuple:
      case kEmptyList: return Push({.kind = Kind::kList});
      case kEmptyDict: return Push({.kind = Kind::kDict});
      case kTuple1: return Tuple(1);
      case kTuple2: return Tuple(2);
      case kTuple3: return Tuple(3);
      case kTuple:
      case kList: return FromMark(Kind::kList);
      case kDict: return FromMark(Kind::kDict);
      case kAppend: return Add(Kind::kList, 1);
      case kSetItem: return Add(Kind::kDict, 2);
      case kAppends: return AddFromMark(Kind::kList);
      case kSetItems: return AddFromMark(Kind::kDict);
      case kBinPut: return Put(1);
      case kLongBinPut: return Put(4);
      case kBinGet: return Get(1);
      case kLongBinGet: return Get(4);
      case kGlobal: return Class();
      case kReduce:
      case kNewObj: return Call();
      case kBuild: return Build();
      case kBinPersid: return Persistent();
      default: return absl::UnimplementedError(absl::StrFormat("instruction 0x%02x is not supported", opcode));
    }
  }

  static absl::Status Malformed(std::string_view what) { return absl::InvalidArgumentError(StrCat(what)); }

  // ---- the data ----

  absl::StatusOr<std::string_view> Bytes(uint64_t count) {
    if (count > data_.size() - position_) return Malformed("the pickle is cut short");
    const auto* const begin = reinterpret_cast<const char*>(data_.data() + position_);
    position_ += count;
    return std::string_view(begin, count);
  }

  // Little-endian.
  absl::StatusOr<uint64_t> Number(int width) {
    ASSIGN_OR_RETURN(const std::string_view bytes, Bytes(static_cast<uint64_t>(width)));
    uint64_t value = 0;
    for (int i = 0; i < width; ++i) value |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
    return value;
  }

  absl::StatusOr<std::string_view> Line() {
    const auto* const begin = reinterpret_cast<const char*>(data_.data() + position_);
    const std::string_view rest(begin, data_.size() - position_);
    const size_t size = rest.find('\n');
    if (size == std::string_view::npos) return Malformed("the pickle is cut short");
    position_ += size + 1;
    return rest.substr(0, size);
  }

  // ---- the stack ----

  absl::StatusOr<Ref> Keep(Value value) {
    if (pickle_.values_.size() >= kMaxValues) {
      return absl::ResourceExhaustedError(StrCat("the pickle has more than ", kMaxValues, " values"));
    }
    pickle_.values_.push_back(std::move(value));
    return static_cast<Ref>(pickle_.values_.size() - 1);
  }

  absl::Status Push(Value value) {
    ASSIGN_OR_RETURN(const Ref ref, Keep(std::move(value)));
    stack_.push_back(ref);
    return absl::OkStatus();
  }

  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  // Only what lies above the last mark may be taken.
  absl::StatusOr<Ref> Pop() {
    if (stack_.size() <= floor()) return Malformed("the stack is empty");
    const Ref ref = stack_.back();
    stack_.pop_back();
    return ref;
  }

  absl::StatusOr<std::vector<Ref>> PopMany(size_t count) {
    if (stack_.size() - floor() < count) return Malformed("the stack is empty");
    std::vector<Ref> refs(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return refs;
  }

  absl::StatusOr<std::vector<Ref>> PopToMark() {
    if (marks_.empty()) return Malformed("there is no mark");
    ASSIGN_OR_RETURN(std::vector<Ref> refs, PopMany(stack_.size() - marks_.back()));
    marks_.pop_back();
    return refs;
  }

  Value& at(Ref ref) { return pickle_.values_[static_cast<size_t>(ref)]; }

  // ---- the instructions ----

  absl::Status Protocol() {
    ASSIGN_OR_RETURN(const uint64_t protocol, Number(1));
    if (protocol == 2 || protocol == 3) return absl::OkStatus();
    return absl::UnimplementedError(StrCat("pickle protocol ", protocol, " is not supported; 2 and 3 are"));
  }

  absl::Status Stop() {
    ASSIGN_OR_RETURN(pickle_.root_, Pop());
    is_stopped_ = true;
    return absl::OkStatus();
  }

  absl::Status Integer(int width, bool is_signed) {
    ASSIGN_OR_RETURN(const uint64_t number, Number(width));
    const auto value = is_signed ? int64_t{static_cast<int32_t>(number)} : static_cast<int64_t>(number);
    return Push({.kind = Kind::kInt, .integer = value, .number = static_cast<double>(value)});
  }

  // Two's complement of any length.
  absl::Status Long(int length_width) {
    ASSIGN_OR_RETURN(const uint64_t length, Number(length_width));
    ASSIGN_OR_RETURN(const std::string_view bytes, Bytes(length));
    uint64_t bits = !bytes.empty() && (bytes.back() & 0x80) != 0 ? ~uint64_t{0} : 0;
    const double sign = bits == 0 ? 0.0 : -1.0;
    double value = sign;
    for (size_t i = bytes.size(); i-- > 0;) {
      bits = bits << 8 | static_cast<uint8_t>(bytes[i]);
      value = value * 256.0 + static_cast<uint8_t>(bytes[i]);
    }
    if (bytes.size() > sizeof(bits)) return Push({.kind = Kind::kFloat, .number = value});
    return Push({.kind = Kind::kInt, .integer = static_cast<int64_t>(bits), .number = value});
  }

  // Big-endian, unlike all others.
  absl::Status Float() {
    ASSIGN_OR_RETURN(const uint64_t bits, Number(8));
    return Push({.kind = Kind::kFloat, .number = std::bit_cast<double>(__builtin_bswap64(bits))});
  }

  absl::Status Text(int length_width) {
    ASSIGN_OR_RETURN(const uint64_t length, Number(length_width));
    ASSIGN_OR_RETURN(const std::string_view text, Bytes(length));
    return Push({.kind = Kind::kText, .text = text});
  }

  absl::Status Tuple(size_t count) {
    ASSIGN_OR_RETURN(std::vector<Ref> items, PopMany(count));
    return Push({.kind = Kind::kList, .items = std::move(items)});
  }

  absl::Status FromMark(Kind kind) {
    ASSIGN_OR_RETURN(std::vector<Ref> items, PopToMark());
    if (kind == Kind::kDict && items.size() % 2 != 0) return Malformed("a key has no value");
    return Push({.kind = kind, .items = std::move(items)});
  }

  absl::Status AddTo(Kind kind, const std::vector<Ref>& added) {
    ASSIGN_OR_RETURN(const Ref target, Pop());
    if (at(target).kind != kind) return Malformed("items are added to what takes none");
    if (kind == Kind::kDict && added.size() % 2 != 0) return Malformed("a key has no value");
    at(target).items.insert(at(target).items.end(), added.begin(), added.end());
    stack_.push_back(target);
    return absl::OkStatus();
  }

  absl::Status Add(Kind kind, size_t count) {
    ASSIGN_OR_RETURN(const std::vector<Ref> added, PopMany(count));
    return AddTo(kind, added);
  }

  absl::Status AddFromMark(Kind kind) {
    ASSIGN_OR_RETURN(const std::vector<Ref> added, PopToMark());
    return AddTo(kind, added);
  }

  absl::Status Put(int width) {
    ASSIGN_OR_RETURN(const uint64_t index, Number(width));
    if (stack_.size() <= floor()) return Malformed("the stack is empty");
    if (memo_.size() >= kMaxValues) {
      return absl::ResourceExhaustedError(StrCat("the pickle has more than ", kMaxValues, " memos"));
    }
    memo_[index] = stack_.back();
    return absl::OkStatus();
  }

  absl::Status Get(int width) {
    ASSIGN_OR_RETURN(const uint64_t index, Number(width));
    const auto found = memo_.find(index);
    if (found == memo_.end()) return Malformed(StrCat("there is no memo ", index));
    stack_.push_back(found->second);
    return absl::OkStatus();
  }

  absl::Status Class() {
    ASSIGN_OR_RETURN(const std::string_view module, Line());
    ASSIGN_OR_RETURN(const std::string_view name, Line());
    const std::string full = StrCat(module, ".", name);
    const std::string_view known = KnownClass(full);
    if (known.empty()) return absl::UnimplementedError(StrCat("class ", ShowName(full), " is not read as data"));
    return Push({.kind = Kind::kClass, .text = known});
  }

  // The name as it outlives the call; empty when the class is unknown.
  std::string_view KnownClass(std::string_view name) const {
    for (const std::string_view known : classes_) {
      if (known == name) return known;
    }
    for (const std::string_view known : kMappings) {
      if (known == name) return known;
    }
    return IsBuiltin(name) ? "builtin" : "";
  }

  absl::Status Call() {
    ASSIGN_OR_RETURN(const Ref arguments, Pop());
    ASSIGN_OR_RETURN(const Ref callee, Pop());
    if (at(callee).kind != Kind::kClass || at(arguments).kind != Kind::kList) {
      return Malformed("what is called is no class, or its arguments are no tuple");
    }
    if (std::ranges::count(kMappings, at(callee).text) != 0) return Push({.kind = Kind::kDict});
    return Push({.kind = Kind::kObject, .arguments = arguments, .text = at(callee).text});
  }

  // The attributes of a mapping are of no use to us.
  absl::Status Build() {
    ASSIGN_OR_RETURN(const Ref state, Pop());
    ASSIGN_OR_RETURN(const Ref object, Pop());
    const Kind kind = at(object).kind;
    if (kind != Kind::kObject && kind != Kind::kDict) return Malformed("a state is given to what is no object");
    if (kind == Kind::kObject) at(object).state = state;
    stack_.push_back(object);
    return absl::OkStatus();
  }

  absl::Status Persistent() {
    ASSIGN_OR_RETURN(const Ref names, Pop());
    if (at(names).kind != Kind::kList) return Malformed("a persistent object is not named by a tuple");
    return Push({.kind = Kind::kPersistent, .arguments = names});
  }

  const std::span<const std::byte> data_;
  const std::span<const std::string_view> classes_;
  size_t position_ = 0;
  bool is_stopped_ = false;
  Pickle pickle_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  absl::flat_hash_map<uint64_t, Ref> memo_;
};

absl::StatusOr<Pickle> Pickle::Read(std::span<const std::byte> data, std::span<const std::string_view> classes) {
  return PickleMachine(data, classes).Run();
}

const Pickle::Value* Pickle::Find(const Value& dict, std::string_view key) const {
  if (dict.kind != Kind::kDict) return nullptr;
  for (size_t i = dict.items.size(); i >= 2; i -= 2) {
    const Value& name = at(dict.items[i - 2]);
    if (name.kind == Kind::kText && name.text == key) return &at(dict.items[i - 1]);
  }
  return nullptr;
}

}  // namespace expertd
