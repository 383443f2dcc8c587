#pragma once

#include <cstdint>

#include "guildhall/ops/batch.h"

namespace guildhall {

/** What the elements of KV pages are. Fp8 is OCP E4M3 with one f32 factor for each token and head, of K and of V. */
enum class KvFormat : int { kF32 = 0, kBf16 = 1, kFp8 = 2 };

/**
 * Arithmetic of attention over a pool, which also arranges its pages: f32 fused multiply-adds on every instruction set,
 * or pairwise bf16 dot products (AVX-512 BF16; bf16 and fp8 pages only).
 */
enum class KvKernel : int { kFma = 0, kDot = 1 };

/** Elements that the dot kernel loads at a time: two registers of sixteen bf16 pairs. */
constexpr int64_t kKvUnit = 64;
/** Tokens of a K unit (times two dimensions) and dimensions of a V unit (times two tokens). */
constexpr int64_t kKvUnitLanes = 32;

static inline int64_t kvElementBytes(KvFormat format) {
  return format == KvFormat::kF32 ? 4 : format == KvFormat::kBf16 ? 2 : 1;
}

/** One layer of a KV pool. Strides and offsets count bytes. */
struct KvView {
  uint8_t* base = nullptr;
  KvFormat format = KvFormat::kF32;
  KvKernel kernel = KvKernel::kFma;
  int64_t pageBytes = 0;
  /** Of the layer in a page. */
  int64_t layerOffset = 0;
  /** In a layer: K of head h at h * keyStride, V at valueStart + h * valueStride. */
  int64_t keyStride = 0;
  int64_t valueStart = 0;
  int64_t valueStride = 0;
  /** fp8: factors of head h at scaleStart + h * 512, 64 f32 of K, then 64 of V. */
  int64_t scaleStart = 0;
  int64_t numKvHeads = 0;
  int64_t headDim = 0;

  uint8_t* layer(int64_t page) const { return base + page * pageBytes + layerOffset; }
  uint8_t* keys(int64_t page, int64_t head) const { return layer(page) + head * keyStride; }
  uint8_t* values(int64_t page, int64_t head) const { return layer(page) + valueStart + head * valueStride; }
  float* scales(int64_t page, int64_t head) const {
    return reinterpret_cast<float*>(layer(page) + scaleStart) + head * 2 * kPageTokens;
  }
};

/**
 * Layout of a KV pool: pages of 64 tokens over all full-attention layers, layer after layer.
 *
 * kFma: K of all heads, each [D][64] (dimension-major), then V of all heads, each [64][D] (token-major).
 * kDot: head after head, K then V, both in units of 64 elements:
 *   K [2 halves of 32 tokens][D/2 pairs of dimensions][unit of 32 tokens x 2 dimensions], an odd D padded with zeros;
 *   V [D/32 panels][32 pairs of tokens][unit of 32 dimensions x 2 tokens], the last panel padded.
 *   A bf16 unit holds its elements in order; an fp8 unit as kvUnitByte() says.
 * fp8 layers end with the factors.
 */
struct KvLayout {
  int64_t numLayers = 0;
  int64_t numKvHeads = 0;
  int64_t headDim = 0;
  KvFormat format = KvFormat::kF32;
  KvKernel kernel = KvKernel::kFma;

  int64_t keyBytes() const {
    const int64_t dims = kernel == KvKernel::kDot ? (headDim + 1) / 2 * 2 : headDim;
    return dims * kPageTokens * kvElementBytes(format);
  }
  int64_t valueBytes() const {
    const int64_t dims =
        kernel == KvKernel::kDot ? (headDim + kKvUnitLanes - 1) / kKvUnitLanes * kKvUnitLanes : headDim;
    return dims * kPageTokens * kvElementBytes(format);
  }
  int64_t scaleBytes() const {
    return format == KvFormat::kFp8 ? int64_t{2} * kPageTokens * static_cast<int64_t>(sizeof(float)) : 0;
  }
  int64_t layerBytes() const { return numKvHeads * (keyBytes() + valueBytes() + scaleBytes()); }
  int64_t pageBytes() const { return numLayers * layerBytes(); }

  KvView view(void* base, int64_t layer) const {
    const bool dot = kernel == KvKernel::kDot;
    KvView v;
    v.base = static_cast<uint8_t*>(base);
    v.format = format;
    v.kernel = kernel;
    v.pageBytes = pageBytes();
    v.layerOffset = layer * layerBytes();
    v.keyStride = dot ? keyBytes() + valueBytes() : keyBytes();
    v.valueStart = dot ? keyBytes() : numKvHeads * keyBytes();
    v.valueStride = dot ? v.keyStride : valueBytes();
    v.scaleStart = numKvHeads * (keyBytes() + valueBytes());
    v.numKvHeads = numKvHeads;
    v.headDim = headDim;
    return v;
  }
};

/**
 * Byte of element i (lane-major pairs: 2 * lane + second) in an fp8 unit: such that interleaving the low and the high
 * bytes of the widened unit, which happens within 128-bit lanes, gives lanes 0..15 and 16..31 in order.
 */
static inline int64_t kvUnitByte(int64_t i) { return i % 32 / 8 * 16 + i / 32 * 8 + i % 8; }

}  // namespace guildhall
