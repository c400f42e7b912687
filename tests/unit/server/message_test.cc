// What callers may send as a message, and what is refused before and by the parser.
#include "server/message.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <random>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/strings.h"
#include "engine/request/errors.h"
#include "expertd/v1/inference.pb.h"
#include "expertd/v1/tokenizer.pb.h"
#include "server/wire_check.h"

namespace expertd {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;
using ::testing::HasSubstr;

constexpr size_t kNoLimit = 1 << 30;

grpc::ByteBuffer BytesOf(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

absl::Status Read(const std::string& text, Message* message) { return ReadMessage(BytesOf(text), kNoLimit, message); }

// The path of the first violation, then what is wrong; "" when there is none.
std::string FaultOf(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  const ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail{});
  EXPECT_EQ(detail.reason, "INVALID_PARAMETER");
  return detail.violations.empty() ? "" : StrCat(detail.violations[0].first, " ", detail.violations[0].second);
}

v1::GenerateRequest RichRequest() {
  v1::GenerateRequest request;
  request.set_model("m");
  for (const char* text : {"one", "två", "三"}) {
    v1::Message* message = request.mutable_chat()->add_messages();
    message->set_role(v1::ROLE_USER);
    message->add_parts()->set_text(text);
  }
  (*request.mutable_chat()->mutable_template_kwargs()->mutable_fields())["enable_thinking"].set_bool_value(true);
  request.mutable_sampling()->set_temperature(0.5f);
  request.mutable_sampling()->add_logit_bias()->set_token_id(300);
  for (const uint32_t id : {1u, 300u, 70'000u}) request.mutable_sampling()->add_allowed_token_ids(id);
  request.mutable_stop()->add_strings("\n\n");
  request.mutable_stop()->mutable_time_limit()->set_seconds(5);
  return request;
}

TEST(ReadMessageTest, ReadsWhatWriteMessageWrote) {
  const v1::GenerateRequest request = RichRequest();

  v1::GenerateRequest read;
  const absl::Status status = ReadMessage(WriteMessage(request), kNoLimit, &read);

  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(MessageDifferencer::Equals(read, request));
}

TEST(ReadMessageTest, NoBytesAreAnEmptyMessage) {
  v1::GenerateRequest read;

  EXPECT_TRUE(ReadMessage(grpc::ByteBuffer(), kNoLimit, &read).ok());
  EXPECT_TRUE(Read("", &read).ok());
}

TEST(ReadMessageTest, LimitIsTheLargestThatIsTaken) {
  const std::string bytes = RichRequest().SerializeAsString();
  v1::GenerateRequest read;

  EXPECT_TRUE(ReadMessage(BytesOf(bytes), bytes.size(), &read).ok());
  const absl::Status status = ReadMessage(BytesOf(bytes), bytes.size() - 1, &read);

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetail(status)->reason, "MESSAGE_TOO_LARGE");
}

TEST(ReadMessageTest, UnknownFieldsAreTaken) {
  v1::GenerateRequest read;

  EXPECT_TRUE(Read("\xFA\x07\x02hi\xA0\x06\x01", &read).ok());
  EXPECT_TRUE(Read("\x08\x01", &read).ok());  // the model's name as a number: another field by that tag
}

// Sets a text that is not UTF-8 in each string field below `message`, one at a time, and checks that it is found. Maps
// have a test of their own.
void ExpectEachTextIsChecked(Message& message, Message& root, const std::string& path,
                             std::vector<std::string>& checked) {
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    if (field->is_map()) continue;
    const std::string field_path =
        StrCat(path, path.empty() ? "" : ".", field->name(), field->is_repeated() ? "[0]" : "");
    if (field->type() == FieldDescriptor::TYPE_STRING) {
      if (field->is_repeated()) {
        reflection->AddString(&message, field, "a\xFF");
      } else {
        reflection->SetString(&message, field, "a\xFF");
      }
      const std::unique_ptr<Message> read(root.New());
      std::string bytes;
      {
        const google::protobuf::LogSilencer silencer;  // the writer complains too
        bytes = root.SerializeAsString();
      }
      EXPECT_EQ(FaultOf(Read(bytes, read.get())), StrCat(field_path, " is not UTF-8 at byte 1"));
      checked.push_back(field_path);
    } else if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
      Message* child = field->is_repeated() ? reflection->AddMessage(&message, field)
                                            : reflection->MutableMessage(&message, field);
      ExpectEachTextIsChecked(*child, root, field_path, checked);
    }
    reflection->ClearField(&message, field);
  }
}

