// The object type of Json: members in the order of their first appearance, found by hash once there are many, so that
// an object of a hundred thousand members is built and searched in linear time. Used through Json only, whose library
// asks for the interface of a standard map.
#pragma once

#include <compare>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <list>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "engine/base/strings.h"

namespace expertd {

// As a standard map, but for the order. Members stay where they are in memory until they are erased. Two objects are
// equal when they have equal members in the same order. As thread-safe as a standard container. `Key` converts to
// std::string_view; `Less` is not used.
template <typename Key, typename T, typename Less, typename Allocator>
class JsonObject {
  using Members = std::list<std::pair<const Key, T>, Allocator>;

 public:
  using key_type = Key;
  using mapped_type = T;
  using value_type = typename Members::value_type;
  using size_type = typename Members::size_type;
  using iterator = typename Members::iterator;
  using const_iterator = typename Members::const_iterator;
  using key_compare = std::equal_to<>;

  JsonObject() = default;
  JsonObject(const JsonObject& other) : members_(other.members_) { IndexWhenMany(); }
  JsonObject(JsonObject&& other) noexcept { swap(other); }
  template <typename Iterator>
  JsonObject(Iterator first, Iterator last) {
    insert(first, last);
  }
  JsonObject(std::initializer_list<value_type> members) : JsonObject(members.begin(), members.end()) {}
  JsonObject& operator=(JsonObject other) noexcept {
    swap(other);
    return *this;
  }
  ~JsonObject() = default;

  void swap(JsonObject& other) noexcept {
    members_.swap(other.members_);
    index_.swap(other.index_);
  }

  iterator begin() { return members_.begin(); }
  iterator end() { return members_.end(); }
  const_iterator begin() const { return members_.begin(); }
  const_iterator end() const { return members_.end(); }
  const_iterator cbegin() const { return members_.begin(); }
  const_iterator cend() const { return members_.end(); }
  bool empty() const { return members_.empty(); }
  size_type size() const { return members_.size(); }
  size_type max_size() const { return members_.max_size(); }

  iterator find(std::string_view key) {
    if (index_ != nullptr) {
      const auto found = index_->find(ToAbslView(key));
      return found == index_->end() ? members_.end() : found->second;
    }
    auto it = members_.begin();
    while (it != members_.end() && std::string_view(it->first) != key) ++it;
    return it;
  }
  const_iterator find(std::string_view key) const { return const_cast<JsonObject*>(this)->find(key); }
  size_type count(std::string_view key) const { return find(key) == end() ? 0 : 1; }

  // A key that is here already keeps its place and its value; false says so.
  template <typename NewKey, typename Value>
  std::pair<iterator, bool> emplace(NewKey&& key, Value&& value) {
    if (const iterator it = find(std::string_view(key)); it != end()) return {it, false};
    members_.emplace_back(std::forward<NewKey>(key), std::forward<Value>(value));
    const iterator added = std::prev(members_.end());
    if (index_ != nullptr) {
      index_->emplace(ToAbslView(added->first), added);
    } else {
      IndexWhenMany();
    }
    return {added, true};
  }
  std::pair<iterator, bool> insert(const value_type& member) { return emplace(member.first, member.second); }
  std::pair<iterator, bool> insert(value_type&& member) { return emplace(member.first, std::move(member.second)); }
  template <typename Iterator>
  void insert(Iterator first, Iterator last) {
    for (; first != last; ++first) insert(*first);
  }
  template <typename NewKey>
  T& operator[](NewKey&& key) {
    return emplace(std::forward<NewKey>(key), T()).first->second;
  }

  iterator erase(iterator member) {
    if (index_ != nullptr) index_->erase(ToAbslView(member->first));
    return members_.erase(member);
  }
  iterator erase(iterator first, iterator last) {
    while (first != last) first = erase(first);
    return first;
  }
  size_type erase(std::string_view key) {
    const iterator it = find(key);
    if (it == end()) return 0;
    erase(it);
    return 1;
  }
  void clear() {
    index_.reset();
    members_.clear();
  }

  friend bool operator==(const JsonObject& a, const JsonObject& b) { return a.members_ == b.members_; }
  friend std::partial_ordering operator<=>(const JsonObject& a, const JsonObject& b) {
    return a.members_ <=> b.members_;
  }

 private:
  // Below, comparing keys one by one is quicker than hashing, and the index would outweigh the members.
  static constexpr size_type kMinIndexed = 17;

  // The keys are those in members_, which don't move.
  using Index = absl::flat_hash_map<absl::string_view, iterator>;

  void IndexWhenMany() {
    if (members_.size() < kMinIndexed) return;
    index_ = std::make_unique<Index>();
    for (iterator it = members_.begin(); it != members_.end(); ++it) index_->emplace(ToAbslView(it->first), it);
  }

  Members members_;
  std::unique_ptr<Index> index_;  // null: few members
};

}  // namespace expertd
