// divergence: what the model says of a token against what x_0 says (mod.rs has the equations). A group of threads holds a row of
// logits in registers; the columns but x_0, x_t and the forbidden one are summed in f32, the few numbers of the token are in
// f64. Two exponentials and one logarithm an element forward; reads 4 n v bytes, backward writes as many, the floor.
#include "classes.cuh"
#include "logits.cuh"

struct Ids {
  const u32 *x_0, *x_t;
  const float *terms, *w;
  u64 n;
  u32 v, lanes, len, groups, forbid, has_forbid;
};

// A token and the numbers of its class and level.
struct Token {
  u32 kind, x_0, z, forbid;
  bool real, live;
  double n, rho, a, rho_0, s_0, start_0, rho_z, h, start_z, back, pull, ce;

  __device__ __forceinline__ Token(const Ids& ids, u64 row) {
    const bool in = row < ids.n;
    x_0 = in ? ids.x_0[row] : 0;
    z = in ? ids.x_t[row] : 0;
    const bool forbids = ids.has_forbid != 0;
    real = in && x_0 < ids.v && z < ids.v && !(forbids && x_0 == ids.forbid);
    live = in && ids.w[row] != 0.f;
    kind = class_of(ids.forbid, forbids, x_0, z);
    forbid = forbids && ids.forbid < ids.v ? ids.forbid : z;
    const float* t = ids.terms + 12 * (3 * (in ? group_of(row, ids.len, ids.groups) : 0) + kind);
    n = t[0], rho = t[1], a = t[2], rho_0 = t[3], s_0 = t[4], start_0 = t[5], rho_z = t[6], h = t[7], start_z = t[8];
    back = t[9], pull = t[10], ce = t[11];
  }
  // Whether the row has a divergence that depends on the logits.
  __device__ __forceinline__ bool counts() const { return real && live; }
};

// G(u) = u - 1 - log u for u = 1 + e, both given because each keeps the digits that the other loses.
__device__ __forceinline__ double gap(double u, double e) {
  if (fabs(e) < 1e-4) return e * e * (0.5 - e * (1. / 3. - 0.25 * e));
  return fabs(e) < 0.5 ? e - log1p(e) : e - log(u);
}

// What a row's probabilities come to where the terms need them (softmax.rs).
struct Shares {
  double p_z, p_0, rest, norm, start, shift, lean;

  __device__ __forceinline__ Shares(const Token& t, double own, double at_z, double others) {
    // The wrong ones together, so that 1 - p_0 keeps its digits when the model is nearly right.
    const double wrong = others + at_z, total = wrong + own;
    p_0 = own / total;
    rest = wrong / total;
    if (t.kind == CLASS_MASK) {
      p_z = 0., norm = 1., start = 1., shift = 0., lean = 0.;
    } else if (t.kind == CLASS_HIT) {
      p_z = p_0, norm = 1. + t.n * p_0, start = 1. + t.n, shift = t.n * rest, lean = -rest;
    } else {
      p_z = at_z / total, norm = 1. + t.n * p_z, start = 1., shift = -t.n * p_z, lean = p_z;
    }
  }
  __device__ double excess_0(const Token& t) const { return -(t.s_0 * rest + t.n * p_z); }
  __device__ double at_z(const Token& t) const { return t.start_z + (t.n + t.h) * p_z; }
  // The terms of x_0 and z.
  __device__ double named(const Token& t, double log_p_0) const {
    double d = t.ce == 0. ? 0. : -t.ce * log_p_0;
    if (t.kind != CLASS_HIT && t.rho_0 > 0.) {
      const double e = excess_0(t) / norm;
      // Where u_0 can reach 0 its logarithm is that of p_0.
      d += t.rho_0 * (t.start_0 > 0. ? gap((t.start_0 + t.s_0 * p_0) / norm, e) : e - (log(t.s_0) + log_p_0 - log(norm)));
    }
    if (t.kind != CLASS_MASK) {
      const double u = at_z(t) / norm, e = t.h * lean / norm;
      if (t.rho_z > 0.) d += t.rho_z * gap(u, e);
      if (t.back > 0.) d += t.back * gap(1. / u, -e / u);
    }
    return d;
  }
  // p_0 dd/dp_0 where z is another id, and p_z dd/dp_z.
  __device__ double pull_0(const Token& t) const {
    const double at = t.start_0 + t.s_0 * p_0, share = at > 0. ? t.s_0 * p_0 / at : 1.;
    return t.rho_0 * excess_0(t) / norm * share;
  }
  __device__ double pull_z(const Token& t) const {
    const double at = at_z(t);
    double g = t.n * t.pull * lean / (norm * norm);
    if (at > 0.) {
      const double e = t.h * lean * (t.n + t.h);
      g += t.rho_z * e / (norm * at) + t.back * e / (at * at);
    }
    return p_z * g;
  }
};

