// embedding: y = table[ids], one vector of 16 bytes a thread; 2 elements move for each of y.
// embedding_grad: dtable[v] = the sum of dy where ids = v, in the order of the ids. The numbers of the tokens are sorted by
// id: counted, scanned, put where their id begins, and ordered within an id by counting the smaller ones (integers, so that
// atomics change no result). Then a warp adds CHUNK tokens of the sorted list for a strip of columns, whatever the ids are, so
// that an id that half of the tokens have (a mask) is no longer than others; an id that reaches over a chunk's end leaves its
// parts in scratch, and a last kernel adds those in order and writes the zeros of ids that do not occur.
// Moves n d elements of dy and v d floats of dtable, the floor; what is sorted is n words.
#include "vec.cuh"

constexpr u32 CHUNK = 64;

template <class X>
__device__ __forceinline__ void embedding(const u32* ids, const X* table, X* y, u64 n, u32 d, u32 vocab) {
  each_in_rows<PIECE<X>>(n, d, [=](auto width, u64 row, u32 col) {
    constexpr int N = decltype(width)::n;
    const u32 id = ids[row];
    float v[N];
    if (id < vocab) {
      load<N>(v, table + (u64)id * d + col);
    } else {
#pragma unroll
      for (int i = 0; i < N; i++) v[i] = __int_as_float(0x7fffffff);
    }
    store<N>(y + row * d + col, v);
  });
}

extern "C" __global__ void embedding_f32(const u32* ids, const float* table, float* y, u64 n, u32 d, u32 vocab) {
  embedding(ids, table, y, n, d, vocab);
}
extern "C" __global__ void embedding_bf16(const u32* ids, const bf16* table, bf16* y, u64 n, u32 d, u32 vocab) {
  embedding(ids, table, y, n, d, vocab);
}

extern "C" __global__ void embedding_zero(u32* counts, u32 vocab) {
  const u64 v = grid_thread();
  if (v < vocab) counts[v] = 0;
}
extern "C" __global__ void embedding_count(const u32* ids, u32* counts, u32 n, u32 vocab) {
  const u64 i = grid_thread();
  if (i < n && ids[i] < vocab) atomicAdd(counts + ids[i], 1u);
}
// One block: starts [vocab + 1] = the sums of the counts before each, and a copy that the tokens will move on.
extern "C" __global__ void __launch_bounds__(1024) embedding_scan(const u32* counts, u32* starts, u32* next, u32 vocab) {
  STATIC_SHARED(u32, sums, 32);
  const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const u32 each_has = (vocab + blockDim.x - 1) / blockDim.x, first = threadIdx.x * each_has;
  const u32 end = first + each_has < vocab ? first + each_has : vocab;
  u32 mine = 0;
  for (u32 v = first; v < end; v++) mine += counts[v];
  u32 upto = mine;
  for (u32 o = 1; o < 32; o *= 2) {
    const u32 below = __shfl_up_sync(FULL_WARP, upto, o);
    if (lane >= o) upto += below;
  }
  if (lane == 31) sums[warp] = upto;
  __syncthreads();
  u32 before = upto - mine;
  for (u32 w = 0; w < warp; w++) before += sums[w];
  if (threadIdx.x == blockDim.x - 1) starts[vocab] = before + mine;
  for (u32 v = first; v < end; v++) {
    starts[v] = next[v] = before;
    before += counts[v];
  }
}
extern "C" __global__ void embedding_place(const u32* ids, u32* next, u32* tokens, u32 n, u32 vocab) {
  const u64 i = grid_thread();
  if (i < n && ids[i] < vocab) tokens[atomicAdd(next + ids[i], 1u)] = (u32)i;
}
extern "C" __global__ void embedding_order(const u32* ids, const u32* starts, const u32* tokens, u32* sorted, u32 vocab) {
  const u64 at = grid_thread();
  if (at >= starts[vocab]) return;
  const u32 token = tokens[at], id = ids[token], from = starts[id], to = starts[id + 1];
  u32 smaller = 0;
#pragma unroll 8
  for (u32 i = from; i < to; i++) smaller += tokens[i] < token ? 1 : 0;
  sorted[from + smaller] = token;
}