TEST(ReadMessageTest, TextThatIsNotUtf8IsNamedInEveryField) {
  v1::GenerateRequest request;
  std::vector<std::string> checked;

  ExpectEachTextIsChecked(request, request, "", checked);

  EXPECT_GE(checked.size(), 30u);
  for (const char* path : {"model", "text.text", "chat.messages[0].parts[0].text", "request_id", "cache.salt",
                           "chat.messages[0].tool_calls[0].arguments_json", "structured.choices.values[0]"}) {
    EXPECT_THAT(checked, ::testing::Contains(path));
  }
}

TEST(ReadMessageTest, TextThatIsNotUtf8IsNamedInMaps) {
  v1::GenerateRequest request;
  (*request.mutable_extra()->mutable_fields())["kkk"].set_string_value("vvv");
  const std::string bytes = request.SerializeAsString();

  for (const auto& [place, path] : {std::pair("kkk", "extra.fields[0].key is not UTF-8 at byte 2"),
                                    std::pair("vvv", "extra.fields[0].value.string_value is not UTF-8 at byte 2")}) {
    std::string damaged = bytes;
    damaged[damaged.find(place) + 2] = '\xFF';
    v1::GenerateRequest read;
    EXPECT_EQ(FaultOf(Read(damaged, &read)), path);
  }
}

TEST(ReadMessageTest, IndicesOfAPathCountFromZero) {
  v1::GenerateRequest request = RichRequest();
  std::string bytes = request.SerializeAsString();
  bytes.replace(bytes.find("三"), 1, "\x80");

  v1::GenerateRequest read;
  EXPECT_EQ(FaultOf(Read(bytes, &read)), "chat.messages[2].parts[0].text is not UTF-8 at byte 0");
}

TEST(ReadMessageTest, MessageCutAnywhereIsReadOrRefusedButNeverWorse) {
  const std::string bytes = RichRequest().SerializeAsString();
  int num_refused = 0;

  for (size_t length = 0; length < bytes.size(); ++length) {
    v1::GenerateRequest read;
    const absl::Status status = Read(bytes.substr(0, length), &read);
    if (status.ok()) continue;
    FaultOf(status);
    ++num_refused;
  }

  EXPECT_GT(num_refused, static_cast<int>(bytes.size()) / 2);
}

TEST(ReadMessageTest, CutInsideAFieldNamesTheMessageThatIsCut) {
  v1::GenerateRequest read;
  const std::string inner = std::string("\x0A\x05" "ab", 4);  // a text of 5 bytes, of which 2 are there

  EXPECT_THAT(FaultOf(Read(StrCat("\x12\x04", inner), &read)), HasSubstr("text is not a well-formed message: byte 0"));
  EXPECT_EQ(FaultOf(Read("\xFF\xFF\xFF", &read)), "");  // the whole request: no field to name
  EXPECT_THAT(std::string(Read("\xFF\xFF\xFF", &read).message()), HasSubstr("byte 0 of the GenerateRequest"));
}

TEST(ReadMessageTest, WhatProtobufTakesIsTakenAndReadTheSame) {
  std::mt19937 random(20240607);
  const std::string original = RichRequest().SerializeAsString();
  const google::protobuf::LogSilencer silencer;
  int num_taken = 0;

  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = original;
    for (int change = 0; change < 3; ++change) bytes[random() % bytes.size()] = static_cast<char>(random());
    v1::GenerateRequest expected, read;
    const bool is_taken = expected.ParseFromString(bytes);
    const absl::Status status = Read(bytes, &read);
    if (!status.ok()) FaultOf(status);
    // Groups, which proto3 does not have, are the one thing that is refused beyond protobuf's own rules.
    EXPECT_TRUE(is_taken || !status.ok());
    if (!status.ok()) continue;
    ++num_taken;
    EXPECT_EQ(read.SerializeAsString(), expected.SerializeAsString());
  }

  EXPECT_GT(num_taken, 500);
}