// G(u) for u = 1 + e > 0 with a small relative error at every e: log u = k log 2 + log(1 + f), where f is e itself for k = 0, so
// that the leading terms cancel exactly (softmax.rs).
__device__ __forceinline__ float log_excess(float u, float e) {
  const int bits = __float_as_int(u), k = (bits - 0x3F3504F3) >> 23;
  const float f = k == 0 ? e : __int_as_float(bits - (k << 23)) - 1.f;
  const float s = f / (2.f + f), z = s * s;
  const float series = z * (2.f / 3.f + z * (2.f / 5.f + z * (2.f / 7.f + z * (2.f / 9.f))));
  const float half = 0.5f * f * f;
  return (e - f - (float)k * 0.69314718056f) + (half - s * (half + series));
}
// G(e^x) = e^x - 1 - x with a small relative error at every x.
__device__ __forceinline__ float exp_excess(float x) {
  const float series =
      0.5f * x * x * (1.f + x / 3.f * (1.f + x / 4.f * (1.f + x / 5.f * (1.f + x / 6.f * (1.f + x / 7.f)))));
  return fabsf(x) < 0.5f ? series : expf(x) - 1.f - x;
}

template <int N>
__device__ __forceinline__ Logits<N, 3> others(const Group& group, const float* row, u32 v, const Token& t) {
  Logits<N, 3> logits(group, row, v);
  logits.out[0] = t.x_0, logits.out[1] = t.z, logits.out[2] = t.forbid;
  return logits;
}

template <bool EXP, int N>
__device__ __forceinline__ void forward(const float* logits, Ids ids, float* d, float* lse) {
  STATIC_SHARED(float, scratch, 32);
  const Group group(ids.lanes);
  for (u64 at_row = group.first(); at_row < ids.n; at_row += group.step()) {
    const u64 n = at_row + group.sub;
    const float* row = logits + n * ids.v;
    const Token t(ids, n);
    const bool counts = t.counts();
    Logits<N, 3> other = others<N>(group, row, counts ? ids.v : 0, t);
    double found = 0., log_total = 0.;
    if constexpr (EXP) {
      const bool gaps = t.rho > 0.;
      const float log_s = gaps ? (float)log(t.a / t.rho) : 0.f;
      found = other.sum(scratch, [=](float x) { return gaps ? exp_excess(x + log_s) : expf(x); });
      found *= gaps ? t.rho : t.a;
      if (counts && t.kind != CLASS_HIT && t.rho_0 > 0.) {
        const double delta = (double)row[t.x_0] + log(t.s_0);
        found += t.rho_0 * (expm1(delta) - delta);
      }
    } else {
      const float logit_0 = counts ? row[t.x_0] : 0.f, logit_z = counts && t.kind == CLASS_MISS ? row[t.z] : -F32_INF;
      const float top = fmaxf(other.max(scratch), fmaxf(logit_0, logit_z));
      const double rest = other.sum(scratch, [=](float x) { return expf(x - top); });
      const double at_z = t.kind == CLASS_MISS ? expf(logit_z - top) : 0.f, own = expf(logit_0 - top);
      const Shares shares(t, own, at_z, rest);
      const double total = rest + at_z + own;
      const bool gaps = t.rho > 0.;
      const float slope = gaps ? (float)(t.a / t.rho / shares.norm) : 0.f, scale = (float)(1. / total);
      const float start = (float)(shares.start / shares.norm), shift = (float)(shares.shift / shares.norm);
      // A sum of none where there are no gaps: the groups of a warp stay together.
      other.v = gaps ? other.v : 0;
      const double excess = other.sum(scratch, [=](float x) {
        const float p = expf(x - top) * scale;
        return log_excess(start + slope * p, shift + slope * p);
      });
      if (group.lane == 0 && counts) {
        const double log_p_0 = shares.rest < 0.5 ? log1p(-shares.rest) : (double)(logit_0 - top) - log(total);
        found = shares.named(t, log_p_0) + (gaps ? t.rho * excess : t.a * rest / total / shares.norm);
        log_total = (double)top + log(total);
      }
    }
    if (group.lane == 0 && n < ids.n) {
      d[n] = counts ? (float)found : t.live ? F32_INF : 0.f;
      lse[n] = counts ? (float)log_total : 0.f;
    }
  }
}

