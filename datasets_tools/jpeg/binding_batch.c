/* Batches of regions as Python capsules, which hold the arrays that threads read and write. */
#include "binding.h"

#include <stdlib.h>

#define BATCH "datasets_tools.jpeg._codec.batch" /* what its capsules say they hold */
#define NUM_ARRAYS 12

/* The arrays of a batch, in the order of `batch`'s arguments. */
enum { DATA, OFFSETS, SIZES, RAW, HEIGHTS, WIDTHS, WINDOWS, BOXES, OUT, FAILED, MESSAGES, NEXT };

/* A batch and the arrays that it points into, which live as long. */
typedef struct {
    codec_batch batch;
    Py_buffer arrays[NUM_ARRAYS];
} held_batch;

/* Whether the output is a picture, and all arrays are as long as `num_rows` rows need; raises ValueError if not. */
static bool rows_fit(const Py_buffer *arrays, size_t num_rows, unsigned height, unsigned width)
{
    /* Beyond these sides the number of bytes might not fit into 64 bits, and so seem to fit the array. */
    if (arrays[NEXT].len != sizeof(int64_t) || !height || height > CODEC_MAX_SIDE || !width || width > CODEC_MAX_SIDE) {
        PyErr_Format(PyExc_ValueError,
                     "the output is %u x %u pixels, 1 to %d a side are taken; next has %zd bytes, 8 are", width, height,
                     CODEC_MAX_SIDE, arrays[NEXT].len);
        return false;
    }
    const uint64_t row_bytes[NUM_ARRAYS] = {
        [OFFSETS] = 8,  [SIZES] = 8,    [RAW] = 1,  [HEIGHTS] = 4, [WIDTHS] = 4, [WINDOWS] = 16,
        [BOXES] = 32,   [FAILED] = 1,   [MESSAGES] = 256, [OUT] = (uint64_t)height * width * 3,
    };
    for (int i = OFFSETS; i < NEXT; i++) {
        if ((uint64_t)arrays[i].len != num_rows * row_bytes[i]) {
            PyErr_Format(PyExc_ValueError, "array %d has %zd bytes; %zu rows need %llu", i, arrays[i].len, num_rows,
                         (unsigned long long)(num_rows * row_bytes[i]));
            return false;
        }
    }
    return true;
}

static codec_batch batch_of(const Py_buffer *arrays, size_t num_rows)
{
    return (codec_batch){
        .data = arrays[DATA].buf,
        .size = (size_t)arrays[DATA].len,
        .num_rows = num_rows,
        .offsets = arrays[OFFSETS].buf,
        .sizes = arrays[SIZES].buf,
        .raw = arrays[RAW].buf,
        .heights = arrays[HEIGHTS].buf,
        .widths = arrays[WIDTHS].buf,
        .windows = arrays[WINDOWS].buf,
        .boxes = arrays[BOXES].buf,
        .out = arrays[OUT].buf,
        .failed = arrays[FAILED].buf,
        .messages = arrays[MESSAGES].buf,
        .next = arrays[NEXT].buf,
    };
}

/* Take the arrays and settings of a batch, or raise. */
static bool hold(held_batch *held, PyObject *arguments)
{
    Py_buffer *a = held->arrays;
    unsigned out_height, out_width;
    int bicubic;
    if (!PyArg_ParseTuple(arguments, "y*y*y*y*y*y*y*y*w*w*w*w*IIp", &a[DATA], &a[OFFSETS], &a[SIZES], &a[RAW],
                          &a[HEIGHTS], &a[WIDTHS], &a[WINDOWS], &a[BOXES], &a[OUT], &a[FAILED], &a[MESSAGES], &a[NEXT],
                          &out_height, &out_width, &bicubic))
        return false;
    size_t num_rows = (size_t)a[OFFSETS].len / sizeof(uint64_t);
    if (!rows_fit(a, num_rows, out_height, out_width))
        return false;
    held->batch = batch_of(a, num_rows);
    held->batch.out_height = out_height;
    held->batch.out_width = out_width;
    held->batch.filter = bicubic ? CODEC_BICUBIC : CODEC_BILINEAR;
    return true;
}

static void release(held_batch *held)
{
    for (int i = 0; i < NUM_ARRAYS; i++)
        PyBuffer_Release(&held->arrays[i]); /* nothing happens to one that was not taken: it is zeros */
    free(held);
}

static held_batch *held_by(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, BATCH);
}

static void release_capsule(PyObject *capsule)
{
    release(held_by(capsule));
}

PyObject *py_batch(PyObject *self, PyObject *arguments)
{
    (void)self;
    held_batch *held = calloc(1, sizeof *held);
    if (!held)
        return PyErr_NoMemory();
    PyObject *capsule = hold(held, arguments) ? PyCapsule_New(held, BATCH, release_capsule) : NULL;
    if (!capsule)
        release(held);
    return capsule;
}

PyObject *py_work(PyObject *self, PyObject *capsule)
{
    (void)self;
    const held_batch *held = held_by(capsule);
    if (!held)
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    codec_batch_work(&held->batch);
    Py_END_ALLOW_THREADS;
    return Py_NewRef(Py_None);
}

PyObject *py_address(PyObject *self, PyObject *capsule)
{
    (void)self;
    const held_batch *held = held_by(capsule);
    return held ? PyLong_FromSize_t((size_t)&held->batch) : NULL;
}

PyObject *py_work_address(PyObject *self, PyObject *nothing)
{
    (void)self;
    (void)nothing;
    return PyLong_FromSize_t((size_t)codec_batch_work);
}
