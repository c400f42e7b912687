#include "engine/kv/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>

#include "engine/base/strings.h"
#include "engine/platform/cpu.h"

namespace expertd {
namespace {

using testing::HasSubstr;

constexpr KvCacheSpec kSmall = {.num_layers = 2,
                                .num_kv_heads = 2,
                                .head_dim = 20,
                                .value_dim = 20,
                                .block_size = 16,
                                .num_blocks = 3,
                                .format = KvFormat::kF32};

TEST(KvCacheTest, CountsItsBytes) {
  // K and V, two heads, rows of 20 elements in the room of 32, 16 tokens.
  EXPECT_EQ(kSmall.BlockBytesPerLayer(), 2 * 2 * 32 * 16 * 4);
  EXPECT_EQ(kSmall.BlockBytes(), 16384);
  EXPECT_EQ((*KvCache::Create(kSmall))->size_bytes(), 3 * 16384);
}

TEST(KvCacheTest, CountsTheScalesOfCodes) {
  KvCacheSpec codes = kSmall;
  codes.format = KvFormat::kInt8;

  EXPECT_EQ(codes.BlockBytesPerLayer(), 2 * 2 * 16 * (32 + 4));
}

TEST(KvCacheTest, AlignsTheTilesOfEveryFormat) {
  for (const KvFormat format : kKvFormats) {
    for (const int head_dim : {1, 20, 64, 80, 128}) {
      for (const int block_size : {16, 32, 64, 128}) {
        EXPECT_EQ(KvTileBytes(format, head_dim, block_size) % 64, 0) << KvFormatName(format) << " " << head_dim;
      }
    }
  }
}

TEST(KvCacheTest, GivesEachLayerKeysAndValuesOfItsOwn) {
  const auto cache = *KvCache::Create(kSmall);
  const int64_t part_bytes = 3 * 4096;  // three blocks of keys of one layer

  auto* const base = static_cast<std::byte*>(cache->keys(0));

  EXPECT_EQ(cache->values(0), base + part_bytes);
  EXPECT_EQ(cache->keys(1), base + 2 * part_bytes);
  EXPECT_EQ(cache->values(1), base + 3 * part_bytes);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(base) % 64, 0u);
}

TEST(KvCacheTest, GivesValuesTheirOwnWidth) {
  KvCacheSpec narrow = kSmall;
  narrow.value_dim = 7;
  const auto cache = *KvCache::Create(narrow);

  EXPECT_EQ(narrow.BlockBytesPerLayer(), 2 * 16 * 4 * (32 + 16));
  EXPECT_EQ(cache->values(0), static_cast<std::byte*>(cache->keys(0)) + 3 * 2 * 16 * 4 * 32);
  EXPECT_EQ(cache->keys(1), static_cast<std::byte*>(cache->keys(0)) + 3 * narrow.BlockBytesPerLayer());
}

TEST(KvCacheTest, KeepsTheLatentAlone) {
  const KvCacheSpec latent = {.num_layers = 3,
                              .num_kv_heads = 1,
                              .head_dim = 576,
                              .value_dim = 512,
                              .has_values = false,
                              .block_size = 32,
                              .num_blocks = 2,
                              .format = KvFormat::kBF16};
  const auto cache = *KvCache::Create(latent);

  EXPECT_EQ(latent.BlockBytesPerLayer(), 32 * 576 * 2);
  EXPECT_EQ(cache->size_bytes(), 3 * 2 * 32 * 576 * 2);
  EXPECT_EQ(cache->values(1), nullptr);
  EXPECT_EQ(cache->keys(1), static_cast<std::byte*>(cache->keys(0)) + 2 * 32 * 576 * 2);
}

TEST(KvCacheTest, TouchesNoMemoryUntilItIsWritten) {
  const int64_t before = ReadResidentMemory().current;
  KvCacheSpec large = kSmall;
  large.num_blocks = 1 << 17;  // 2 GiB

  const auto cache = KvCache::Create(large);

  ASSERT_TRUE(cache.ok()) << cache.status();
  EXPECT_LT(ReadResidentMemory().current - before, int64_t{64} << 20);
}

TEST(KvCacheTest, NamesASettingThatMakesNoSense) {
  const auto error = [](KvCacheSpec spec) {
    const auto cache = KvCache::Create(spec);
    EXPECT_EQ(cache.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(ToStdView(cache.status().message()));
  };
  KvCacheSpec bad_size = kSmall, bad_blocks = kSmall, bad_values = kSmall;
  bad_values.value_dim = 21;
  bad_size.block_size = 24;
  bad_blocks.num_blocks = 0;

  EXPECT_EQ(error(bad_size), "block_size is 24; must be 16, 32, 64 or 128");
  EXPECT_EQ(error(bad_values), "value_dim is 21; must be 1..20");
  EXPECT_EQ(error(bad_blocks), "num_blocks is 0; must be 1..2147483647");
}

TEST(KvCacheTest, SaysWhenMemoryDoesNotSuffice) {
  const KvCacheSpec absurd = {.num_layers = 4096,
                              .num_kv_heads = 4096,
                              .head_dim = 4096,
                              .value_dim = 4096,
                              .block_size = 128,
                              .num_blocks = INT32_MAX,
                              .format = KvFormat::kF32};
  KvCacheSpec too_large = kSmall;
  too_large.num_layers = 4096;
  too_large.num_blocks = INT32_MAX;

  EXPECT_EQ(KvCache::Create(absurd).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(KvCache::Create(too_large).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace expertd
