#include "errors.h"

#include <new>

#include "guildhall/error.h"

namespace guildhall::binding {

namespace {

constexpr const char* kInvalidArgument = "NATIVE_INVALID_ARGUMENT";
constexpr const char* kFailure = "NATIVE_FAILURE";

Napi::Error withCode(Napi::Env env, Napi::Error error, const char* code) {
  error.Set("code", Napi::String::New(env, code));
  return error;
}

}  // namespace

Napi::Error toJsError(Napi::Env env, std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const InvalidArgument& e) {
    if (e.kind() == InvalidArgument::Kind::kType)
      return withCode(env, Napi::TypeError::New(env, e.what()), kInvalidArgument);
    return withCode(env, Napi::RangeError::New(env, e.what()), kInvalidArgument);
  } catch (const std::bad_alloc&) {
    return withCode(env, Napi::Error::New(env, "out of memory"), kFailure);
  } catch (const std::exception& e) {
    return withCode(env, Napi::Error::New(env, e.what()), kFailure);
  } catch (...) {
    return withCode(env, Napi::Error::New(env, "unknown native failure"), kFailure);
  }
}

}  // namespace guildhall::binding
