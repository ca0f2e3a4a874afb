/* The boundary that no libjpeg error crosses: what runs inside `guard_run` either returns or leaves a codec_error. */
#ifndef CODEC_ERROR_H
#define CODEC_ERROR_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>

#include <jpeglib.h>

#include "codec.h"

struct guard {
    struct jpeg_error_mgr manager; /* first: libjpeg hands back a pointer to it */
    jmp_buf escape;
    codec_error *error;
    const uint8_t *input; /* the first byte that is decoded */
    bool tolerant; /* go on after damage, as far as one row can be decoded */
    bool clean;    /* libjpeg had nothing to say */
    bool ended;    /* it read beyond the last byte; alone, that is but a missing end-of-image marker */
};

/* Make `guard` ready to be the `err` of any number of libjpeg objects. */
void guard_init(struct guard *guard, bool tolerant, codec_error *error);

/* Run `work(task)`. False: it failed and the error is filled in; `task` still owns what it made. */
bool guard_run(struct guard *guard, void (*work)(void *task), void *task);

/* Leave `guard_run` with an error; `format` makes one short sentence whose subject is the picture. */
_Noreturn void guard_fail(struct guard *guard, codec_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Fill in an error; returns its status. For code outside of any guard. */
codec_status codec_fail(codec_error *error, codec_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
