/* The codec as a Python module: arguments in, bytes out, the interpreter's lock released in between. The only file that
 * knows Python, and only its limited API, so that one build serves every version from 3.11 on. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>

#include "codec.h"

/* Raise JpegError, which is Python's: it exists where this module was not built. */
static PyObject *raise(const codec_error *error)
{
    if (error->status == CODEC_NO_MEMORY)
        return PyErr_NoMemory();
    PyObject *package = PyImport_ImportModule("datasets_tools.jpeg");
    PyObject *type = package ? PyObject_GetAttrString(package, "JpegError") : NULL;
    if (type)
        PyErr_SetString(type, error->message);
    Py_XDECREF(type);
    Py_XDECREF(package);
    return NULL;
}

static codec_bytes bytes_of(const Py_buffer *buffer)
{
    return (codec_bytes){buffer->buf, (size_t)buffer->len};
}

static PyObject *header_tuple(const codec_header *header)
{
    return Py_BuildValue("(IIIIiOOIIO)", header->height, header->width, header->precision, header->components,
                         (int)header->subsampling, header->progressive ? Py_True : Py_False,
                         header->huffman ? Py_True : Py_False, header->restart_interval, header->orientation,
                         header->complete ? Py_True : Py_False);
}

static PyObject *read_markers(PyObject *arguments, codec_status (*read)(codec_bytes, codec_header *, codec_error *))
{
    Py_buffer jpeg;
    codec_header header;
    codec_error error;
    codec_status status;
    if (!PyArg_ParseTuple(arguments, "y*", &jpeg))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    status = read(bytes_of(&jpeg), &header, &error);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&jpeg);
    return status == CODEC_OK ? header_tuple(&header) : raise(&error);
}

static PyObject *py_inspect(PyObject *self, PyObject *arguments)
{
    (void)self;
    return read_markers(arguments, codec_inspect);
}

static PyObject *py_frame(PyObject *self, PyObject *arguments)
{
    (void)self;
    return read_markers(arguments, codec_frame);
}

static PyObject *py_check(PyObject *self, PyObject *arguments)
{
    (void)self;
    Py_buffer jpeg;
    codec_error error;
    codec_status status;
    bool clean;
    if (!PyArg_ParseTuple(arguments, "y*", &jpeg))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    status = codec_check(bytes_of(&jpeg), &clean, &error);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&jpeg);
    return status == CODEC_OK ? PyBool_FromLong(clean) : raise(&error);
}

/* Make `bytes` of what was written, or raise. */
static PyObject *take(codec_jpeg *jpeg, const codec_error *error)
{
    PyObject *result = error->status == CODEC_OK
                           ? PyBytes_FromStringAndSize((const char *)jpeg->data, (Py_ssize_t)jpeg->size)
                           : raise(error);
    free(jpeg->data);
    return result;
}

static PyObject *py_transcode(PyObject *self, PyObject *arguments)
{
    (void)self;
    Py_buffer jpeg;
    codec_error error;
    codec_jpeg out;
    if (!PyArg_ParseTuple(arguments, "y*", &jpeg))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    codec_transcode(bytes_of(&jpeg), &out, &error);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&jpeg);
    return take(&out, &error);
}

/* Whether a buffer holds height x width x components bytes; raises ValueError if not. */
static bool fits(const Py_buffer *pixels, unsigned height, unsigned width, unsigned components)
{
    if (height && height <= CODEC_MAX_SIDE && width && width <= CODEC_MAX_SIDE &&
        (components == 1 || components == 3) && (uint64_t)pixels->len == (uint64_t)height * width * components)
        return true;
    PyErr_Format(PyExc_ValueError, "%zd bytes are no picture of %u x %u pixels of %u bytes", pixels->len, width, height,
                 components);
    return false;
}

