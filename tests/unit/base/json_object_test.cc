#include "engine/base/json_object.h"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/base/json.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

// Sizes on both sides of the number of members from which keys are found by hash.
const int kSizes[] = {0, 1, 16, 17, 18, 100};

Json Numbered(int num_members) {
  Json object = Json::object();
  for (int i = num_members - 1; i >= 0; --i) object[StrCat("key", i)] = i;
  return object;
}

std::vector<int> Values(const Json& object) {
  std::vector<int> values;
  for (const Json& value : object) values.push_back(value.get<int>());
  return values;
}

TEST(JsonObjectTest, KeepsTheOrderOfInsertion) {
  for (const int size : kSizes) {
    std::vector<int> descending;
    for (int i = size - 1; i >= 0; --i) descending.push_back(i);

    EXPECT_EQ(Values(Numbered(size)), descending);
  }
}

TEST(JsonObjectTest, FindsEveryMemberAndNoOther) {
  for (const int size : kSizes) {
    const Json object = Numbered(size);

    for (int i = 0; i < size; ++i) EXPECT_EQ(object.at(StrCat("key", i)), i);
    EXPECT_EQ(object.find(StrCat("key", size)), object.end());
    EXPECT_FALSE(object.contains(""));
  }
}

TEST(JsonObjectTest, ReplacesAValueInItsPlace) {
  for (const int size : {2, 100}) {
    Json object = Numbered(size);

    object[StrCat("key", size - 1)] = -1;

    EXPECT_EQ(object.size(), size);
    EXPECT_EQ(object.front(), -1);
  }
}

TEST(JsonObjectTest, KeepsTheFirstOfTwoThatAreEmplaced) {
  for (const int size : {2, 100}) {
    Json object = Numbered(size);

    const auto [it, is_new] = object.emplace("key1", 500);

    EXPECT_FALSE(is_new);
    EXPECT_EQ(*it, 1);
  }
}

TEST(JsonObjectTest, ErasesByKeyAndByPlace) {
  for (const int size : {3, 16, 17, 18, 100}) {
    Json object = Numbered(size);

    object.erase("key1");
    object.erase(object.begin());
    EXPECT_EQ(object.erase("key1"), 0);
    EXPECT_EQ(object.size(), size - 2);
    EXPECT_FALSE(object.contains("key1"));
    EXPECT_FALSE(object.contains(StrCat("key", size - 1)));

    object["key1"] = 7;
    EXPECT_EQ(object.at("key1"), 7);
    EXPECT_EQ(object.back(), 7);
  }
}

TEST(JsonObjectTest, ACopyIsItsOwn) {
  for (const int size : {2, 100}) {
    Json original = Numbered(size);
    Json copy = original;

    copy["key0"] = -5;
    original.clear();

    EXPECT_EQ(copy.size(), size);
    EXPECT_EQ(copy.at("key0"), -5);
    EXPECT_EQ(copy.at("key1"), 1);
    EXPECT_FALSE(original.contains("key1"));
  }
}

TEST(JsonObjectTest, AMovedObjectTakesItsMembersAlong) {
  for (const int size : {2, 100}) {
    JsonObject<std::string, int, std::less<>, std::allocator<std::pair<const std::string, int>>> from;
    for (int i = 0; i < size; ++i) from.emplace(StrCat("key", i), i);
    const auto* const member = &*from.find("key1");

    const auto to = std::move(from);

    EXPECT_EQ(&*to.find("key1"), member);
    EXPECT_EQ(to.size(), static_cast<size_t>(size));
  }
}

TEST(JsonObjectTest, EqualityAsksForTheSameOrder) {
  EXPECT_EQ(Json::parse(R"({"a": 1, "b": 2})"), Json::parse(R"({"a": 1, "b": 2})"));
  EXPECT_NE(Json::parse(R"({"a": 1, "b": 2})"), Json::parse(R"({"b": 2, "a": 1})"));
}

}  // namespace
}  // namespace expertd
