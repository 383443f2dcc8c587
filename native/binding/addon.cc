// Entry point. Everything that belongs to an environment is in its Instance; nothing here is static.

#include <napi.h>

#include "async.h"
#include "handles.h"

namespace guildhall::binding {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Instance(env));
  exportCoreLeases(env, exports);
  exportRuntime(env, exports);
  exportMapFile(env, exports);
  exportProbe(env, exports);
  exportPools(env, exports);
  exportStepBuffers(env, exports);
  exportEmbedding(env, exports);
  exportGatedDeltaNet(env, exports);
  exportGatedAttention(env, exports);
  exportMoe(env, exports);
  exportExpertShard(env, exports);
  exportLmHead(env, exports);
  exportForwardProgram(env, exports);
  exportSampler(env, exports);
  exportFrames(env, exports);
  exportQuantise(env, exports);
  exportCrc32c(env, exports);
  return exports;
}

}  // namespace guildhall::binding

static Napi::Object initAddon(Napi::Env env, Napi::Object exports) { return guildhall::binding::init(env, exports); }

NODE_API_MODULE(guildhall, initAddon)
