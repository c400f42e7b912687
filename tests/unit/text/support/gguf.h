// The metadata of a GGUF file as JSON, for vocabularies that are published in no other form.
// Source: the GGUF specification (docs/gguf.md of ggml-org/ggml), version 3.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "engine/base/json.h"

namespace expertd {

class GgufMetadata {
 public:
  // `file`: a whole file, trusted; it must outlive the call of Read.
  static Json Read(const std::string& file) {
    GgufMetadata reader(file);
    EXPECT_EQ(reader.Take<uint32_t>(), 0x46554747u) << "not a GGUF file";
    EXPECT_EQ(reader.Take<uint32_t>(), 3u) << "version";
    reader.Take<uint64_t>();  // tensors
    Json metadata = Json::object();
    for (auto left = reader.Take<uint64_t>(); left > 0; --left) {
      const std::string key = reader.String();
      metadata[key] = reader.Value(reader.Take<uint32_t>());
    }
    return metadata;
  }

 private:
  explicit GgufMetadata(const std::string& file) : file_(file) {}

  template <typename T>
  T Take() {
    T value;
    std::memcpy(&value, file_.data() + offset_, sizeof(value));
    offset_ += sizeof(value);
    return value;
  }

  std::string String() {
    const auto size = Take<uint64_t>();
    offset_ += size;
    return file_.substr(offset_ - size, size);
  }

  Json Value(uint32_t type) {
    switch (type) {
      case 4:
        return Take<uint32_t>();
      case 5:
        return Take<int32_t>();
      case 6:
        return Take<float>();
      case 7:
        return Take<uint8_t>() != 0;
      case 8:
        return String();
      case 9: {
        const auto element_type = Take<uint32_t>();
        Json list = Json::array();
        for (auto left = Take<uint64_t>(); left > 0; --left) list.push_back(Value(element_type));
        return list;
      }
    }
    ADD_FAILURE() << "GGUF type " << type << " is not read here";
    return nullptr;
  }

  const std::string& file_;
  size_t offset_ = 0;
};

}  // namespace expertd
