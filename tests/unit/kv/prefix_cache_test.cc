#include "engine/kv/prefix_cache.h"

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int32_t kBlockSize = 4;

// What a sequence is to the cache: tokens and blocks.
struct Holder {
  std::vector<int32_t> tokens;
  std::string salt;
  std::vector<BlockKey> keys;
  std::vector<BlockRef> blocks;

  PrefixView view() { return {tokens, salt, &keys}; }
  std::vector<int32_t> ids() const {
    std::vector<int32_t> ids;
    for (const BlockRef& block : blocks) ids.push_back(block.id());
    return ids;
  }
  // From the last to the first, as the scheduler does.
  void Free() {
    while (!blocks.empty()) blocks.pop_back();
  }
};

std::vector<int32_t> Tokens(int32_t first, int32_t count) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// A sequence that has computed all its tokens and published its full blocks.
Holder Compute(BlockPool& pool, PrefixCache& cache, std::vector<int32_t> tokens, std::string salt = "") {
  Holder holder{std::move(tokens), std::move(salt), {}, {}};
  while (holder.blocks.size() * kBlockSize < holder.tokens.size()) holder.blocks.push_back(pool.Take());
  for (size_t i = 0; (i + 1) * kBlockSize <= holder.tokens.size(); ++i) {
    cache.Publish(holder.view(), static_cast<int32_t>(i), holder.blocks);
  }
  return holder;
}

std::vector<int32_t> MatchedIds(PrefixCache& cache, std::vector<int32_t> tokens, std::string salt = "") {
  Holder holder{std::move(tokens), std::move(salt), {}, {}};
  holder.blocks = cache.Match(holder.view());
  return holder.ids();
}

TEST(PrefixCacheTest, FindsTheLongestRunOfFullBlocks) {
  BlockPool pool(8);
  PrefixCache cache(&pool, kBlockSize);
  const Holder first = Compute(pool, cache, Tokens(0, 14));

  std::vector<int32_t> tokens = Tokens(0, 20);
  tokens[9] = 99;

  EXPECT_THAT(MatchedIds(cache, tokens), ElementsAre(0, 1));
  EXPECT_THAT(MatchedIds(cache, Tokens(0, 20)), ElementsAre(0, 1, 2));
  EXPECT_THAT(MatchedIds(cache, Tokens(1, 20)), IsEmpty());
}

TEST(PrefixCacheTest, NeverReturnsTheBlockOfTheLastToken) {
  BlockPool pool(8);
  PrefixCache cache(&pool, kBlockSize);
  const Holder first = Compute(pool, cache, Tokens(0, 8));

  EXPECT_THAT(MatchedIds(cache, Tokens(0, 8)), ElementsAre(0));
  EXPECT_THAT(MatchedIds(cache, Tokens(0, 9)), ElementsAre(0, 1));
  EXPECT_THAT(MatchedIds(cache, Tokens(0, 4)), IsEmpty());
  EXPECT_THAT(MatchedIds(cache, {}), IsEmpty());
  Holder second{Tokens(0, 8), "", {}, {}};
  EXPECT_EQ(cache.Find(second.view()).num_blocks, 1);
}

TEST(PrefixCacheTest, UnlikeSaltsShareNothing) {
  BlockPool pool(8);
  PrefixCache cache(&pool, kBlockSize);
  const Holder first = Compute(pool, cache, Tokens(0, 8), "tenant-a");

  EXPECT_THAT(MatchedIds(cache, Tokens(0, 9), "tenant-a"), ElementsAre(0, 1));
  EXPECT_THAT(MatchedIds(cache, Tokens(0, 9), "tenant-b"), IsEmpty());
  EXPECT_THAT(MatchedIds(cache, Tokens(0, 9)), IsEmpty());
}

