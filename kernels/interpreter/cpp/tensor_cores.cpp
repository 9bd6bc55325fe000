// Matrix products of a warp and of a warpgroup: the lane that comes last computes for all.
#include <algorithm>
#include <cstring>
#include <memory>

#include "block.hpp"

namespace interpreter {
namespace {
float low(u32 pair) { return __uint_as_float(pair << 16); }
float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
float widened(u16 bits) { return __uint_as_float((u32)bits << 16); }

void whole(u32 lanes, const char* what) {
  if (lanes != 0xffffffffu) fail(Fault::Divergence, "%s with lanes %08x; it takes a whole warp", what, lanes);
}

struct Rows {
  u32* r;
  u32 count;
  u8* row;
  bool transposed;
};
// Calls `perform(lane's word, lower element, upper element)` for every word of every lane.
template <class Do>
void each_pair(u32 lanes, void* const* operands, const char* what, Do&& perform) {
  whole(lanes, what);
  const Rows& first = *static_cast<Rows*>(operands[0]);
  for (u32 i = 0; i < first.count; i++) {
    const auto element = [&](u32 row, u32 col) {
      return reinterpret_cast<u16*>(static_cast<Rows*>(operands[8 * i + row])->row) + col;
    };
    for (u32 lane = 0; lane < 32; lane++) {
      u32* word = static_cast<Rows*>(operands[lane])->r + i;
      const u32 g = lane / 4, t = 2 * (lane % 4);
      if (first.transposed) {
        perform(word, element(t, g), element(t + 1, g));
      } else {
        perform(word, element(g, t), element(g, t + 1));
      }
    }
  }
}
u8* matrix_row(const void* row, u32 count, bool writes, const char* what, Place place) {
  if (lane() >= 8 * count) return nullptr;  // these lanes give no address
  const u32 offset = shared_offset(row, place);
  if (offset % 16 != 0) {
    fail(Fault::Misaligned, "%s with a row at byte %u; it begins at a multiple of 16, at %s:%u", what, offset,
         place.file, place.line);
  }
  u8* at = block->shared_at(offset, 16, what, place);
  const u32 self = ids->linear;
  if (writes) {
    block->shadow.write(offset, 16, self, block->order.now(self), {0, place});
  } else {
    block->shadow.read(offset, 16, self, block->order.now(self), {0, place});
  }
  return at;
}

struct SmallBf16 {
  float* d;
  const u32* a;
  u32 b[2];
};
void perform_bf16(u32, u32 lanes, void* const* operands) {
  whole(lanes, "mma_m16n8k16");
  float a[16][16], b[16][8], d[16][8];
  for (u32 lane = 0; lane < 32; lane++) {
    const SmallBf16& o = *static_cast<SmallBf16*>(operands[lane]);
    const u32 g = lane / 4, t = 2 * (lane % 4);
    for (u32 i = 0; i < 4; i++) {
      const u32 row = g + 8 * (i & 1), col = t + 8 * (i >> 1);
      a[row][col] = low(o.a[i]), a[row][col + 1] = high(o.a[i]);
    }
    for (u32 i = 0; i < 2; i++) b[t + 8 * i][g] = low(o.b[i]), b[t + 8 * i + 1][g] = high(o.b[i]);
    for (u32 i = 0; i < 4; i++) d[g + 8 * (i >> 1)][t + (i & 1)] = o.d[i];
  }
  for (u32 row = 0; row < 16; row++) {
    for (u32 k = 0; k < 16; k++) {
      for (u32 col = 0; col < 8; col++) d[row][col] += a[row][k] * b[k][col];
    }
  }
  for (u32 lane = 0; lane < 32; lane++) {
    const SmallBf16& o = *static_cast<SmallBf16*>(operands[lane]);
    for (u32 i = 0; i < 4; i++) o.d[i] = d[lane / 4 + 8 * (i >> 1)][2 * (lane % 4) + (i & 1)];
  }
}
struct SmallS8 {
  int* d;
  const u32* a;
  u32 b[2];
};
void perform_s8(u32, u32 lanes, void* const* operands) {
  whole(lanes, "mma_m16n8k32_s8");
  int a[16][32], b[32][8];
  for (u32 lane = 0; lane < 32; lane++) {
    const SmallS8& o = *static_cast<SmallS8*>(operands[lane]);
    const u32 g = lane / 4, t = 4 * (lane % 4);
    for (u32 byte = 0; byte < 4; byte++) {
      for (u32 i = 0; i < 4; i++) a[g + 8 * (i & 1)][t + 16 * (i >> 1) + byte] = (i8)(o.a[i] >> 8 * byte);
      for (u32 i = 0; i < 2; i++) b[t + 16 * i + byte][g] = (i8)(o.b[i] >> 8 * byte);
    }
  }
  for (u32 lane = 0; lane < 32; lane++) {
    const SmallS8& o = *static_cast<SmallS8*>(operands[lane]);
    for (u32 i = 0; i < 4; i++) {
      const u32 row = lane / 4 + 8 * (i >> 1), col = 2 * (lane % 4) + (i & 1);
      for (u32 k = 0; k < 32; k++) o.d[i] += a[row][k] * b[k][col];
    }
  }
}

// An operand of 16 columns of K in shared memory, as its descriptor says.
struct Operand {
  u32 start, leading, stride, width;  // bytes; the width is a row's of the pattern, 16 where there is none
  bool mn_major;

