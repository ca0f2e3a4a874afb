/* Rows first, then columns: a row of sums, of 16 bits, stays in the cache between the two. */
#include "resample.h"

#include "error.h"
#include "resample_parts.h"

#define ALIGNMENT 64

static size_t aligned(size_t size, size_t alignment)
{
    return (size + alignment - 1) / alignment * alignment;
}

struct tables {
    struct taps rows;
    struct columns columns;
    const uint8_t **sources;
    int16_t *sums;
};

#define NUM_TABLES 8

/* Lay out both axes' taps, a row of sums and the doubles that weights are made of in one piece of memory. */
static bool take_tables(const struct axis *rows, const struct axis *columns, struct tables *tables, double **exact,
                        struct codec_arena *arena)
{
    unsigned row_taps = resample_num_taps(rows), column_taps = resample_num_taps(columns);
    size_t pitch = plane_pitch(columns->length), padded = aligned(columns->outputs, OUTPUTS);
    const size_t sizes[NUM_TABLES] = {
        rows->outputs * sizeof(unsigned),
        rows->outputs * row_taps * sizeof(int16_t),
        padded * sizeof(unsigned),
        padded * column_taps * sizeof(int16_t),
        resample_vectors_size(columns->outputs, column_taps),
        (row_taps > column_taps ? row_taps : column_taps) * sizeof(double),
        row_taps * sizeof(uint8_t *),
        pitch * NUM_PLANES * sizeof(int16_t), /* last: the arena's slack lies behind it */
    };
    void *places[NUM_TABLES];
    size_t total = 0;
    for (int i = 0; i < NUM_TABLES; i++)
        total += aligned(sizes[i], ALIGNMENT);
    uint8_t *memory = arena_take(arena, total);
    if (!memory)
        return false;
    for (int i = 0; i < NUM_TABLES; memory += aligned(sizes[i++], ALIGNMENT))
        places[i] = memory;
    *tables = (struct tables){
        .rows = {row_taps, places[0], places[1]},
        .columns = {{column_taps, places[2], places[3]}, columns->outputs, pitch, places[4], 0},
        .sources = places[6],
        .sums = places[7],
    };
    *exact = places[5];
    return true;
}

static bool make_tables(const struct resampling *task, struct tables *tables, struct codec_arena *arena)
{
    struct axis rows = {task->filter, task->box[0], task->box[2], task->height, task->out_height};
    struct axis columns = {task->filter, task->box[1], task->box[3], task->width, task->out_width};
    double *exact;
    if (!take_tables(&rows, &columns, tables, &exact, arena))
        return false;
    resample_fill_taps(&rows, &tables->rows, exact);
    resample_fill_taps(&columns, &tables->columns.taps, exact);
    resample_spread_taps(&tables->columns);
    return true;
}

/* The rows that make output row `y`. A tap beyond the last row weighs 0: any row serves. */
static void find_rows(const struct resampling *task, const struct tables *tables, unsigned y)
{
    unsigned first = tables->rows.first[y];
    size_t stride = NUM_PLANES * tables->columns.pitch;
    for (unsigned tap = 0; tap < tables->rows.count; tap++)
        tables->sources[tap] = task->planes + (first + tap < task->height ? first + tap : first) * stride;
}

codec_status resample(const struct resampling *task, struct codec_arena *arena, codec_error *error)
{
    struct tables tables;
    if (!make_tables(task, &tables, arena))
        return codec_fail(error, CODEC_NO_MEMORY, "no memory");
    for (unsigned y = 0; y < task->out_height; y++) {
        struct row_sum rows = {
            .rows = tables.sources,
            .weights = tables.rows.weights + (size_t)y * tables.rows.count,
            .count = tables.rows.count,
            .length = NUM_PLANES * tables.columns.pitch,
            .sums = tables.sums,
        };
        find_rows(task, &tables, y);
        resample_sum_rows(&rows);
        resample_sum_columns(&tables.columns, tables.sums, task->out + (size_t)y * task->out_width * NUM_PLANES);
    }
    return CODEC_OK;
}
