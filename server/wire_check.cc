#include "server/wire_check.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <optional>
#include <string>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/utf8.h"
#include "engine/request/errors.h"
#include "server/status.h"

namespace expertd {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

CodedInputStream StreamOf(std::string_view bytes) {
  return CodedInputStream(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
}

// One field of the encoding. https://protobuf.dev/programming-guides/encoding/
struct Field {
  int number = 0;
  WireFormatLite::WireType wire_type = WireFormatLite::WIRETYPE_VARINT;
  std::string_view content;  // of WIRETYPE_LENGTH_DELIMITED
};

// Takes the next field of `bytes`; false when they are no field. Groups are none either: proto3 has none.
bool ReadField(std::string_view bytes, CodedInputStream& input, Field& field) {
  const uint32_t tag = input.ReadTag();
  field.number = WireFormatLite::GetTagFieldNumber(tag);
  field.wire_type = WireFormatLite::GetTagWireType(tag);
  if (field.number == 0) return false;
  switch (field.wire_type) {
    case WireFormatLite::WIRETYPE_VARINT: {
      uint64_t value;
      return input.ReadVarint64(&value);
    }
    case WireFormatLite::WIRETYPE_FIXED32: return input.Skip(4);
    case WireFormatLite::WIRETYPE_FIXED64: return input.Skip(8);
    case WireFormatLite::WIRETYPE_LENGTH_DELIMITED: {
      int length;
      if (!input.ReadVarintSizeAsInt(&length)) return false;
      const size_t begin = static_cast<size_t>(input.CurrentPosition());
      if (static_cast<size_t>(length) > bytes.size() - begin) return false;
      field.content = bytes.substr(begin, static_cast<size_t>(length));
      return input.Skip(length);
    }
    default: return false;
  }
}

// Where a field stands; the chain goes up to the message itself.
struct Place {
  const Place* parent;
  std::string_view message;  // the bytes of the message that the field is in
  size_t offset;             // of the field in them
  const Descriptor* type;    // of the message
};

// The path as a caller writes it. Indices are counted here, so that nothing is counted where nothing is wrong.
std::string PathOf(const Place& place) {
  std::string path = place.parent == nullptr ? "" : StrCat(PathOf(*place.parent), ".");
  const int number = WireFormatLite::GetTagFieldNumber(StreamOf(place.message.substr(place.offset)).ReadTag());
  CodedInputStream input = StreamOf(place.message);
  Field field;
  int index = 0;
  while (static_cast<size_t>(input.CurrentPosition()) < place.offset && ReadField(place.message, input, field)) {
    index += field.number == number ? 1 : 0;
  }
  const FieldDescriptor* descriptor = place.type->FindFieldByNumber(number);
  if (descriptor == nullptr) return StrCat(path, number);
  StrAppend(&path, descriptor->name());
  if (descriptor->is_repeated()) StrAppend(&path, "[", index, "]");
  return path;
}

class WireChecker {
 public:
  absl::Status Walk(const Descriptor& type, std::string_view bytes, const Place* parent, int depth) {
    CodedInputStream input = StreamOf(bytes);
    Field field;
    while (static_cast<size_t>(input.CurrentPosition()) < bytes.size()) {
      const Place place{parent, bytes, static_cast<size_t>(input.CurrentPosition()), &type};
      if (!ReadField(bytes, input, field)) return Malformed(place);
      RETURN_IF_ERROR(CheckField(type.FindFieldByNumber(field.number), field, place, depth));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status CheckField(const FieldDescriptor* descriptor, const Field& field, const Place& place, int depth) {
    const bool has_content = field.wire_type == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (descriptor != nullptr && IsNumber(*descriptor)) {
      // A packed list has a byte without the high bit for each varint.
      num_values_ += has_content ? std::count_if(field.content.begin(), field.content.end(),
                                                 [](char c) { return static_cast<signed char>(c) >= 0; })
                                 : 1;
      if (num_values_ > kMaxMessageValues) return TooMany(place, kMaxMessageValues, "numbers");
      return absl::OkStatus();
    }
    if (++num_parts_ > kMaxMessageParts) return TooMany(place, kMaxMessageParts, "nested messages, texts and the like");
    if (descriptor == nullptr || !has_content) return absl::OkStatus();
    if (descriptor->type() == FieldDescriptor::TYPE_STRING) {
      const std::optional<size_t> fault = FindInvalidUtf8(field.content);
      if (fault.has_value()) return InvalidParameter(PathOf(place), StrCat("is not UTF-8 at byte ", *fault));
    }
    if (descriptor->type() != FieldDescriptor::TYPE_MESSAGE) return absl::OkStatus();
    if (depth == kMaxMessageDepth) {
      return InvalidParameter(PathOf(place), StrCat("is nested deeper than ", kMaxMessageDepth));
    }
    return Walk(*descriptor->message_type(), field.content, &place, depth + 1);
  }

  static bool IsNumber(const FieldDescriptor& descriptor) {
    const FieldDescriptor::CppType type = descriptor.cpp_type();
    return type != FieldDescriptor::CPPTYPE_STRING && type != FieldDescriptor::CPPTYPE_MESSAGE;
  }

  static absl::Status TooMany(const Place& place, int limit, std::string_view what) {
    return InvalidParameter(PathOf(place), StrCat("is too many: a message may have ", limit, " ", what));
  }

  static absl::Status Malformed(const Place& place) {
    const std::string message = StrCat("is not a well-formed message: byte ", place.offset, " of the ",
                                       place.type->name(), " begins no whole field");
    // The message itself has no path.
    if (place.parent != nullptr) return InvalidParameter(PathOf(*place.parent), message);
    return MakeError(absl::StatusCode::kInvalidArgument, StrCat("the request ", message),
                     {.reason = std::string(error_reason::kInvalidParameter)});
  }

  int64_t num_parts_ = 0;
  int64_t num_values_ = 0;
};

}  // namespace

absl::Status CheckWire(const google::protobuf::Descriptor& type, std::string_view bytes) {
  return WireChecker().Walk(type, bytes, /*parent=*/nullptr, /*depth=*/1);
}

}  // namespace expertd
