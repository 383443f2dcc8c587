// Read-only mappings of checkpoint files.

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include <sys/mman.h>
#include <sys/stat.h>

#include "errors.h"
#include "handles.h"

namespace guildhall::binding {

namespace {

constexpr int64_t kMaxMapping = int64_t{1} << 46;

void* mapReadOnly(int fd, int64_t length) {
  struct stat status{};
  if (fstat(fd, &status) != 0) failRange("fd", std::string("is not an open file: ") + std::strerror(errno));
  if (!S_ISREG(status.st_mode)) failRange("fd", "is not a regular file");
  if (status.st_size < length) {
    failRange("length", std::to_string(length) + " bytes of a file of " + std::to_string(status.st_size));
  }
  void* const data = mmap(nullptr, static_cast<size_t>(length), PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) throw std::runtime_error(std::string("mmap failed: ") + std::strerror(errno));
  return data;
}

Napi::Value mapFile(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto fd = static_cast<int>(Arg(info, 0, "fd").integer(0, 0x7fffffff));
    const int64_t length = Arg(info, 1, "length").integer(1, kMaxMapping);
    void* const data = mapReadOnly(fd, length);
    const auto unmap = [length](Napi::BasicEnv, void* mapped) { munmap(mapped, static_cast<size_t>(length)); };
    try {
      return Napi::ArrayBuffer::New(env, data, static_cast<size_t>(length), unmap);
    } catch (...) {
      munmap(data, static_cast<size_t>(length));
      throw;
    }
  });
}

}  // namespace

void exportMapFile(Napi::Env env, Napi::Object exports) {
  exports.Set("mapFile", Napi::Function::New<mapFile>(env, "mapFile"));
}

}  // namespace guildhall::binding
