/* What the two files that know Python share: only its limited API, so that one build serves all versions from 3.11. */
#ifndef CODEC_BINDING_H
#define CODEC_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "codec.h"

PyObject *py_batch(PyObject *self, PyObject *arguments);
PyObject *py_work(PyObject *self, PyObject *capsule);
PyObject *py_address(PyObject *self, PyObject *capsule);
PyObject *py_work_address(PyObject *self, PyObject *nothing);

#endif
