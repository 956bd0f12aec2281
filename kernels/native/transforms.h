// The one-dimensional transforms of F(6, 3), for the interpolation points 0, 1, -1, 2, -2, 1/2, -1/2
// and infinity, as in Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.
//
// They are written once, over V, which has +, - and *, and fma(a, b, c) = a * b + c, rounded once.
// So every way adds in the same order.
#pragma once

namespace d2k {
namespace {

template <typename V>
struct Eight {
  V at[8];
};

// Eight values of a window -> eight frequencies.
template <typename V, typename F>
inline Eight<V> input_transform(const V (&d)[8], const F& f) {
  const V even6 = f.fma(d[4] - d[2], f.set(5.25f), d[0] - d[6]);
  const V odd7 = f.fma(d[3] - d[5], f.set(5.25f), d[7] - d[1]);
  const V a = f.fma(d[4], f.set(-4.25f), d[2] + d[6]);
  const V b = f.fma(d[3], f.set(-4.25f), d[1] + d[5]);
  const V c = f.fma(d[4], f.set(-1.25f), f.fma(d[2], f.set(0.25f), d[6]));
  const V e = f.fma(d[5], f.set(2.0f), f.fma(d[3], f.set(-2.5f), d[1] * f.set(0.5f)));
  const V g = f.fma(d[4], f.set(-5.0f), f.fma(d[2], f.set(4.0f), d[6]));
  const V h = f.fma(d[1], f.set(2.0f), f.fma(d[3], f.set(-2.5f), d[5] * f.set(0.5f)));
  return {{even6, a + b, a - b, c + e, c - e, g + h, g - h, odd7}};
}

// Eight frequencies -> six results, in the first six.
template <typename V, typename F>
inline Eight<V> output_transform(const V (&m)[8], const F& f) {
  const V a = m[1] + m[2], b = m[1] - m[2];
  const V c = m[3] + m[4], d = m[3] - m[4];
  const V e = m[5] + m[6], g = m[5] - m[6];
  return {{(m[0] + a) + (c + e),
           f.fma(g, f.set(0.5f), f.fma(d, f.set(2.0f), b)),
           f.fma(e, f.set(0.25f), f.fma(c, f.set(4.0f), a)),
           f.fma(g, f.set(0.125f), f.fma(d, f.set(8.0f), b)),
           f.fma(e, f.set(0.0625f), f.fma(c, f.set(16.0f), a)),
           f.fma(g, f.set(0.03125f), f.fma(d, f.set(32.0f), b + m[7])), m[7], m[7]}};
}

}  // namespace
}  // namespace d2k
