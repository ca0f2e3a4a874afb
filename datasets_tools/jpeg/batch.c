/* Rows of a batch, each taken by the thread that comes to it first: large pictures do not hold up small ones. */
#include <string.h>

#include "error.h"

#define CHANNELS 3
#define ROUNDING 1e-3 /* pixels by which a computed box may leave its window */

/* Plans and tables may be wrong, and these are raw addresses: what leaves its sample, picture or window is refused. */
static bool is_inside(const codec_batch *batch, size_t row)
{
    const int32_t *window = batch->windows + 4 * row;
    const double *box = batch->boxes + 4 * row;
    int64_t height = batch->heights[row], width = batch->widths[row];
    uint64_t size = batch->sizes[row];
    if (size > batch->size || batch->offsets[row] > batch->size - size || height < 1 || width < 1)
        return false;
    if (batch->raw[row] && (uint64_t)height * (uint64_t)width * CHANNELS != size)
        return false;
    if (window[0] < 0 || window[1] < 0 || window[2] < 1 || window[3] < 1 ||
        (int64_t)window[0] + window[2] > height || (int64_t)window[1] + window[3] > width)
        return false;
    for (int axis = 0; axis < 2; axis++) {
        double before = window[axis] - box[axis], after = box[axis] + box[axis + 2] - window[axis] - window[axis + 2];
        if (!(box[axis + 2] > 0 && before < ROUNDING && after < ROUNDING)) /* as NaN is not */
            return false;
    }
    return true;
}

static codec_region region_of(const codec_batch *batch, size_t row)
{
    const int32_t *window = batch->windows + 4 * row;
    const double *box = batch->boxes + 4 * row;
    return (codec_region){
        .stored = {batch->data + batch->offsets[row], (size_t)batch->sizes[row]},
        .raw = batch->raw[row],
        .height = (unsigned)batch->heights[row],
        .width = (unsigned)batch->widths[row],
        .window = {(unsigned)window[0], (unsigned)window[1], (unsigned)window[2], (unsigned)window[3]},
        .box = {box[0], box[1], box[2], box[3]},
        .out = batch->out + row * batch->out_height * batch->out_width * CHANNELS,
        .out_height = batch->out_height,
        .out_width = batch->out_width,
        .filter = batch->filter,
    };
}

static void work_on(const codec_batch *batch, size_t row, codec_memory *memory)
{
    codec_error error = {.status = CODEC_OK};
    codec_region region = region_of(batch, row);
    if (is_inside(batch, row))
        codec_region_pixels(&region, memory, &error);
    else
        codec_fail(&error, CODEC_BAD_JPEG, "does not hold what the plan asks for: make the plan from this store");
    batch->failed[row] = (uint8_t)error.status;
    if (error.status == CODEC_OK)
        return;
    memcpy(batch->messages[row], error.message, sizeof error.message);
    memset(region.out, 0, (size_t)region.out_height * region.out_width * CHANNELS);
}

void codec_batch_work(const codec_batch *batch)
{
    codec_memory memory = {0};
    size_t row;
    while ((row = (size_t)__atomic_fetch_add(batch->next, 1, __ATOMIC_RELAXED)) < batch->num_rows)
        work_on(batch, row, &memory);
    codec_memory_free(&memory);
}
