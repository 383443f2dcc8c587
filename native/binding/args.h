#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <napi.h>

#include "guildhall/ops/kv_layout.h"
#include "guildhall/frames.h"
#include "guildhall/packed_linear.h"
#include "guildhall/step_buffers.h"
#include "guildhall/tensor.h"

namespace guildhall::binding {

/** A JavaScript value with the path that error messages name. All conversions throw InvalidArgument. */
class Arg {
 public:
  Arg(std::string path, Napi::Value value) : path_(std::move(path)), value_(value) {}
  /** Argument `index` of a call; undefined when absent. */
  Arg(const Napi::CallbackInfo& info, size_t index, const char* name) : path_(name), value_(info[index]) {}

  const std::string& path() const { return path_; }
  Napi::Value value() const { return value_; }
  bool isNull() const { return value_.IsNull(); }

  /** A property of an object. */
  Arg field(const char* name) const;

  int64_t integer(int64_t low, int64_t high) const;
  /** 0 to 2^32 - 1. */
  uint32_t uint32() const { return static_cast<uint32_t>(integer(0, 0xffffffffll)); }
  /** A size, 0 to 2^40; the core checks what it means. */
  int64_t size() const { return integer(0, int64_t{1} << 40); }
  double number() const;
  float finiteFloat() const;
  bool boolean() const;
  uint64_t bigUint64() const;
  std::string string() const;
  /** Index of a string in a closed list. */
  size_t choice(const std::vector<const char*>& names) const;

  /** Borrowed until the JavaScript value changes or dies. */
  IntView ints() const;
  std::pair<const float*, int64_t> floats() const;
  ByteView bytes() const;

  WeightFormat weightFormat() const;
  RowFormat rowFormat() const;
  KvFormat kvFormat() const;
  CombineMode combineMode() const;
  TensorSource tensor() const;
  /** Adds the arrays that a tensor borrows. */
  void keepTensor(std::vector<Napi::Value>& keep) const;

  [[noreturn]] void failType(const char* expected) const;

 private:
  Napi::Object object() const;
  const char* kind() const;

  std::string path_;
  Napi::Value value_;
};

}  // namespace guildhall::binding