  Operand(u64 descriptor, bool transposed) : mn_major(transposed) {
    const auto field = [descriptor](u32 bit) { return (u32)(descriptor >> bit & 0x3fff) << 4; };
    start = field(0), leading = field(16), stride = field(32);
    static constexpr u32 kWidths[4] = {16, 128, 64, 32};
    width = kWidths[descriptor >> 62];
  }
  // Calls `perform(offset, i, k)` for every chunk of 8 elements of rows first.. of the long side: along i where that is
  // innermost, along k otherwise.
  template <class Do>
  void each_chunk(u32 first, u32 rows, Do&& perform) const {
    const bool plain = width == 16;
    const auto swizzled = [this](u32 at) { return at ^ ((at >> 7 & (width / 16 - 1)) << 4); };
    if (mn_major) {
      for (u32 i = 0; i < rows; i += 8) {
        const u32 byte = 2 * (first + i);
        const u32 column = plain ? byte / 16 * stride : byte / width * leading + byte % width;
        for (u32 k = 0; k < 16; k++) {
          perform(swizzled(start + column + k % 8 * width + k / 8 * (plain ? leading : stride)), i, k);
        }
      }
    } else {
      for (u32 i = 0; i < rows; i++) {
        const u32 row = (first + i) / 8 * stride + (first + i) % 8 * width;
        for (u32 k = 0; k < 16; k += 8) perform(swizzled(start + row + (plain ? k / 8 * leading : 2 * k)), i, k);
      }
    }
  }
  // Fills out[k][i] for rows i of the long side from `first`.
  template <u32 Width>
  void read(u32 first, u32 rows, float (*out)[Width]) const {
    each_chunk(first, rows, [&](u32 offset, u32 i, u32 k) {
      const u16* eight = reinterpret_cast<const u16*>(block->shared + offset);
      for (u32 j = 0; j < 8; j++) (mn_major ? out[k][i + j] : out[k + j][i]) = widened(eight[j]);
    });
  }
  // What warp `warp` is about to read must be there, ordered and fenced.
  void announce(u32 first, u32 rows, u32 warp, u32 stamp, Place place) const {
    const u32 actor = block->order.products_of(warp);
    each_chunk(first, rows, [&](u32 offset, u32, u32) {
      block->shared_at(offset, 16, "a wgmma", place);
      block->shadow.read_async(offset, 16, actor, stamp, {0, place});
    });
  }
};

// A warp's 16 rows of one product.
void multiply(const Product& p, u32 warp) {
  struct Tiles {
    float b[16][256], d[16][256];
  };
  static thread_local std::unique_ptr<Tiles> tiles = std::make_unique<Tiles>();
  auto& [b, d] = *tiles;
  float a[16][16];
  const auto row = [](u32 lane, u32 i) { return lane / 4 + 8 * (i >> 1 & 1); };
  const auto col = [](u32 lane, u32 i) { return 8 * (i >> 2) + 2 * (lane & 3) + (i & 1); };
  if (p.a_in_registers) {
    for (u32 lane = 0; lane < 32; lane++) {
      for (u32 i = 0; i < 4; i++) {
        const u32 k = 2 * (lane % 4) + 8 * (i >> 1), r = lane / 4 + 8 * (i & 1);
        a[k][r] = low(p.registers[lane][i]), a[k + 1][r] = high(p.registers[lane][i]);
      }
    }
  } else {
    Operand(p.a, p.trans_a).read<16>(16 * (warp % 4), 16, a);
  }
  Operand(p.b, p.trans_b).read<256>(0, p.n, b);
  for (u32 lane = 0; lane < 32; lane++) {
    for (u32 i = 0; i < p.n / 2; i++) d[row(lane, i)][col(lane, i)] = p.accumulate ? p.d[lane][i] : 0.f;
  }
  for (u32 r = 0; r < 16; r++) {
    for (u32 k = 0; k < 16; k++) {
      const float x = a[k][r];
      for (u32 c = 0; c < p.n; c++) d[r][c] += x * b[k][c];
    }
  }
  for (u32 lane = 0; lane < 32; lane++) {
    for (u32 i = 0; i < p.n / 2; i++) p.d[lane][i] = d[row(lane, i)][col(lane, i)];
  }
}

struct Lane {
  Product product;
  const u32* a;
  Place place;
};
void perform_start(u32 warp, u32 lanes, void* const* operands) {
  whole(lanes, "wgmma");
  Product p = static_cast<Lane*>(operands[0])->product;
  for (u32 lane = 0; lane < 32; lane++) {
    const Lane& o = *static_cast<Lane*>(operands[lane]);
    if (o.product.a != p.a || o.product.b != p.b) {
      fail(Fault::Divergence, "lanes 0 and %u of a wgmma have different descriptors", lane);
    }
    p.d[lane] = o.product.d[0];
    if (p.a_in_registers) memcpy(p.registers[lane], o.a, 16);
  }
  const u32 stamp = block->order.tick();
  const Place place = static_cast<Lane*>(operands[0])->place;
  if (!p.a_in_registers) Operand(p.a, p.trans_a).announce(16 * (warp % 4), 16, warp, stamp, place);
  Operand(p.b, p.trans_b).announce(0, p.n, warp, stamp, place);
  InFlight flying = {p.n, stamp, {}};
  memcpy(flying.d, p.d, sizeof flying.d);
  block->warps_[warp].in_flight.push_back(flying);
  block->products_in_flight++;
  Groups<Product>& queue = block->warps_[warp].products;
  // Products of a warp keep their order: one that runs at once must find none waiting.
  if (queue.done == queue.work.size() && early(block->products)) {
    multiply(p, warp);
  } else {
    queue.work.push_back(p);
  }
}
void perform_commit(u32 warp, u32 lanes, void* const*) {
  whole(lanes, "wgmma_commit");
  block->warps_[warp].products.commit(block->order.tick());
}
void perform_wait(u32 warp, u32 lanes, void* const* operands) {
  whole(lanes, "wgmma_wait");
  const u32 keep = *static_cast<u32*>(operands[0]);
  const u32 over = block->warps_[warp].products.wait(keep, [warp](const Product& p) { multiply(p, warp); });
  block->order.products_done(warp, over);
  std::vector<InFlight>& flying = block->warps_[warp].in_flight;
  const size_t before = flying.size();
  flying.erase(std::remove_if(flying.begin(), flying.end(), [over](const InFlight& f) { return f.stamp <= over; }), flying.end());
  block->products_in_flight -= (u32)(before - flying.size());
}
void perform_fence(u32, u32 lanes, void* const*) { whole(lanes, "wgmma_fence"); }

void perform_load(u32, u32 lanes, void* const* operands) {
  each_pair(lanes, operands, "ldmatrix", [](u32* word, const u16* lo, const u16* hi) { *word = *lo | (u32)*hi << 16; });
}
void perform_store(u32, u32 lanes, void* const* operands) {
  each_pair(lanes, operands, "stmatrix", [](const u32* word, u16* lo, u16* hi) { *lo = (u16)*word, *hi = (u16)(*word >> 16); });
}
}  // namespace

bool Block::in_flight(const void* at, u32 bytes) const {
  for (const InFlight& f : warps_[ids->linear / 32].in_flight) {
    const char* d = reinterpret_cast<const char*>(f.d[ids->linear & 31]);
    if ((const char*)at < d + 2 * f.n && (const char*)at + bytes > d) return true;
  }
  return false;
}

void load_matrix(u32* r, u32 count, const void* row, bool transposed, Place place) {
  Rows mine = {r, count, matrix_row(row, count, false, "ldmatrix", place), transposed};
  block->meet("ldmatrix", 0xffffffffu, &mine, perform_load, place);
}
void store_matrix(void* row, const u32* r, bool transposed, Place place) {
  Rows mine = {const_cast<u32*>(r), 4, matrix_row(row, 4, true, "stmatrix", place), transposed};
  block->meet("stmatrix", 0xffffffffu, &mine, perform_store, place);
}
void multiply_bf16(float* d, const u32* a, u32 b0, u32 b1, Place place) {
  SmallBf16 mine = {d, a, {b0, b1}};
  block->meet("mma_m16n8k16", 0xffffffffu, &mine, perform_bf16, place);
}
void multiply_s8(int* d, const u32* a, u32 b0, u32 b1, Place place) {
  SmallS8 mine = {d, a, {b0, b1}};
  block->meet("mma_m16n8k32_s8", 0xffffffffu, &mine, perform_s8, place);
}
void wgmma_fence(Place place) { block->meet("wgmma_fence", 0xffffffffu, nullptr, perform_fence, place); }
void wgmma_commit(Place place) { block->meet("wgmma_commit", 0xffffffffu, nullptr, perform_commit, place); }
void wgmma_wait(u32 keep, Place place) {
  block->meet("wgmma_wait", 0xffffffffu, &keep, perform_wait, place);
}
void wgmma_shared(float* d, u32 n, u64 a, u64 b, bool accumulate, bool trans_a, bool trans_b, Place place) {
  Lane mine{};
  mine.product.n = n, mine.product.d[0] = d, mine.product.a = a, mine.product.b = b;
  mine.product.accumulate = accumulate, mine.product.trans_a = trans_a, mine.product.trans_b = trans_b;
  mine.place = place;
  block->meet("wgmma", 0xffffffffu, &mine, perform_start, place);
}
void wgmma_registers(float* d, u32 n, const u32* a, u64 b, bool accumulate, bool trans_b, Place place) {
  Lane mine{};
  mine.product.n = n, mine.product.d[0] = d, mine.product.b = b, mine.a = a;
  mine.product.accumulate = accumulate, mine.product.trans_b = trans_b, mine.product.a_in_registers = true;
  mine.place = place;
  block->meet("wgmma", 0xffffffffu, &mine, perform_start, place);
}
}  // namespace interpreter
