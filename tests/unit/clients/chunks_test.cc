#include "clients/rest_shim/chunks.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

namespace expertd::rest {
namespace {

v1::StreamGenerateResponse Accepted() {
  v1::StreamGenerateResponse event;
  event.mutable_accepted()->set_id("r");
  event.mutable_accepted()->set_model("m");
  return event;
}

v1::StreamGenerateResponse Text(uint32_t index, const std::string& text) {
  v1::StreamGenerateResponse event;
  event.mutable_delta()->set_index(index);
  event.mutable_delta()->set_text(text);
  return event;
}

v1::StreamGenerateResponse Prompt(const std::string& text) {
  v1::StreamGenerateResponse event;
  event.mutable_prompt()->set_text(text);
  return event;
}

v1::StreamGenerateResponse Finished(uint32_t index) {
  v1::StreamGenerateResponse event;
  event.mutable_finished()->set_index(index);
  event.mutable_finished()->set_finish_reason(v1::FINISH_REASON_MAX_TOKENS);
  return event;
}

std::string TextOf(const std::optional<Json>& chunk) {
  return chunk.has_value() ? (*chunk)["choices"][0]["text"].get<std::string>() : "no chunk";
}

TEST(ChunksTest, OnlyOutputAndEndsMakeChunks) {
  const auto chunks = MakeChatChunks({});

  EXPECT_FALSE(chunks->ChunkOf(Accepted()).has_value());
  EXPECT_FALSE(chunks->ChunkOf(Prompt("")).has_value());
  EXPECT_FALSE(chunks->ChunkOf(Text(0, "")).has_value());  // a token whose text is still to come
  EXPECT_TRUE(chunks->ChunkOf(Text(0, "a")).has_value());
  EXPECT_TRUE(chunks->ChunkOf(Finished(0)).has_value());
}

TEST(ChunksTest, EachCandidateNamesItsRoleOnce) {
  const auto chunks = MakeChatChunks({});
  chunks->ChunkOf(Accepted());
  const auto has_role = [&](const v1::StreamGenerateResponse& event) {
    return (*chunks->ChunkOf(event))["choices"][0]["delta"].contains("role");
  };

  EXPECT_TRUE(has_role(Text(0, "a")));
  EXPECT_TRUE(has_role(Text(1, "b")));
  EXPECT_FALSE(has_role(Text(0, "c")));
  EXPECT_FALSE(has_role(Finished(1)));
}

TEST(ChunksTest, UsageIsNullUntilItsOwnChunk) {
  const auto chunks = MakeChatChunks({.is_stream = true, .include_usage = true});
  chunks->ChunkOf(Accepted());
  v1::Usage usage;
  usage.set_total_tokens(5);

  const Json chunk = *chunks->ChunkOf(Text(0, "a"));
  const Json last = chunks->UsageChunk(usage);

  EXPECT_TRUE(chunk.contains("usage") && chunk["usage"].is_null());
  EXPECT_TRUE(last["choices"].empty());
  EXPECT_EQ(last["usage"]["total_tokens"].get<int>(), 5);
}

TEST(ChunksTest, AnEchoComesOnceForEachCandidate) {
  const auto chunks = MakeCompletionChunks({}, "r", /*first_index=*/2);
  chunks->ChunkOf(Accepted());
  chunks->ChunkOf(Prompt("Say: "));

  EXPECT_EQ(TextOf(chunks->ChunkOf(Text(0, "a"))), "Say: a");
  EXPECT_EQ(TextOf(chunks->ChunkOf(Text(0, "b"))), "b");
  EXPECT_EQ(TextOf(chunks->ChunkOf(Finished(0))), "");
  EXPECT_EQ(TextOf(chunks->ChunkOf(Finished(1))), "Say: ");
  EXPECT_EQ((*chunks->ChunkOf(Finished(1)))["choices"][0]["index"].get<int>(), 3);
}

}  // namespace
}  // namespace expertd::rest
