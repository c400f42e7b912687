#include "engine/kv/block_pool.h"

#include <random>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace expertd {
namespace {

using ::testing::ElementsAre;

TEST(BlockPoolTest, HandsOutEveryBlockOnceThenNothing) {
  BlockPool pool(3);

  std::vector<BlockRef> refs;
  for (int i = 0; i < 3; ++i) refs.push_back(pool.Take());
  const BlockRef none = pool.Take();

  EXPECT_EQ(refs[0].id(), 0);
  EXPECT_EQ(refs[1].id(), 1);
  EXPECT_EQ(refs[2].id(), 2);
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(pool.num_free(), 0);
  EXPECT_EQ(pool.num_used(), 3);
}

TEST(BlockPoolTest, FreesABlockWhenItsLastClaimDies) {
  BlockPool pool(1);
  BlockRef first = pool.Take();
  BlockRef second = first.Share();

  first.Reset();
  const int free_after_first = pool.num_free();
  second = BlockRef();

  EXPECT_EQ(free_after_first, 0);
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(BlockPoolTest, MovingAClaimKeepsItsCount) {
  BlockPool pool(1);
  BlockRef first = pool.Take();

  BlockRef second = std::move(first);

  EXPECT_TRUE(first.empty());
  EXPECT_EQ(first.id(), -1);
  EXPECT_EQ(second.id(), 0);
  EXPECT_EQ(pool.num_refs(0), 1);
}

TEST(BlockPoolTest, TakesBlocksWithoutFindableContentFirst) {
  BlockPool pool(3);
  BlockRef a = pool.Take(), b = pool.Take(), c = pool.Take();
  pool.SetFindable(0, true);
  pool.SetFindable(2, true);

  a.Reset();
  b.Reset();
  c.Reset();
  const BlockRef first = pool.Take();

  EXPECT_EQ(first.id(), 1);
  EXPECT_EQ(pool.num_free_findable(), 2);
}

TEST(BlockPoolTest, EvictsFindableBlocksInTheOrderTheyWereFreed) {
  BlockPool pool(3);
  std::vector<int32_t> evicted;
  pool.SetEvictionCallback([&](int32_t id) { evicted.push_back(id); });
  BlockRef a = pool.Take(), b = pool.Take(), c = pool.Take();
  for (int32_t id = 0; id < 3; ++id) pool.SetFindable(id, true);

  c.Reset();
  a.Reset();
  b.Reset();
  std::vector<BlockRef> taken;
  for (int i = 0; i < 3; ++i) taken.push_back(pool.Take());

  EXPECT_THAT(evicted, ElementsAre(2, 0, 1));
  EXPECT_FALSE(pool.is_findable(0));
  EXPECT_EQ(pool.num_free_findable(), 0);
}

TEST(BlockPoolTest, ClaimsAFreeBlockOutOfTheMiddleOfTheFreeList) {
  BlockPool pool(3);
  BlockRef a = pool.Take(), b = pool.Take(), c = pool.Take();
  for (int32_t id = 0; id < 3; ++id) pool.SetFindable(id, true);
  a.Reset();
  b.Reset();
  c.Reset();

  const BlockRef claimed = pool.Claim(1);
  const BlockRef first = pool.Take(), second = pool.Take(), third = pool.Take();

  EXPECT_EQ(claimed.id(), 1);
  EXPECT_TRUE(pool.is_findable(1));
  EXPECT_EQ(first.id(), 0);
  EXPECT_EQ(second.id(), 2);
  EXPECT_TRUE(third.empty());
}

TEST(BlockPoolTest, ClaimingAHeldBlockSharesIt) {
  BlockPool pool(2);
  BlockRef a = pool.Take();
  pool.SetFindable(0, true);

  BlockRef shared = pool.Claim(0);
  a.Reset();

  EXPECT_EQ(pool.num_refs(0), 1);
  EXPECT_EQ(pool.num_used(), 1);
}

TEST(BlockPoolTest, CountsStayTrueThroughRandomOperations) {
  BlockPool pool(16);
  std::mt19937 random(7);
  std::vector<BlockRef> refs;
  int evictions = 0;
  pool.SetEvictionCallback([&](int32_t) { ++evictions; });

  for (int step = 0; step < 20000; ++step) {
    const int what = static_cast<int>(random() % 6);  // 4 and 5 give back, so that the pool is seldom full
    if (what == 0) {
      if (BlockRef ref = pool.Take(); !ref.empty()) refs.push_back(std::move(ref));
    } else if (what == 1 && !refs.empty()) {
      refs.push_back(refs[random() % refs.size()].Share());
    } else if (what == 2 && !refs.empty()) {
      pool.SetFindable(refs[random() % refs.size()].id(), random() % 3 != 0);
    } else if (what == 3) {
      const int32_t id = static_cast<int32_t>(random() % 16);
      if (pool.is_findable(id)) refs.push_back(pool.Claim(id));
    } else if (!refs.empty()) {
      std::swap(refs[random() % refs.size()], refs.back());
      refs.pop_back();
    }

    std::vector<int32_t> counts(16, 0);
    for (const BlockRef& ref : refs) ++counts[ref.id()];
    int used = 0, free_findable = 0;
    for (int32_t id = 0; id < 16; ++id) {
      ASSERT_EQ(pool.num_refs(id), counts[id]) << "block " << id << " step " << step;
      used += counts[id] > 0;
      free_findable += counts[id] == 0 && pool.is_findable(id);
    }
    ASSERT_EQ(pool.num_used(), used);
    ASSERT_EQ(pool.num_free(), 16 - used);
    ASSERT_EQ(pool.num_free_findable(), free_findable);
  }

  EXPECT_GT(evictions, 100);
}

}  // namespace
}  // namespace expertd