TEST(PrefixCacheTest, EqualTokensBehindUnlikePrefixesShareNothing) {
  BlockPool pool(8);
  PrefixCache cache(&pool, kBlockSize);
  const Holder first = Compute(pool, cache, {1, 1, 1, 1, 7, 7, 7, 7});
  const Holder second = Compute(pool, cache, {2, 2, 2, 2});

  EXPECT_THAT(MatchedIds(cache, {2, 2, 2, 2, 7, 7, 7, 7, 0}), ElementsAre(2));
  EXPECT_THAT(MatchedIds(cache, {7, 7, 7, 7, 0}), IsEmpty());
}

TEST(PrefixCacheTest, EqualTokensOfUnlikeSaltsOrPrefixesStayFindableSideBySide) {
  BlockPool pool(8);
  PrefixCache cache(&pool, kBlockSize);
  const Holder a = Compute(pool, cache, {1, 1, 1, 1, 7, 7, 7, 7}, "a");
  const Holder b = Compute(pool, cache, {1, 1, 1, 1, 7, 7, 7, 7}, "b");
  const Holder c = Compute(pool, cache, {2, 2, 2, 2, 7, 7, 7, 7}, "a");

  EXPECT_THAT(MatchedIds(cache, {1, 1, 1, 1, 7, 7, 7, 7, 0}, "a"), ElementsAre(0, 1));
  EXPECT_THAT(MatchedIds(cache, {1, 1, 1, 1, 7, 7, 7, 7, 0}, "b"), ElementsAre(2, 3));
  EXPECT_THAT(MatchedIds(cache, {2, 2, 2, 2, 7, 7, 7, 7, 0}, "a"), ElementsAre(4, 5));
}

TEST(PrefixCacheTest, FreedBlocksStayFindableUntilTaken) {
  BlockPool pool(3);
  PrefixCache cache(&pool, kBlockSize);
  Holder first = Compute(pool, cache, Tokens(0, 12));

  first.Free();
  const std::vector<int32_t> after_free = MatchedIds(cache, Tokens(0, 13));
  std::vector<BlockRef> others;
  others.push_back(pool.Take());  // matching freed them in order of position, so the first goes first
  const std::vector<int32_t> after_take = MatchedIds(cache, Tokens(0, 13));

  EXPECT_THAT(after_free, ElementsAre(0, 1, 2));
  EXPECT_THAT(after_take, IsEmpty());
  EXPECT_EQ(cache.num_findable(), 2);
}

TEST(PrefixCacheTest, EvictsTheEndOfAChainFirst) {
  BlockPool pool(3);
  PrefixCache cache(&pool, kBlockSize);
  Holder first = Compute(pool, cache, Tokens(0, 12));

  first.Free();
  const BlockRef other = pool.Take();

  EXPECT_EQ(other.id(), 2);
  EXPECT_THAT(MatchedIds(cache, Tokens(0, 13)), ElementsAre(0, 1));
}

TEST(PrefixCacheTest, FindCountsBlocksThatNobodyHolds) {
  BlockPool pool(4);
  PrefixCache cache(&pool, kBlockSize);
  Holder first = Compute(pool, cache, Tokens(0, 12));
  const BlockRef held = first.blocks[0].Share();
  first.Free();

  Holder second{Tokens(0, 13), "", {}, {}};
  const PrefixCache::Hit hit = cache.Find(second.view());

  EXPECT_EQ(hit.num_blocks, 3);
  EXPECT_EQ(hit.num_free_blocks, 2);
}

TEST(PrefixCacheTest, KeepsOneOfTwoEqualBlocksComputedAtOnce) {
  BlockPool pool(6);
  PrefixCache cache(&pool, kBlockSize);
  const Holder first = Compute(pool, cache, Tokens(0, 8));

  const Holder second = Compute(pool, cache, Tokens(0, 9));

  EXPECT_THAT(first.ids(), ElementsAre(0, 1));
  EXPECT_THAT(second.ids(), ElementsAre(0, 1, 4));
  EXPECT_EQ(pool.num_refs(0), 2);
  EXPECT_EQ(pool.num_used(), 3);  // the second's own copies are free again
}

