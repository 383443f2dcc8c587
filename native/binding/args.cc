#include "args.h"

#include <cmath>
#include <tuple>

#include "guildhall/check.h"

namespace guildhall::binding {

namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

std::pair<int64_t, int64_t> shapeOf(const Arg& arg) {
  if (!arg.value().IsArray()) arg.failType("an array of two integers");
  const auto array = arg.value().As<Napi::Array>();
  if (array.Length() != 2) arg.failType("an array of two integers");
  const auto side = [&](uint32_t i) {
    return Arg(arg.path() + "[" + std::to_string(i) + "]", array.Get(i)).integer(0, int64_t{1} << 31);
  };
  const int64_t rows = side(0);
  return {rows, side(1)};
}

TensorSource::Scale scaleOf(const Arg& arg) {
  TensorSource::Scale scale;
  scale.dtype = static_cast<Dtype>(arg.field("dtype").choice({"F32", "BF16", "F16"}));
  const ByteView data = arg.field("data").bytes();
  scale.data = data.data;
  scale.dataBytes = data.size;
  std::tie(scale.rows, scale.cols) = shapeOf(arg.field("shape"));
  return scale;
}

}  // namespace

const char* Arg::kind() const {
  switch (value_.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return "a boolean";
    case napi_number:
      return "a number";
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default:
      return value_.IsArray() ? "an array" : value_.IsTypedArray() ? "another typed array" : "another object";
  }
}

void Arg::failType(const char* expected) const {
  guildhall::failType(path_, std::string("expected ") + expected + ", got " + kind());
}

Napi::Object Arg::object() const {
  if (!value_.IsObject() || value_.IsFunction()) failType("an object");
  return value_.As<Napi::Object>();
}

Arg Arg::field(const char* name) const { return Arg(path_ + "." + name, object().Get(name)); }

double Arg::number() const {
  if (!value_.IsNumber()) failType("a number");
  return value_.As<Napi::Number>().DoubleValue();
}

int64_t Arg::integer(int64_t low, int64_t high) const {
  const double value = number();
  if (!(std::fabs(value) <= kMaxSafeInteger) || value != std::trunc(value)) failRange(path_, "is not an integer");
  checkRange(path_, static_cast<int64_t>(value), low, high);
  return static_cast<int64_t>(value);
}

float Arg::finiteFloat() const {
  const auto value = static_cast<float>(number());
  if (!std::isfinite(value)) failRange(path_, "is not finite");
  return value;
}

bool Arg::boolean() const {
  if (!value_.IsBoolean()) failType("a boolean");
  return value_.As<Napi::Boolean>().Value();
}

uint64_t Arg::bigUint64() const {
  if (!value_.IsBigInt()) failType("a bigint");
  bool lossless = false;
  const uint64_t value = value_.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) failRange(path_, "is not an unsigned 64-bit integer");
  return value;
}

std::string Arg::string() const {
  if (!value_.IsString()) failType("a string");
  return value_.As<Napi::String>().Utf8Value();
}

size_t Arg::choice(const std::vector<const char*>& names) const {
  const std::string text = string();
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    if (text == names[i]) return i;
    list += std::string(i == 0 ? "" : ", ") + names[i];
  }
  failRange(path_, "is not one of " + list);
}

IntView Arg::ints() const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    failType("an Int32Array");
  const auto array = value_.As<Napi::Int32Array>();
  return {array.Data(), static_cast<int64_t>(array.ElementLength())};
}

std::pair<const float*, int64_t> Arg::floats() const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
    failType("a Float32Array");
  const auto array = value_.As<Napi::Float32Array>();
  return {array.Data(), static_cast<int64_t>(array.ElementLength())};
}

ByteView Arg::bytes() const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    failType("a Uint8Array");
  const auto array = value_.As<Napi::Uint8Array>();
  return {array.Data(), static_cast<int64_t>(array.ByteLength())};
}

WeightFormat Arg::weightFormat() const {
  return static_cast<WeightFormat>(choice({"f32", "bf16", "fp8", "q8", "q4"}));
}

RowFormat Arg::rowFormat() const { return choice({"f32", "bf16"}) == 0 ? RowFormat::kF32 : RowFormat::kBf16; }

KvFormat Arg::kvFormat() const { return static_cast<KvFormat>(choice({"f32", "bf16", "fp8"})); }

CombineMode Arg::combineMode() const {
  return choice({"exact", "partial"}) == 0 ? CombineMode::kExact : CombineMode::kPartial;
}

TensorSource Arg::tensor() const {
  TensorSource source;
  source.dtype = static_cast<Dtype>(field("dtype").choice({"F32", "BF16", "F16", "F8_E4M3", "Q8", "Q4"}));
  std::tie(source.sourceRows, source.cols) = shapeOf(field("shape"));
  const ByteView data = field("data").bytes();
  source.data = data.data;
  source.dataBytes = data.size;
  const Arg scale = field("scale");
  if (!scale.isNull()) source.scale = scaleOf(scale);
  const Arg rows = field("rows");
  if (!rows.isNull()) {
    const IntView map = rows.ints();
    if (map.size == 0) failRange(rows.path(), "is empty");
    source.rowMap = map.data;
    source.rowMapLength = map.size;
  }
  return source;
}

void Arg::keepTensor(std::vector<Napi::Value>& keep) const {
  keep.push_back(field("data").value());
  const Arg scale = field("scale");
  if (!scale.isNull()) keep.push_back(scale.field("data").value());
  const Arg rows = field("rows");
  if (!rows.isNull()) keep.push_back(rows.value());
}

}  // namespace guildhall::binding
