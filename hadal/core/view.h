// What kernels see of a tensor: a typed pointer, sizes and strides. Light, without errors: whoever makes a View has
// checked it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace hadal {

using Index = std::int64_t;

template <class T, int N>
struct View {
  T* data;
  std::array<Index, N> shape;
  std::array<Index, N> stride;  // in elements; stride[N-1] is 1

  operator View<const T, N>() const
    requires(!std::is_const_v<T>)
  {
    return {data, shape, stride};
  }
  T* row(Index i) const { return data + i * stride[0]; }
  template <class... I>
  T& operator()(I... index) const {
    static_assert(sizeof...(I) == N);
    Index offset = 0;
    int d = 0;
    ((offset += static_cast<Index>(index) * stride[d++]), ...);
    return data[offset];
  }
};

}  // namespace hadal
