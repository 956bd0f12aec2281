/* The C interface of the native code: a 3x3 convolution by Winograd's algorithm F(6x6, 3x3), of stride
   1 and padding 1, a 1x1 convolution of stride 1 or 2, and RoiAlign.

   Convolutions have one group, a bias and a ReLU. All is float32, and images and results are plain
   NCHW. Nothing here throws, and every function may be called by several threads at once. */
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
  D2K_BAD_INDEX = 4,    /* an image, or a row of the result, that is not there */
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
/* RoiAlign as ONNX and torchvision have it: the mean over each bin of an ROI of values that are
   interpolated at samples, beyond whose image there is nothing. */
typedef struct d2k_roi_align {
  int64_t height, width;  /* bins of an ROI */
  int64_t sampling_ratio; /* samples along an edge of a bin, up to 1024; 0: one for each pixel */
  float scale;            /* from the ROIs' coordinates to pixels */
  int32_t half_pixel;     /* 1: pixels' centres are at halves, and an ROI may have any size; 0: they
                             are at whole numbers, and an ROI has a pixel at least */
  int32_t way;            /* of d2k_way */
} d2k_roi_align;

/* images: (images_count, channels, height, width). rois: (count, 4), each x1, y1, x2, y2; one with a
   coordinate that is no number, or beyond 2^30 pixels, gives zeros. image_of: the number of each
   ROI's image. result: (rows, channels, bins of an ROI). row_of: where each ROI goes in it; null: in
   their order, where rows is count. Other rows are not touched. threads: as above. */
D2K_API int32_t d2k_align_rois(const d2k_roi_align* how, const float* images, int64_t images_count,
                               int64_t channels, int64_t height, int64_t width, const float* rois,
                               const int64_t* image_of, const int64_t* row_of, int64_t count,
                               float* result, int64_t rows, int32_t threads);

#ifdef __cplusplus
}
#endif
#endif
