/* The codec as a Python module: arguments in, bytes out, the interpreter's lock released in between. */
#include "binding.h"

#include <stdlib.h>

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