TEST(ReadMessageTest, RandomBytesAreRefusedOrHarmless) {
  std::mt19937 random(7);
  const google::protobuf::LogSilencer silencer;

  for (int round = 0; round < 50'000; ++round) {
    std::string bytes(random() % 64, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    v1::GenerateRequest read;
    const absl::Status status = Read(bytes, &read);
    if (!status.ok()) FaultOf(status);
  }
}

std::string Repeat(std::string_view piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += piece;
  return text;
}

std::string LengthDelimited(char tag, const std::string& content) {
  std::string text(1, tag);
  for (size_t rest = content.size(); ; rest >>= 7) {
    text.push_back(static_cast<char>(rest > 127 ? rest | 128 : rest));
    if (rest <= 127) return text + content;
  }
}

TEST(ReadMessageTest, TooManyPartsAreRefusedBeforeTheyTakeMemory) {
  v1::ChatInput chat;

  EXPECT_TRUE(Read(Repeat(std::string("\x0A\x00", 2), kMaxMessageParts), &chat).ok());
  EXPECT_THAT(FaultOf(Read(Repeat(std::string("\x0A\x00", 2), kMaxMessageParts + 1), &chat)),
              HasSubstr("messages[100000] is too many"));
  // Fields that nobody knows cost as much, and so do numbers where a text belongs.
  EXPECT_THAT(FaultOf(Read(Repeat(std::string("\xFA\x07\x00", 3), kMaxMessageParts + 1), &chat)), HasSubstr("127 is"));
  EXPECT_THAT(FaultOf(Read(Repeat("\x08\x01", kMaxMessageParts + 1), &chat)), HasSubstr("is too many"));
}

TEST(ReadMessageTest, TooManyNumbersAreRefusedPackedOrNot) {
  v1::TokenInput tokens;

  EXPECT_TRUE(Read(LengthDelimited('\x0A', Repeat("\x01", kMaxMessageValues)), &tokens).ok());
  EXPECT_THAT(FaultOf(Read(LengthDelimited('\x0A', Repeat("\x01", kMaxMessageValues + 1)), &tokens)),
              HasSubstr("ids[0] is too many: a message may have 8388608 numbers"));
  EXPECT_THAT(FaultOf(Read(Repeat("\x08\x01", kMaxMessageValues + 1), &tokens)), HasSubstr("is too many"));
}

TEST(ReadMessageTest, DeepNestingIsRefusedWithItsPath) {
  // google.protobuf.Value in Value: list_value (6) of values (1).
  const auto nested = [](int depth) {
    std::string bytes;
    for (int i = 0; i < depth; ++i) bytes = LengthDelimited('\x32', LengthDelimited('\x0A', bytes));
    return bytes;
  };
  google::protobuf::Value value;

  EXPECT_TRUE(Read(nested(49), &value).ok());
  EXPECT_THAT(FaultOf(Read(nested(60), &value)), HasSubstr("is nested deeper than 100"));
  EXPECT_THAT(FaultOf(Read(nested(20'000), &value)), HasSubstr("is nested deeper than 100"));
}

TEST(ReadMessageTest, DamagedListOfNumbersIsRefused) {
  v1::TokenInput tokens;

  EXPECT_EQ(FaultOf(Read(std::string("\x0A\x02\x01\x80", 4), &tokens)), "");  // the last number has no end
}

TEST(WriteMessageTest, AnswersAboveTheLimitAreRefused) {
  v1::RenderChatResponse answer;
  answer.set_text(std::string(1000, 'x'));
  grpc::ByteBuffer bytes;

  EXPECT_TRUE(WriteMessage(answer, answer.ByteSizeLong(), &bytes).ok());
  EXPECT_EQ(bytes.Length(), answer.ByteSizeLong());
  const absl::Status status = WriteMessage(answer, answer.ByteSizeLong() - 1, &bytes);

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetail(status)->reason, "MESSAGE_TOO_LARGE");
}

TEST(HeldRequestTest, KeepsItsShareUntilItGoes) {
  ByteBudget budget(100);
  ByteBudget::Share share, more;
  ASSERT_TRUE(budget.Take(60, share));
  HeldRequest held(BytesOf(""), std::move(share), 1000);
  v1::TokenInput message;

  ASSERT_TRUE(held.Read(&message).ok());
  EXPECT_FALSE(budget.Take(41, more));  // what was read still takes room
  held = HeldRequest();

  EXPECT_TRUE(budget.Take(100, more));
}

}  // namespace
}  // namespace expertd
