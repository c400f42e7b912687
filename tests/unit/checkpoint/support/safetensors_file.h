// Writes safetensors files for tests: well-formed ones from tensors, malformed ones from a header given as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace expertd {

// A folder that is removed with the object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

void WriteFile(const std::string& path, std::string_view content);

// 8 bytes of length, the header, the data.
std::string SafetensorsBytes(std::string_view header, std::string_view data);

struct FloatTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// A file of F32 tensors.
std::string SafetensorsBytes(const std::vector<FloatTensor>& tensors);

}  // namespace expertd
