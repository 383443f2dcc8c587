#pragma once

#include <string>
#include <vector>

#include "args.h"

namespace guildhall::binding {

/**
 * Bytes that a native thread reads until a promise settles. Those of a resizable buffer are refused: it could give its
 * memory back meanwhile. That it is not detached is up to the caller.
 */
ByteView steadyBytes(const Arg& arg);

/** The same for an array of them, whose elements are added to `keep`. */
std::vector<ByteView> steadyParts(const Arg& arg, std::vector<Napi::Value>& keep);

/** Throws a range error naming `path` unless there are `expected` bytes. */
void checkBytes(const std::string& path, ByteView bytes, int64_t expected);

}  // namespace guildhall::binding
