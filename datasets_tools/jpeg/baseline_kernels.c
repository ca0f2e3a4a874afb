/* The choice of loops, by what the processor has. */
#include "baseline_parts.h"

const struct kernels *codec_kernels(void)
{
    static const struct kernels portable = {codec_unstuff,       codec_read_mcus, codec_transform,
                                            codec_widen,         codec_between,   codec_widen_between,
                                            codec_to_planes};
#if CODEC_AVX2
    static const struct kernels avx2 = {codec_unstuff_avx2,  codec_read_mcus_avx2, codec_transform_avx2,
                                        codec_widen_avx2,    codec_between_avx2,   codec_widen_between_avx2,
                                        codec_to_planes_avx2};
    if (has_avx2())
        return &avx2;
#endif
    return &portable;
}
