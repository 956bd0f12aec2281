/* The C interface of the native code: a 3x3 convolution by Winograd's algorithm F(6x6, 3x3), of stride
   1 and padding 1, and a 1x1 convolution of stride 1 or 2.

   One group, float32; images and results are plain NCHW. A bias and a ReLU come with both. Nothing
   here throws, and every function may be called by several threads at once. */
#ifndef D2SERVE_KERNELS_H
#define D2SERVE_KERNELS_H

#include <stdint.h>

#if defined(__GNUC__)
#define D2K_API __attribute__((visibility("default")))
#else
#define D2K_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a function or the layout of transformed weights changes. */
#define D2K_VERSION 2

/* Which instructions are used. AVX2 and AVX-512 give the same bits. */
enum d2k_way { D2K_PORTABLE = 0, D2K_AVX2 = 1, D2K_AVX512 = 2 };

enum d2k_status {
  D2K_OK = 0,
  D2K_BAD_SHAPE = 1,    /* a count, size, or number of channels that cannot be, or a null pointer */
  D2K_BAD_WAY = 2,      /* a way that this CPU does not run */
  D2K_NO_MEMORY = 3,
};

D2K_API int32_t d2k_version(void);

/* The ways that this CPU runs: bit `1 << way` for each. */
D2K_API uint32_t d2k_ways(void);

/* How many floats the transformed weights of a layer have; 0 if there can be no such layer. */
D2K_API int64_t d2k_transformed_size(int64_t outs, int64_t ins);

/* weights: (outs, ins, 3, 3). transformed: as many floats as d2k_transformed_size says. */
D2K_API int32_t d2k_transform(const float* weights, int64_t outs, int64_t ins, float* transformed);

typedef struct d2k_layer {
  const float* transformed; /* fastest if aligned to 64 bytes; read only, never kept */
  const float* bias;        /* one for each output, or null */
  int64_t outs, ins;
  int32_t relu; /* 1: negative results become 0, and NaN stays NaN */
  int32_t way;  /* of d2k_way */
} d2k_layer;

/* images: (count, ins, height, width); result: (count, outs, height, width), apart from images.
   threads: how many may work, the caller's own included. Any number of them gives the same bits. */
D2K_API int32_t d2k_convolve(const d2k_layer* layer, const float* images, float* result,
                             int64_t count, int64_t height, int64_t width, int32_t threads);

typedef struct d2k_point_layer {
  const float* weights; /* (outs, ins); read only, never kept */
  const float* bias;    /* one for each output, or null */
  int64_t outs, ins;
  int32_t stride; /* 1 or 2: of that many rows and columns, the first is taken */
  int32_t relu;   /* as of d2k_layer */
  int32_t way;    /* of d2k_way */
  int32_t upsampled; /* 1: a residual has half the result's height and width, which are even, and
                        each of its values is added to two by two */
} d2k_point_layer;

/* images: (count, ins, height, width); result: (count, outs, height and width by the stride, rounded
   up), apart from images. residual: is added before the ReLU; of the result's shape unless it is
   upsampled, and then it may be the result itself; or null. threads: as of d2k_convolve. */
D2K_API int32_t d2k_convolve_points(const d2k_point_layer* layer, const float* images,
                                    const float* residual, float* result, int64_t count,
                                    int64_t height, int64_t width, int32_t threads);

#ifdef __cplusplus
}
#endif
#endif