TEST(PrefixCacheTest, PublishingTwiceChangesNothing) {
  BlockPool pool(2);
  PrefixCache cache(&pool, kBlockSize);
  Holder first = Compute(pool, cache, Tokens(0, 4));

  cache.Publish(first.view(), 0, first.blocks);

  EXPECT_EQ(cache.num_findable(), 1);
  EXPECT_EQ(pool.num_refs(0), 1);
}

TEST(PrefixCacheTest, ABlockWhoseParentWasEvictedIsReplacedByItsEqual) {
  // Given the second block of a chain whose first was evicted (freed in the wrong order).
  BlockPool pool(4);
  PrefixCache cache(&pool, kBlockSize);
  Holder first = Compute(pool, cache, Tokens(0, 8));
  first.blocks[0].Reset();
  std::vector<BlockRef> others;
  for (int i = 0; i < 3; ++i) others.push_back(pool.Take());
  ASSERT_EQ(cache.num_findable(), 1);
  others.clear();

  // When the chain is computed again.
  const Holder second = Compute(pool, cache, Tokens(0, 8));

  // Then the new second block is the one found: the old one hangs on a publication that is gone.
  EXPECT_THAT(MatchedIds(cache, Tokens(0, 9)), ElementsAre(second.blocks[0].id(), second.blocks[1].id()));
  EXPECT_NE(second.blocks[1].id(), first.blocks[1].id());
  EXPECT_EQ(cache.num_findable(), 2);
}

TEST(PrefixCacheTest, KeysDependOnTheSecret) {
  BlockPool pool_a(2), pool_b(2), pool_c(2);
  PrefixCache::Secret secret{};
  for (size_t i = 0; i < secret.size(); ++i) secret[i] = static_cast<uint8_t>(i * 37 + 11);
  PrefixCache a(&pool_a, kBlockSize, secret), b(&pool_b, kBlockSize, secret), c(&pool_c, kBlockSize);
  Holder x{Tokens(0, 9), "", {}, {}}, y = {Tokens(0, 9), "", {}, {}}, z = {Tokens(0, 9), "", {}, {}};

  a.Find(x.view());
  b.Find(y.view());
  c.Find(z.view());

  ASSERT_EQ(x.keys.size(), 1u);  // nothing cached: the first miss ends the search
  EXPECT_EQ(x.keys, y.keys);
  EXPECT_NE(x.keys, z.keys);
}

TEST(PrefixCacheTest, ACollisionOfKeysSharesNothing) {
  // Given two unlike sequences whose keys are forced to be equal.
  BlockPool pool(4);
  PrefixCache cache(&pool, kBlockSize);
  Holder first{Tokens(0, 8), "", {{1, 1}, {2, 2}}, {}};
  for (int i = 0; i < 2; ++i) first.blocks.push_back(pool.Take());
  for (int i = 0; i < 2; ++i) cache.Publish(first.view(), i, first.blocks);
  Holder second{Tokens(50, 9), "", {{1, 1}, {2, 2}}, {}};

  // When the second looks, and then publishes its own.
  const PrefixCache::Hit hit = cache.Find(second.view());
  for (int i = 0; i < 2; ++i) second.blocks.push_back(pool.Take());
  cache.Publish(second.view(), 0, second.blocks);
  cache.Publish(first.view(), 1, first.blocks);  // the loser's chain is broken: nothing happens

  // Then it finds nothing of the first, keeps its own block, and the first's chain is no longer found.
  EXPECT_EQ(hit.num_blocks, 0);
  EXPECT_THAT(second.ids(), ElementsAre(2, 3));
  EXPECT_EQ(cache.Find(second.view()).num_blocks, 1);
  Holder third{Tokens(0, 9), "", {{1, 1}, {2, 2}}, {}};
  EXPECT_EQ(cache.Find(third.view()).num_blocks, 0);
}

}  // namespace
}  // namespace expertd
