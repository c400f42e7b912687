// A look at a message's bytes before the parser sees them. Two bytes of an empty nested message become two hundred of
// memory, so what is too fine-grained is refused first; and the parser can't tell which field is wrong, but this can.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string_view>

#include "absl/status/status.h"

namespace expertd {

// Of one message, all levels together. Requests that mean something are far below.
inline constexpr int kMaxMessageParts = 100'000;      // nested messages, texts, byte strings and unknown fields
inline constexpr int kMaxMessageValues = 8 << 20;     // numbers, such as token ids
inline constexpr int kMaxMessageDepth = 100;          // as protobuf's own parser

// Whether `bytes` may be parsed as a message of `type`. InvalidArgument INVALID_PARAMETER with the path of the field
// ("chat.messages[3].parts[0].text") that is cut off, not UTF-8, nested too deep, or one too many. Linear in the size.
absl::Status CheckWire(const google::protobuf::Descriptor& type, std::string_view bytes);

}  // namespace expertd
