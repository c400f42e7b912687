#include "engine/checkpoint/zip_directory.h"

#include <cstdint>
#include <optional>
#include <string_view>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/weight_source.h"

namespace expertd {
namespace {

constexpr uint64_t kLocalSignature = 0x04034b50, kMemberSignature = 0x02014b50, kEndSignature = 0x06054b50;
constexpr uint64_t kEnd64Signature = 0x06064b50, kLocator64Signature = 0x07064b50;
constexpr uint64_t kLocalBytes = 30, kMemberBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr uint64_t kMaxCommentBytes = 0xffff;
constexpr uint64_t kIn64 = 0xffffffff;  // a size or an offset that stands in the ZIP64 field instead
constexpr uint64_t kField64 = 1;        // the tag of that field

using Archive = std::span<const std::byte>;

// The little-endian number of `width` bytes at `offset`, which the caller knows to lie inside.
uint64_t NumberAt(Archive archive, uint64_t offset, int width) {
  uint64_t value = 0;
  for (int i = 0; i < width; ++i) value |= std::to_integer<uint64_t>(archive[offset + i]) << (8 * i);
  return value;
}

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(StrCat("not a readable ZIP archive: ", what));
}

// Where the central directory lies: its members' headers one after the other.
struct Central {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// The end record is the last thing of the file but for a comment.
std::optional<uint64_t> FindEndRecord(Archive archive) {
  if (archive.size() < kEndBytes) return std::nullopt;
  const uint64_t last = archive.size() - kEndBytes;
  const uint64_t first = last > kMaxCommentBytes ? last - kMaxCommentBytes : 0;
  for (uint64_t offset = last + 1; offset-- > first;) {
    if (NumberAt(archive, offset, 4) == kEndSignature && NumberAt(archive, offset + 20, 2) == last - offset) {
      return offset;
    }
  }
  return std::nullopt;
}

absl::StatusOr<Central> FindCentral(Archive archive) {
  const std::optional<uint64_t> end = FindEndRecord(archive);
  if (!end) return Malformed("there is no end record");
  uint64_t limit = *end;
  uint64_t size = NumberAt(archive, *end + 12, 4), begin = NumberAt(archive, *end + 16, 4);
  const bool has_64 = *end >= kLocator64Bytes &&
                      NumberAt(archive, *end - kLocator64Bytes, 4) == kLocator64Signature;
  if (has_64) {
    const uint64_t locator = *end - kLocator64Bytes;
    limit = NumberAt(archive, locator + 8, 8);
    if (limit > locator || locator - limit < kEnd64Bytes || NumberAt(archive, limit, 4) != kEnd64Signature) {
      return Malformed("the ZIP64 end record is not where its locator says");
    }
    size = NumberAt(archive, limit + 40, 8);
    begin = NumberAt(archive, limit + 48, 8);
  }
  if (begin > limit || size > limit - begin) return Malformed("the directory does not lie before its end record");
  return Central{begin, begin + size};
}

// One member as the central directory has it.
struct Member {
  std::string name;
  uint64_t packed_bytes = 0;
  uint64_t size_bytes = 0;
  uint64_t header = 0;  // offset of the local one
  uint64_t end = 0;     // of this entry of the directory
};

// Fills in the numbers that stand in the ZIP64 field, one of the extra fields [begin, end).
absl::Status ReadField64(Archive archive, uint64_t begin, uint64_t end, Member& member) {
  while (end - begin >= 4) {
    const uint64_t tag = NumberAt(archive, begin, 2);
    uint64_t left = NumberAt(archive, begin + 2, 2);
    begin += 4;
    if (left > end - begin) return Malformed(StrCat("an extra field of ", ShowName(member.name), " is cut short"));
    if (tag != kField64) {
      begin += left;
      continue;
    }
    for (uint64_t* const number : {&member.size_bytes, &member.packed_bytes, &member.header}) {
      if (*number != kIn64) continue;
      if (left < 8) return Malformed(StrCat("the ZIP64 field of ", ShowName(member.name), " is cut short"));
      *number = NumberAt(archive, begin, 8);
      begin += 8;
      left -= 8;
    }
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::StatusOr<Member> ReadMember(Archive archive, uint64_t offset, uint64_t end) {
  if (end - offset < kMemberBytes || NumberAt(archive, offset, 4) != kMemberSignature) {
    return Malformed(StrCat("byte ", offset, " of the directory is no member"));
  }
  const uint64_t flags = NumberAt(archive, offset + 8, 2), method = NumberAt(archive, offset + 10, 2);
  const uint64_t name_bytes = NumberAt(archive, offset + 28, 2), extra_bytes = NumberAt(archive, offset + 30, 2);
  const uint64_t comment_bytes = NumberAt(archive, offset + 32, 2);
  const uint64_t name = offset + kMemberBytes;
  if (name_bytes + extra_bytes + comment_bytes > end - name) return Malformed("the directory is cut short");
  Member member;
  member.name.assign(reinterpret_cast<const char*>(archive.data() + name), name_bytes);
  member.packed_bytes = NumberAt(archive, offset + 20, 4);
  member.size_bytes = NumberAt(archive, offset + 24, 4);
  member.header = NumberAt(archive, offset + 42, 4);
  member.end = name + name_bytes + extra_bytes + comment_bytes;
  if ((flags & 1) != 0) return absl::UnimplementedError(StrCat("member ", ShowName(member.name), " is encrypted"));
  if (method != 0) return absl::UnimplementedError(StrCat("member ", ShowName(member.name), " is compressed"));
  RETURN_IF_ERROR(ReadField64(archive, name + name_bytes, name + name_bytes + extra_bytes, member));
  if (member.packed_bytes != member.size_bytes) {
    return Malformed(StrCat("member ", ShowName(member.name), " is stored but has two sizes"));
  }
  return member;
}

// The bytes of a member: behind its local header, whose sizes may be missing, and before the directory.
absl::StatusOr<Archive> BytesOf(Archive archive, const Member& member, uint64_t limit) {
  const absl::Status outside = Malformed(StrCat("member ", ShowName(member.name), " does not lie inside"));
  if (member.header > limit || limit - member.header < kLocalBytes) return outside;
  if (NumberAt(archive, member.header, 4) != kLocalSignature) return outside;
  const uint64_t skipped =
      kLocalBytes + NumberAt(archive, member.header + 26, 2) + NumberAt(archive, member.header + 28, 2);
  if (skipped > limit - member.header || member.size_bytes > limit - member.header - skipped) return outside;
  return archive.subspan(member.header + skipped, member.size_bytes);
}

}  // namespace

absl::StatusOr<ZipDirectory> ReadZipDirectory(std::span<const std::byte> archive) {
  ASSIGN_OR_RETURN(const Central central, FindCentral(archive));
  ZipDirectory directory;
  for (uint64_t offset = central.begin; offset < central.end;) {
    ASSIGN_OR_RETURN(Member member, ReadMember(archive, offset, central.end));
    ASSIGN_OR_RETURN(const Archive bytes, BytesOf(archive, member, central.begin));
    offset = member.end;
    const std::string shown = ShowName(member.name);
    if (!directory.emplace(std::move(member.name), bytes).second) return Malformed(StrCat("two members ", shown));
  }
  return directory;
}

}  // namespace expertd