static PyObject *py_decode(PyObject *self, PyObject *arguments)
{
    (void)self;
    Py_buffer jpeg, pixels;
    codec_error error;
    codec_status status = CODEC_OK;
    unsigned height, width, components;
    int tolerant;
    if (!PyArg_ParseTuple(arguments, "y*w*IIIp", &jpeg, &pixels, &height, &width, &components, &tolerant))
        return NULL;
    bool ready = fits(&pixels, height, width, components);
    if (ready) {
        Py_BEGIN_ALLOW_THREADS;
        status = codec_decode(bytes_of(&jpeg), tolerant, pixels.buf, height, width, components, &error);
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&jpeg);
    PyBuffer_Release(&pixels);
    if (!ready)
        return NULL;
    return status == CODEC_OK ? Py_NewRef(Py_None) : raise(&error);
}

static PyObject *py_encode(PyObject *self, PyObject *arguments)
{
    (void)self;
    Py_buffer pixels;
    codec_error error;
    codec_jpeg out = {NULL, 0};
    unsigned height, width, components;
    int quality, subsample;
    if (!PyArg_ParseTuple(arguments, "y*IIIip", &pixels, &height, &width, &components, &quality, &subsample))
        return NULL;
    bool ready = fits(&pixels, height, width, components);
    if (ready) {
        Py_BEGIN_ALLOW_THREADS;
        codec_encode(pixels.buf, height, width, components, quality, subsample, &out, &error);
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&pixels);
    return ready ? take(&out, &error) : NULL;
}

static PyObject *py_resize(PyObject *self, PyObject *arguments)
{
    (void)self;
    Py_buffer pixels, out;
    codec_error error;
    codec_status status = CODEC_OK;
    unsigned height, width, components, out_height, out_width;
    if (!PyArg_ParseTuple(arguments, "y*IIIw*II", &pixels, &height, &width, &components, &out, &out_height, &out_width))
        return NULL;
    bool ready = fits(&pixels, height, width, components) && fits(&out, out_height, out_width, components);
    if (ready && (out_height > height || out_width > width)) {
        PyErr_SetString(PyExc_ValueError, "area resampling only shrinks");
        ready = false;
    }
    if (ready) {
        Py_BEGIN_ALLOW_THREADS;
        status = codec_resize(pixels.buf, height, width, components, out.buf, out_height, out_width, &error);
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&pixels);
    PyBuffer_Release(&out);
    if (!ready)
        return NULL;
    return status == CODEC_OK ? Py_NewRef(Py_None) : raise(&error);
}

#define BATCH "datasets_tools.jpeg._codec.batch"
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

static PyObject *py_batch(PyObject *self, PyObject *arguments)
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

static PyObject *py_work(PyObject *self, PyObject *capsule)
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

static PyObject *py_address(PyObject *self, PyObject *capsule)
{
    (void)self;
    const held_batch *held = held_by(capsule);
    return held ? PyLong_FromSize_t((size_t)&held->batch) : NULL;
}

static PyObject *py_work_address(PyObject *self, PyObject *nothing)
{
    (void)self;
    (void)nothing;
    return PyLong_FromSize_t((size_t)codec_batch_work);
}

static PyMethodDef methods[] = {
    {"inspect", py_inspect, METH_VARARGS, "inspect(jpeg) -> the fields of JpegHeader"},
    {"frame", py_frame, METH_VARARGS, "frame(jpeg) -> the fields of JpegHeader that the frame header holds"},
    {"check", py_check, METH_VARARGS, "check(jpeg) -> bool"},
    {"transcode", py_transcode, METH_VARARGS, "transcode(jpeg) -> bytes"},
    {"decode", py_decode, METH_VARARGS, "decode(jpeg, out, height, width, components, tolerant)"},
    {"encode", py_encode, METH_VARARGS, "encode(pixels, height, width, components, quality, subsample) -> bytes"},
    {"resize", py_resize, METH_VARARGS, "resize(pixels, height, width, components, out, out_height, out_width)"},
    {"batch", py_batch, METH_VARARGS, "batch(data, ...) -> a batch of regions, which holds its arrays"},
    {"work", py_work, METH_O, "work(batch): decode regions of a batch's rows until none is left"},
    {"address", py_address, METH_O, "address(batch) -> int: of its codec_batch, which lives as long"},
    {"work_address", py_work_address, METH_NOARGS, "work_address() -> int: of codec_batch_work"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "datasets_tools.jpeg._codec",
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__codec(void)
{
    return PyModuleDef_Init(&module);
}