// The warp's number, and its strip of columns among `strips`.
struct Strip {
  u32 of, col;
  template <int N>
  __device__ __forceinline__ Strip(Width<N>, u32 strips) {
    const u64 warp = grid_thread() / 32;
    of = (u32)(warp / strips);
    col = ((u32)(warp % strips) * 32 + (threadIdx.x & 31)) * N;
  }
};

template <class X, int N>
__device__ __forceinline__ void chunk(const u32* ids, const u32* starts, const u32* sorted, const X* dy, float* dtable,
                                      float* parts, u32 d, u32 vocab, u32 strips) {
  const Strip strip(Width<N>{}, strips);
  const u64 first = (u64)strip.of * CHUNK, all = starts[vocab], end = first + CHUNK < all ? first + CHUNK : all;
  if (strip.col >= d) return;
  u64 at = first;
  while (at < end) {
    const u32 id = ids[sorted[at]], from = starts[id], to = starts[id + 1];
    const u64 stop = to < end ? to : end;
    float sum[N] = {};
#pragma unroll 4
    for (; at < stop; at++) {
      float v[N];
      load<N>(v, dy + (u64)sorted[at] * d + strip.col);
#pragma unroll
      for (int i = 0; i < N; i++) sum[i] += v[i];
    }
    // What began before this chunk is its first part, what goes on after it alone the second.
    float* whole = dtable + (u64)id * d;
    float* part = parts + ((u64)strip.of * 2 + (from < first ? 0 : 1)) * d;
    store<N>((from < first || to > end ? part : whole) + strip.col, sum);
  }
}

template <int N>
__device__ __forceinline__ void finish(const u32* starts, const float* parts, float* dtable, u32 d, u32 vocab, u32 strips) {
  const Strip strip(Width<N>{}, strips);
  if (strip.of >= vocab || strip.col >= d) return;
  const u32 from = starts[strip.of], to = starts[strip.of + 1];
  const u32 chunk = from / CHUNK, last = to == from ? chunk : (to - 1) / CHUNK;
  if (to > from && chunk == last) return;
  float sum[N] = {};
  if (to > from) {
    load<N>(sum, parts + ((u64)chunk * 2 + 1) * d + strip.col);
#pragma unroll 4
    for (u32 c = chunk + 1; c <= last; c++) {
      float v[N];
      load<N>(v, parts + (u64)c * 2 * d + strip.col);
#pragma unroll
      for (int i = 0; i < N; i++) sum[i] += v[i];
    }
  }
  store<N>(dtable + (u64)strip.of * d + strip.col, sum);
}

template <class X>
__device__ __forceinline__ void chunks(const u32* ids, const u32* starts, const u32* sorted, const X* dy, float* dtable,
                                       float* parts, u32 d, u32 vocab, u32 strips) {
  if (d % PIECE<X> == 0) {
    chunk<X, PIECE<X>>(ids, starts, sorted, dy, dtable, parts, d, vocab, strips);
  } else {
    chunk<X, 1>(ids, starts, sorted, dy, dtable, parts, d, vocab, strips);
  }
}
extern "C" __global__ void embedding_chunks_f32(const u32* ids, const u32* starts, const u32* sorted, const float* dy,
                                                float* dtable, float* parts, u32 d, u32 vocab, u32 strips) {
  chunks(ids, starts, sorted, dy, dtable, parts, d, vocab, strips);
}
extern "C" __global__ void embedding_chunks_bf16(const u32* ids, const u32* starts, const u32* sorted, const bf16* dy,
                                                 float* dtable, float* parts, u32 d, u32 vocab, u32 strips) {
  chunks(ids, starts, sorted, dy, dtable, parts, d, vocab, strips);
}
extern "C" __global__ void embedding_finish(const u32* starts, const float* parts, float* dtable, u32 d, u32 vocab,
                                            u32 strips) {
  if (d % 4 == 0) {
    finish<4>(starts, parts, dtable, d, vocab, strips);
  } else {
    finish<1>(starts, parts, dtable, d, vocab, strips);
  }
}
