#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

#include "engine/forward/forward_context.h"

namespace expertd {
namespace {

TEST(ScratchArenaTest, GivesAlignedArraysThatDoNotOverlap) {
  ScratchArena arena;
  const ScratchArena::Scope scope(arena);

  float* const first = arena.Take<float>(3);
  double* const second = arena.Take<double>(100'000);
  int32_t* const third = arena.Take<int32_t>(1);

  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(second) % 64, 0u);
  std::memset(second, 0xff, 100'000 * sizeof(double));
  first[2] = 1.0f;
  *third = 7;
  EXPECT_EQ(first[2], 1.0f);
  EXPECT_EQ(*third, 7);
}

TEST(ScratchArenaTest, GivesMemoryOfAnEndedScopeAgain) {
  ScratchArena arena;
  const ScratchArena::Scope outer(arena);
  float* before = nullptr;
  {
    const ScratchArena::Scope inner(arena);
    before = arena.Take<float>(10);
  }

  EXPECT_EQ(arena.Take<float>(10), before);
}

TEST(ScratchArenaTest, DoesNotGrowWhenTheSameStepComesAgain) {
  ScratchArena arena;
  const auto step = [&] {
    const ScratchArena::Scope scope(arena);
    for (int i = 0; i < 20; ++i) arena.Take<float>(10'000);
  };
  step();
  const int64_t capacity = arena.capacity_bytes();

  step();
  step();

  EXPECT_EQ(arena.capacity_bytes(), capacity);
  EXPECT_GE(capacity, 20 * 40'000);
}

TEST(ScratchArenaTest, KeepsWhatWasTakenWhenItGrows) {
  ScratchArena arena;
  const ScratchArena::Scope scope(arena);
  int32_t* const kept = arena.Take<int32_t>(1);
  *kept = 42;

  arena.Take<float>(10'000'000);

  EXPECT_EQ(*kept, 42);
}

TEST(ScratchArenaTest, ReservesAhead) {
  ScratchArena arena;
  ASSERT_TRUE(arena.Reserve(1 << 20).ok());

  {
    const ScratchArena::Scope scope(arena);
    arena.Take<float>(100'000);
  }

  EXPECT_EQ(arena.capacity_bytes(), 1 << 20);
}

TEST(ScratchArenaTest, SaysWhenAReservationCannotBeMet) {
  ScratchArena arena;

  EXPECT_EQ(arena.Reserve(INT64_MAX / 4).code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace expertd
