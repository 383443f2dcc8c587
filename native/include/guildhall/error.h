#pragma once

#include <stdexcept>
#include <string>

namespace guildhall {

/** An argument that breaks the contract. The message starts with the argument's path. */
class InvalidArgument : public std::runtime_error {
 public:
  enum class Kind { kType, kRange };

  InvalidArgument(Kind kind, const std::string& path, const std::string& problem)
      : std::runtime_error(path + ": " + problem), kind_(kind) {}

  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

/** A value of the right type that is out of range or does not fit the others. */
[[noreturn]] inline void failRange(const std::string& path, const std::string& problem) {
  throw InvalidArgument(InvalidArgument::Kind::kRange, path, problem);
}

/** A value of the wrong type or structure. */
[[noreturn]] inline void failType(const std::string& path, const std::string& problem) {
  throw InvalidArgument(InvalidArgument::Kind::kType, path, problem);
}

}  // namespace guildhall
