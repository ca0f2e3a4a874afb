#include "error.h"

#include <stdarg.h>
#include <string.h>

#include <jerror.h>

#define IS_RESTART(marker) ((marker) >= 0xD0 && (marker) <= 0xD7)

static codec_status fill(codec_error *error, codec_status status, const char *format, va_list arguments)
{
    error->status = status;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    return status;
}

codec_status codec_fail(codec_error *error, codec_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(error, status, format, arguments);
    va_end(arguments);
    return status;
}

void guard_fail(struct guard *guard, codec_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(guard->error, status, format, arguments);
    va_end(arguments);
    longjmp(guard->escape, 1);
}

/* libjpeg's fatal errors. */
static void error_exit(j_common_ptr object)
{
    struct guard *guard = (struct guard *)object->err;
    char text[JMSG_LENGTH_MAX];
    if (object->err->msg_code == JERR_OUT_OF_MEMORY)
        guard_fail(guard, CODEC_NO_MEMORY, "no memory");
    if (object->err->msg_code == JERR_NO_BACKING_STORE)
        guard_fail(guard, CODEC_BAD_JPEG, "needs over %ld MiB to decode", object->mem->max_memory_to_use >> 20);
    if (object->err->msg_code == JERR_INPUT_EMPTY || object->err->msg_code == JERR_NO_SOI)
        guard_fail(guard, CODEC_BAD_JPEG, "is no JPEG: it does not begin with FF D8");
    object->err->format_message(object, text);
    guard_fail(guard, CODEC_BAD_JPEG, "is a broken JPEG: %.200s", text);
}

static unsigned decoded_rows(const struct jpeg_decompress_struct *source)
{
    unsigned long rows = (unsigned long)source->input_iMCU_row * source->max_v_samp_factor * DCTSIZE;
    return rows < source->image_height ? (unsigned)rows : source->image_height;
}

static _Noreturn void fail_early_end(struct guard *guard, const struct jpeg_decompress_struct *source)
{
    unsigned rows = decoded_rows(source);
    if (source->input_scan_number > 1 || source->progressive_mode)
        guard_fail(guard, CODEC_BAD_JPEG, "ends early: %u of %u rows of its scan %d decoded", rows,
                   source->image_height, source->input_scan_number);
    guard_fail(guard, CODEC_BAD_JPEG, "ends early: %u of %u rows decoded", rows, source->image_height);
}

/* A warning of a decoder that is not benign. */
static void on_damage(struct guard *guard, struct jpeg_decompress_struct *source)
{
    int code = guard->manager.msg_code;
    if (guard->tolerant) {
        /* The scan is over when it meets any marker but RSTn: in the first row that leaves nothing to show. */
        if (code == JWRN_HIT_MARKER && !IS_RESTART(source->unread_marker) && source->input_scan_number <= 1 &&
            source->input_iMCU_row == 0)
            guard_fail(guard, CODEC_BAD_JPEG, "ends early: 0 of %u rows decoded", source->image_height);
        return;
    }
    if (code == JWRN_HIT_MARKER)
        fail_early_end(guard, source);
    if (code == JWRN_EXTRANEOUS_DATA)
        guard_fail(guard, CODEC_BAD_JPEG,
                   "its entropy-coded data are corrupt: %d bytes are left over after row %u of %u",
                   guard->manager.msg_parm.i[0], decoded_rows(source), source->image_height);
    char text[JMSG_LENGTH_MAX];
    guard->manager.format_message((j_common_ptr)source, text);
    guard_fail(guard, CODEC_BAD_JPEG, "its entropy-coded data are corrupt near row %u of %u: %.160s",
               decoded_rows(source), source->image_height, text);
}

/* Whether the bytes that libjpeg skipped before a marker were none of the picture's: they came before the first scan,
 * or are zeros that pad the end of one. Coded data that are left over are the usual trace of corruption: Huffman codes
 * fall into step again after a wrong bit, but a few blocks too early or too late. */
static bool is_harmless(const struct guard *guard, const struct jpeg_decompress_struct *source)
{
    int count = guard->manager.msg_parm.i[0], marker = guard->manager.msg_parm.i[1];
    const JOCTET *next = source->src->next_input_byte; /* libjpeg's own bytes where the data have ended */
    if (source->input_scan_number == 0)
        return true;
    if (IS_RESTART(marker) || guard->ended || count > next - guard->input)
        return false;
    while (count-- > 0)
        if (*--next)
            return false;
    return true;
}

static void emit_message(j_common_ptr object, int level)
{
    if (level >= 0) /* a trace, not a warning */
        return;
    struct guard *guard = (struct guard *)object->err;
    struct jpeg_decompress_struct *source = (struct jpeg_decompress_struct *)object;
    guard->clean = false;
    if (!object->is_decompressor)
        return;
    switch (object->err->msg_code) {
    case JWRN_JFIF_MAJOR: /* metadata: nothing that is decoded */
    case JWRN_ADOBE_XFORM:
        return;
    case JWRN_JPEG_EOF:
        guard->ended = true;
        return;
    case JWRN_EXTRANEOUS_DATA:
        if (is_harmless(guard, source))
            return;
    }
    on_damage(guard, source);
}

static void output_message(j_common_ptr object)
{
    (void)object; /* libjpeg's own prints to stderr */
}

void guard_init(struct guard *guard, bool tolerant, codec_error *error)
{
    memset(guard, 0, sizeof *guard);
    jpeg_std_error(&guard->manager);
    guard->manager.error_exit = error_exit;
    guard->manager.emit_message = emit_message;
    guard->manager.output_message = output_message;
    guard->error = error;
    guard->tolerant = tolerant;
    guard->clean = true;
    error->status = CODEC_OK;
}

bool guard_run(struct guard *guard, void (*work)(void *task), void *task)
{
    /* The only setjmp: what work changes lives behind `task`, so no local variable can be clobbered. */
    if (setjmp(guard->escape))
        return false;
    work(task);
    return true;
}
