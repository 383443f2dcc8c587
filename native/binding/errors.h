#pragma once

#include <exception>
#include <string>
#include <utility>

#include <napi.h>

namespace guildhall::binding {

/** A TypeError, RangeError or Error for a native exception, with `code` NATIVE_INVALID_ARGUMENT or NATIVE_FAILURE. */
Napi::Error toJsError(Napi::Env env, std::exception_ptr error);

/** Runs a binding function's body; native exceptions become JavaScript ones. */
template <typename Body>
auto guarded(Napi::Env env, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw toJsError(env, std::current_exception());
  }
}

}  // namespace guildhall::binding