template <bool EXP, int N>
__device__ __forceinline__ void backward(const float* logits, Ids ids, const float* lse, const float* dloss, float* dlogits) {
  STATIC_SHARED(float, scratch, 32);
  const Group group(ids.lanes);
  for (u64 at_row = group.first(); at_row < ids.n; at_row += group.step()) {
    const u64 n = at_row + group.sub;
    const float* row = logits + n * ids.v;
    const Token t(ids, n);
    const bool counts = t.counts();
    const u32 v = n < ids.n ? ids.v : 0;
    const float scale = counts ? *dloss * ids.w[n] : 0.f;
    Logits<N, 3> other = others<N>(group, row, v, t);
    float at_0 = 0.f, at_z = 0.f;
    if constexpr (EXP) {
      if (counts && t.kind != CLASS_HIT && t.rho_0 > 0.) {
        at_0 = (float)((double)scale * t.rho_0 * expm1((double)row[t.x_0] + log(t.s_0)));
      }
      const float a = (float)t.a, rho = (float)t.rho;
      other.map(dlogits + n * ids.v, [=](u32 column, float x) {
        if (!counts) return 0.f;
        if (column == t.x_0) return at_0;
        return column == t.z || column == t.forbid ? 0.f : scale * (a * expf(x) - rho);
      });
    } else {
      const float normaliser = counts ? lse[n] : 0.f;
      // The stored log-sum is rounded at the size of the logits: dividing by the sum takes that error out again.
      const double rest = other.sum(scratch, [=](float x) { return expf(x - normaliser); });
      const double mass_z = counts && t.kind == CLASS_MISS ? expf(row[t.z] - normaliser) : 0.f;
      const double own = counts ? expf(row[t.x_0] - normaliser) : 1.f, total = rest + mass_z + own;
      const Shares shares(t, own, mass_z, rest);
      // dd/dp_y = a (u_y - 1) N / (u_y N) / N; where rho is 0 it is a / N.
      const bool gaps = t.rho > 0.;
      const float s = gaps ? (float)(t.a / t.rho) : 0.f, start = gaps ? (float)shares.start : 1.f;
      const float shift = gaps ? (float)shares.shift : 1.f, front = (float)(t.a / shares.norm);
      const float normalise = (float)(1. / total);
      const auto g = [=](float p) { return front * ((shift + s * p) / (start + s * p)); };
      const double weighed = other.sum(scratch, [=](float x) {
        const float p = expf(x - normaliser) * normalise;
        return p * g(p);
      });
      const double pull_z = t.kind == CLASS_MASK ? 0. : shares.pull_z(t);
      const double pull_0 = t.kind == CLASS_HIT ? 0. : shares.pull_0(t);
      const double mean = weighed + pull_z + pull_0, ce = (double)scale * t.ce;
      const float mean_f32 = (float)mean, ce_f32 = (float)ce;
      if (t.kind == CLASS_MISS) at_z = (float)((double)scale * (pull_z - shares.p_z * mean) + ce * shares.p_z);
      const double pull = t.kind == CLASS_HIT ? pull_z : pull_0;
      at_0 = (float)((double)scale * (pull - shares.p_0 * mean) - ce * shares.rest);
      other.map(dlogits + n * ids.v, [=](u32 column, float x) {
        if (!counts) return 0.f;
        if (column == t.x_0) return at_0;
        if (column == t.z && t.kind == CLASS_MISS) return at_z;
        if (column == t.forbid) return 0.f;
        const float p = expf(x - normaliser) * normalise;
        return p * (scale * (g(p) - mean_f32) + ce_f32);
      });
    }
  }
}

template <bool EXP>
__device__ __forceinline__ void forward(const float* logits, Ids ids, float* d, float* lse) {
  if (ids.v % 4 == 0) {
    forward<EXP, 4>(logits, ids, d, lse);
  } else {
    forward<EXP, 1>(logits, ids, d, lse);
  }
}
template <bool EXP>
__device__ __forceinline__ void backward(const float* logits, Ids ids, const float* lse, const float* dloss, float* dlogits) {
  if (ids.v % 4 == 0) {
    backward<EXP, 4>(logits, ids, lse, dloss, dlogits);
  } else {
    backward<EXP, 1>(logits, ids, lse, dloss, dlogits);
  }
}

#define IDS_OF                                                                                                         \
  const u32 *x_0, const u32 *x_t, const float *terms, const float *w, u64 n, u32 v, u32 lanes, u32 len, u32 groups,    \
      u32 forbid, u32 has_forbid
#define IDS {x_0, x_t, terms, w, n, v, lanes, len, groups, forbid, has_forbid}
extern "C" __global__ void __launch_bounds__(512)
    divergence_softmax(const float* logits, float* d, float* lse, IDS_OF) {
  forward<false>(logits, IDS, d, lse);
}
extern "C" __global__ void __launch_bounds__(512) divergence_exp(const float* logits, float* d, float* lse, IDS_OF) {
  forward<true>(logits, IDS, d, lse);
}
extern "C" __global__ void __launch_bounds__(512)
    divergence_grad_softmax(const float* logits, const float* lse, const float* dloss, float* dlogits, IDS_OF) {
  backward<false>(logits, IDS, lse, dloss, dlogits);
}
extern "C" __global__ void __launch_bounds__(512)
    divergence_grad_exp(const float* logits, const float* lse, const float* dloss, float* dlogits, IDS_OF) {
  backward<true>(logits, IDS, lse, dloss, dlogits);
}
