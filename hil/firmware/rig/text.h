/* Text of bounded length: what does not fit is cut off and seen in `cut`, never written past the end. */
#ifndef WARDEN_TEXT_H
#define WARDEN_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct text {
    char *data; /* always ended by a zero */
    size_t size, length;
    bool cut;
} text;

/* Empty text in `data`, `size` bytes and at least one. */
void text_init(text *self, char *data, size_t size);

/* As printf; nothing of it when it does not fit whole. */
__attribute__((format(printf, 2, 3))) void text_add(text *self, const char *format, ...);

/* A JSON string of UTF-8 bytes. */
void text_quote(text *self, const char *string);

#endif
